import dataclasses

from absl.testing import parameterized
import pytest

from alpamayo_jax.config import ConfigError, FlexConfig, FlowConfig, SceneConfig
from alpamayo_jax.presets import PRESETS, preset, with_compressor
from alpamayo_jax.tokens.vocabulary import SPECIAL_NAMES, special_token_id

_BACKBONES = tuple(name for name in sorted(PRESETS) if name.startswith("qwen3_vl"))


class PresetsTest(parameterized.TestCase):
    def test_names(self):
        released = {"r1_10b", "r1_5_10b"}
        backbones = {f"qwen3_vl_{size}" for size in ("2b", "4b", "8b", "32b")}
        assert set(PRESETS) == released | backbones | {"paper_0p5b", "moderate", "tiny", "micro"}

    def test_an_unknown_name_is_refused(self):
        with pytest.raises(ConfigError, match="'huge'.*r1_10b.*tiny"):
            preset("huge")

    def test_sections_are_replaced(self):
        flow = FlowConfig(num_inference_steps=3)
        assert preset("tiny", flow=flow).flow == flow
        assert preset("tiny", flow=flow).vision == preset("tiny").vision
        assert preset("tiny").flow != flow

    def test_the_releases_differ_in_their_prompt_alone(self):
        first, later = (preset(name).to_dict() for name in ("r1_10b", "r1_5_10b"))
        assert (first.pop("release"), later.pop("release")) == ("alpamayo_r1", "alpamayo1_5")
        prompts = first.pop("prompt"), later.pop("prompt")
        assert first == later
        changed = {key for key in prompts[0] if prompts[0][key] != prompts[1][key]}
        assert changed == {"include_camera_ids", "include_frame_nums"}

    @parameterized.parameters("r1_10b", "r1_5_10b")
    def test_facts_of_the_release(self, name):
        config = preset(name)
        language, expert, action = config.language, config.expert, config.action
        assert (language.num_layers, language.num_heads, language.num_kv_heads) == (36, 32, 8)
        assert (language.hidden_size, language.head_dim) == (4096, 128)
        assert language.vocab_size == 155_697
        assert (expert.hidden_size, expert.num_heads, expert.intermediate_size) == (2048, 16, 8256)
        assert (action.n_waypoints, action.dt) == (64, 0.1)
        assert config.precision.params == config.precision.compute == "bfloat16"
        assert config.precision.bf16_buffers
        assert config.flow.num_inference_steps == 10
        assert special_token_id(config, "traj_future_start") == 155_681
        assert special_token_id(config, "answer_end") == 155_696 == language.vocab_size - 1

    def test_cache_of_the_release_per_token(self):
        language = preset("r1_10b").language
        values = 2 * language.num_layers * language.num_kv_heads * language.head_dim
        assert 2 * values == 147_456  # bytes in bfloat16

    @parameterized.parameters(
        ("qwen3_vl_2b", 2048, 28, 16, 24, True),
        ("qwen3_vl_4b", 2560, 36, 32, 24, True),
        ("qwen3_vl_8b", 4096, 36, 32, 27, False),
        ("qwen3_vl_32b", 5120, 64, 64, 27, False),
    )
    def test_backbones(self, name, width, layers, heads, depth, tied):
        config = preset(name)
        assert config.language.hidden_size == config.vision.out_hidden_size == width
        assert (config.language.num_layers, config.language.num_heads) == (layers, heads)
        assert config.language.tie_word_embeddings == tied
        assert config.vision.depth == depth
        assert (config.language.num_kv_heads, config.language.head_dim) == (8, 128)

    def test_tiny_has_room_for_its_tokens(self):
        config = preset("tiny")
        tokens = config.trajectory_tokens
        assert tokens.traj_token_end_idx + len(SPECIAL_NAMES) == config.language.vocab_size
        assert config.text_tokens.image_token_id < tokens.traj_token_start_idx
        assert config.precision.params == "float32" and not config.precision.bf16_buffers

    @parameterized.parameters(*sorted(PRESETS))
    def test_every_preset_has_a_consistent_vocabulary(self, name):
        config = preset(name)
        assert special_token_id(config, SPECIAL_NAMES[-1]) < config.language.vocab_size


def test_another_compressor_by_one_word():
    for name in ("triplane", "flex", "per_image"):
        config = with_compressor(preset("tiny"), name)
        assert config.vision.compressor == name
        assert config.language == preset("tiny").language
    assert with_compressor(preset("r1_10b"), "flex", (64,)).tokens_per_step == 64
    half = with_compressor(preset("r1_10b"), "triplane", (4, 6, 6, 1))
    assert half.tokens_per_step == 416
    assert with_compressor(half) == half
    assert with_compressor(preset("tiny"), "flex", (5, 1)).scene.flex.prefix


def test_sizes_of_a_compressor_that_is_gone_are_forgotten():
    tiny = preset("tiny")
    small = with_compressor(tiny, "flex", (5,))
    assert small.scene.flex.hidden_size < FlexConfig().hidden_size  # small policies, small encoders
    assert with_compressor(small, "flex").scene.flex == small.scene.flex
    assert with_compressor(small, "per_image") == tiny
    assert with_compressor(small, "triplane").scene.flex == FlexConfig()
    # Sizes that somebody chose beforehand stay.
    chosen = dataclasses.replace(tiny, scene=SceneConfig(flex=FlexConfig(depth=3)))
    assert with_compressor(chosen, "flex", (7,)).scene.flex == FlexConfig(depth=3, tokens_per_step=7)


@pytest.mark.parametrize(
    "compressor, size, message",
    [
        ("flex", (12, 2), "no size of the compressor 'flex'"),
        ("flex", (1, 1, 1, 0), "no size of the compressor 'flex'"),
        ("per_image", (3,), "no size of the compressor 'per_image'"),
        ("triplane", (3, 4, 3, 2), "no size of the compressor 'triplane'"),
        ("triplane", (5, 4, 3, 1), "does not divide"),
        ("magic", (), "unknown"),
    ],
)
def test_sizes_that_a_compressor_does_not_have_are_refused(compressor, size, message):
    with pytest.raises(ConfigError, match=message):
        with_compressor(preset("tiny"), compressor, size)
