import dataclasses
import json

from absl.testing import parameterized
import pytest

from alpamayo_jax import config as config_lib
from alpamayo_jax.config import (
    ActionProjConfig,
    ConfigError,
    ExpertConfig,
    FlowConfig,
    LanguageConfig,
    ModelConfig,
    PrecisionConfig,
    PromptConfig,
    TrajectoryTokenConfig,
    VisionConfig,
)
from alpamayo_jax.presets import PRESETS, preset


class RoundTripTest(parameterized.TestCase):
    @parameterized.parameters(*sorted(PRESETS))
    def test_dict(self, name):
        config = preset(name)
        assert ModelConfig.from_dict(config.to_dict()) == config

    @parameterized.parameters(*sorted(PRESETS))
    def test_json(self, name):
        # JSON turns tuples into lists and whole floats may come back as integers.
        config = preset(name)
        values = json.loads(json.dumps(config.to_dict()))
        values["language"]["rope_theta"] = int(values["language"]["rope_theta"])
        loaded = ModelConfig.from_dict(values)
        assert loaded == config and hash(loaded) == hash(config)
        assert isinstance(loaded.language.rope_theta, float)
        assert isinstance(loaded.vision.deepstack_visual_indexes, tuple)

    def test_what_is_not_given_keeps_its_default(self):
        config = ModelConfig.from_dict({"flow": {"num_inference_steps": 4}})
        assert config == ModelConfig(flow=FlowConfig(num_inference_steps=4))

    def test_a_section_may_be_built_already(self):
        flow = FlowConfig(temperature=0.5)
        assert ModelConfig.from_dict({"flow": flow}).flow is flow


class BadValuesTest(parameterized.TestCase):
    @parameterized.parameters(
        ({"visoin": {}}, "visoin"),
        ({"vision": {"depht": 3}}, r"vision\.depht"),
        ({"trajectory_tokens": {"bins": 3}}, r"trajectory_tokens\.bins"),
        ({"flow": {"a": 1, "b": 2}}, r"flow\.a, flow\.b"),
    )
    def test_an_unknown_key_is_named_with_its_path(self, values, name):
        with pytest.raises(ConfigError, match=f"unknown configuration.*{name};"):
            ModelConfig.from_dict(values)

    def test_the_message_says_what_is_known(self):
        with pytest.raises(ConfigError, match="FlowConfig has .*num_inference_steps"):
            ModelConfig.from_dict({"flow": {"steps": 1}})

    @parameterized.parameters(
        ({"vision": {"depth": "27"}}, r"vision\.depth must be int, got '27'"),
        ({"vision": {"depth": 27.0}}, r"vision\.depth must be int, got 27\.0"),
        ({"vision": {"depth": True}}, r"vision\.depth must be int, got True"),
        ({"vision": {"depth": None}}, r"vision\.depth must be int, got None"),
        ({"flow": {"beta_a": "big"}}, r"flow\.beta_a must be float"),
        ({"flow": {"beta_a": True}}, r"flow\.beta_a must be float"),
        ({"action": {"low_speed_guard": 1}}, r"action\.low_speed_guard must be bool"),
        ({"release": 1}, "release must be str"),
        ({"language": {"mrope_section": 24}}, r"language\.mrope_section must be a list"),
        ({"language": {"mrope_section": [32, 32]}}, r"mrope_section must have 3 entries"),
        ({"language": {"mrope_section": [24, 20, 2.5]}}, r"mrope_section must be int"),
        ({"vision": {"deepstack_visual_indexes": ["8"]}}, r"deepstack_visual_indexes must be int"),
        ({"vision": 3}, r"vision\.? must be a mapping, got int"),
    )
    def test_a_wrong_type_is_named(self, values, message):
        with pytest.raises(ConfigError, match=message):
            ModelConfig.from_dict(values)

    def test_the_whole_must_be_a_mapping(self):
        with pytest.raises(ConfigError, match="ModelConfig must be a mapping, got list"):
            ModelConfig.from_dict([])

    @parameterized.parameters(
        (VisionConfig, dict(num_heads=7), "hidden_size"),
        (VisionConfig, dict(num_position_embeddings=2303), "not a square"),
        (VisionConfig, dict(deepstack_visual_indexes=(8, 8)), "must rise"),
        (VisionConfig, dict(deepstack_visual_indexes=(16, 8)), "must rise"),
        (VisionConfig, dict(deepstack_visual_indexes=(27,)), r"\[0, 27\)"),
        (VisionConfig, dict(deepstack_visual_indexes=(-1, 3)), r"\[0, 27\)"),
        (LanguageConfig, dict(num_heads=12), "multiple of num_kv_heads"),
        (LanguageConfig, dict(head_dim=127), "head_dim"),
        (LanguageConfig, dict(mrope_section=(24, 20, 21)), "sum to head_dim / 2 = 64"),
        (FlowConfig, dict(train_time="normal"), "train_time"),
        (FlowConfig, dict(num_inference_steps=0), "num_inference_steps"),
        (PromptConfig, dict(min_pixels=5, max_pixels=4), "min_pixels"),
        (PromptConfig, dict(min_pixels=0), "min_pixels"),
        (VisionConfig, dict(compressor="magic"), "per_image"),
        (PrecisionConfig, dict(params="int8"), "int8"),
        (PrecisionConfig, dict(compute="float64"), "float64"),
        (ModelConfig, dict(release="alpamayo9"), "alpamayo_r1, alpamayo1_5"),
        (ModelConfig, dict(vision=VisionConfig(out_hidden_size=64)), "out_hidden_size"),
        (ModelConfig, dict(expert=ExpertConfig(num_heads=12)), "expert"),
        (ModelConfig, dict(language=LanguageConfig(num_layers=2)), "deepstack"),
        (
            ModelConfig,
            dict(trajectory_tokens=TrajectoryTokenConfig(tokens_per_future_traj=64)),
            "tokens_per_future_traj",
        ),
    )
    def test_contradictions_are_refused(self, cls, values, message):
        with pytest.raises(ConfigError, match=message):
            cls(**values)

    def test_a_contradiction_is_refused_when_built_from_a_dict(self):
        values = preset("tiny").to_dict()
        values["language"]["num_kv_heads"] = 3
        with pytest.raises(ConfigError, match="num_kv_heads 3"):
            ModelConfig.from_dict(values)

    def test_config_errors_are_value_errors(self):
        assert issubclass(ConfigError, ValueError)


class StaticTest(parameterized.TestCase):
    def test_equal_configurations_hash_alike(self):
        assert hash(preset("tiny")) == hash(preset("tiny")) != hash(preset("r1_10b"))

    def test_nothing_can_be_set(self):
        for section in (preset("tiny"), preset("tiny").vision):
            field = dataclasses.fields(section)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(section, field, getattr(section, field))

    def test_every_section_is_frozen_and_known_to_the_model(self):
        sections = {
            cls
            for name, cls in vars(config_lib).items()
            if dataclasses.is_dataclass(cls) and name != "ModelConfig"
        }
        assert all(cls.__dataclass_params__.frozen for cls in sections)
        model = preset("tiny")
        parts = [model, model.scene]
        assert sections == {type(getattr(part, f.name)) for part in parts
                            for f in dataclasses.fields(part)} - {str, int, tuple}  # fmt: skip

    def test_derived_sizes(self):
        vision = VisionConfig()
        assert (vision.head_dim, vision.patch_dim) == (72, 1536)
        assert (vision.merge_unit, vision.position_grid) == (4, 48)
        tokens = TrajectoryTokenConfig()
        assert (tokens.history_start_idx, tokens.traj_token_end_idx) == (154_669, 155_669)
        assert ActionProjConfig().num_fourier_feats == 20


class OptionalTest(parameterized.TestCase):
    @dataclasses.dataclass(frozen=True)
    class Sample:
        name: str
        size: int | None = None

    def test_none_or_a_value(self):
        build = lambda **values: config_lib.build(self.Sample, {"name": "a"} | values)  # noqa: E731
        assert build(size=None).size is None and build(size=3).size == 3
        with pytest.raises(ConfigError, match="size must be int"):
            build(size="3")
