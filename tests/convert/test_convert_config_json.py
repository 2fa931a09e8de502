"""config.json <-> ModelConfig."""

import copy
import dataclasses
import json
import shutil

import pytest

from alpamayo_jax.config import FlowConfig, PrecisionConfig
from alpamayo_jax.convert import read_config, write_config
from alpamayo_jax.presets import PRESETS, preset, with_compressor
from alpamayo_jax.types import InputError


def _edit(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def _put(place, value):
    def change(data):
        *parents, last = place.split(".")
        for key in parents:
            data = data.setdefault(key, {})
        data[last] = value

    return change


def _drop(place):
    def change(data):
        *parents, last = place.split(".")
        for key in parents:
            data = data[key]
        del data[last]

    return change


@pytest.fixture
def directory(tmp_path):
    """A checkpoint directory of the tiny preset, configuration files only."""
    write_config(tmp_path, preset("tiny"))
    return tmp_path


CHANGED = {
    **{name: make for name, make in PRESETS.items()},
    "flow": lambda: preset(
        "tiny",
        flow=FlowConfig(num_inference_steps=5, train_time="uniform", beta_a=2.0, temperature=0.7),
    ),
    "precision": lambda: preset("tiny", precision=PrecisionConfig("bfloat16", "float32", False)),
    "guard": lambda: preset(
        "r1_10b", action=dataclasses.replace(preset("r1_10b").action, low_speed_guard=True)
    ),
    "yaw": lambda: preset(
        "tiny",
        trajectory_tokens=dataclasses.replace(
            preset("tiny").trajectory_tokens, history_predict_yaw=True, tokens_per_history_traj=64
        ),
    ),
    "own_epsilon": lambda: preset(
        "tiny", vision=dataclasses.replace(preset("tiny").vision, layer_norm_eps=1e-5)
    ),
    "tied": lambda: preset(
        "tiny", language=dataclasses.replace(preset("tiny").language, tie_word_embeddings=True)
    ),
    "image_statistics": lambda: preset(
        "tiny", prompt=dataclasses.replace(preset("tiny").prompt, image_mean=(0.4, 0.5, 0.6))
    ),
}


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_read_inverts_write(tmp_path, name):
    config = CHANGED[name]()
    write_config(tmp_path, config)
    again, raw = read_config(tmp_path)
    assert again == config
    write_config(tmp_path, again, raw)
    assert read_config(tmp_path) == (config, raw)


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_write_over_another_configuration(tmp_path, name):
    write_config(tmp_path, preset("r1_10b"))
    _, raw = read_config(tmp_path)
    (tmp_path / "new").mkdir()
    write_config(tmp_path / "new", CHANGED[name](), raw)
    assert read_config(tmp_path / "new")[0] == CHANGED[name]()


def test_released_fields_stay_in_their_places(tmp_path):
    """What the released format can say is said in its own fields."""
    config = preset("r1_5_10b")
    write_config(tmp_path, config)
    raw = read_config(tmp_path)[1]
    assert "alpamayo_jax" not in raw
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]  # a known backbone needs no file
    assert raw["architectures"] == ["Alpamayo1_5"]
    assert raw["model_type"] == "alpamayo1_5"
    assert raw["vocab_size"] == 155_697
    assert raw["tokens_per_history_traj"] == 48
    assert raw["expert_cfg"]["intermediate_size"] == 8256
    assert raw["include_camera_ids"] is True
    assert raw["model_dtype"] == "bfloat16"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_compressor_is_written_only_where_there_is_one(tmp_path, name):
    write_config(tmp_path, preset(name))
    plain = read_config(tmp_path)[1]
    assert not {"scene", "vision"} & set(plain.get("alpamayo_jax", {}))
    there = with_compressor(preset(name), "flex", (7, 1))
    write_config(tmp_path, there, plain)
    again, raw = read_config(tmp_path)
    assert again == there and "triplane" not in raw["alpamayo_jax"]["scene"]
    back = with_compressor(again, "per_image")
    write_config(tmp_path, back, raw)
    assert read_config(tmp_path) == (preset(name), plain)


def test_unknown_fields_are_kept(checkpoint, tmp_path):
    extra = {"a": [1, 2.5, None, {"b": "ü"}], "big": 2**70, "tiny": 1e-300}
    _edit(checkpoint / "config.json", lambda data: data.update(extra, traj_extra=extra))
    _edit(checkpoint / "config.json", _put("diffusion_cfg.x_dims", "???"))
    config, raw = read_config(checkpoint)
    target = tmp_path / "target"
    shutil.copytree(checkpoint, target)
    (target / "config.json").unlink()
    write_config(target, config, raw)
    again, raw_again = read_config(target)
    assert again == config
    assert raw_again == raw and json.dumps(raw_again) == json.dumps(raw)
    backbone = next(p for p in checkpoint.glob("*/config.json"))
    written = target / backbone.relative_to(checkpoint)
    assert json.loads(written.read_text()) == json.loads(backbone.read_text())


def test_only_changed_fields_change(checkpoint):
    config, raw = read_config(checkpoint)
    before = copy.deepcopy(raw)
    changed = dataclasses.replace(
        config, flow=dataclasses.replace(config.flow, num_inference_steps=3)
    )
    write_config(checkpoint, changed, raw)
    again, raw_again = read_config(checkpoint)
    assert again == changed
    assert raw == before  # the caller's dict is left alone
    before["diffusion_cfg"]["num_inference_steps"] = 3
    assert raw_again == before


def test_absent_fields_mean_the_class_defaults(directory):
    path = directory / "config.json"
    for section in ("action_space_cfg", "traj_tokenizer_cfg.action_space_cfg", "action_in_proj_cfg",
                    "hist_traj_tokenizer_cfg", "diffusion_cfg"):  # fmt: skip

        def keep_class(data, section=section):
            for key in section.split("."):
                data = data[key]
            for key in [k for k in data if k != "_target_"]:
                del data[key]

        _edit(path, keep_class)
    _edit(path, _drop("include_camera_ids"))
    config, raw = read_config(directory)
    action = config.action
    assert (action.accel_mean, action.accel_std) == (0.0, 1.0)
    assert action.curvature_bounds == (-0.2, 0.2)
    proj = config.action_proj
    sizes = (proj.hidden_size, proj.num_enc_layers, proj.max_freq, proj.num_fourier_feats)
    assert sizes == (1024, 4, 100.0, 20)
    assert config.trajectory_tokens.num_history_bins == 1000
    assert config.flow.num_inference_steps == 10
    write_config(directory, config, raw)
    assert read_config(directory) == (config, raw)


def test_expert_inherits_from_the_backbone(directory):
    _edit(directory / "config.json", _put("expert_cfg", None))
    config, _ = read_config(directory)
    language = config.language
    assert config.expert == dataclasses.replace(
        config.expert, hidden_size=language.hidden_size, num_heads=language.num_heads,
        intermediate_size=language.intermediate_size,
    )  # fmt: skip


@pytest.mark.parametrize("name, wanted", [
    ("Qwen/Qwen3-VL-2B-Instruct", "qwen3_vl_2b"),
    ("Qwen/Qwen3-VL-4B-Instruct", "qwen3_vl_4b"),
    ("Qwen/Qwen3-VL-8B-Instruct", "r1_10b"),
    ("Qwen/Qwen3-VL-32B-Instruct", "qwen3_vl_32b"),
    ("nvidia/Cosmos-Reason2-8B", "r1_10b"),
])  # fmt: skip
def test_known_backbones(tmp_path, name, wanted):
    write_config(tmp_path, preset("r1_10b"))
    _edit(tmp_path / "config.json", _put("vlm_name_or_path", name))
    config, raw = read_config(tmp_path)
    assert (config.vision, config.language) == (preset(wanted).vision, preset(wanted).language)
    write_config(tmp_path, config, raw)
    assert read_config(tmp_path) == (config, raw)


@pytest.mark.parametrize("outer", [False, True])
def test_backbone_inside_config_json(directory, outer):
    backbone = json.loads((directory / "vlm" / "config.json").read_text())
    shutil.rmtree(directory / "vlm")
    path = directory / "config.json"
    if outer:
        # The outer tie_word_embeddings is a default of the configuration class.
        del backbone["model_type"], backbone["architectures"]
        _edit(path, lambda data: data.update(backbone, tie_word_embeddings=True))
    else:
        _edit(path, _put("vlm_config", backbone))
    config, raw = read_config(directory)
    assert config == preset("tiny")
    language = dataclasses.replace(config.language, rope_theta=1e4, tie_word_embeddings=True)
    changed = dataclasses.replace(config, language=language)
    write_config(directory, changed, raw)
    assert read_config(directory)[0] == changed
    assert not (directory / "vlm").exists()


def test_rotary_settings_of_newer_transformers(directory):
    path = directory / "vlm" / "config.json"

    def modernise(data):
        text = data["text_config"]
        text["rope_parameters"] = text.pop("rope_scaling") | {"rope_theta": text.pop("rope_theta")}

    _edit(path, modernise)
    config, raw = read_config(directory)
    assert config == preset("tiny")
    changed = dataclasses.replace(
        config, language=dataclasses.replace(config.language, rope_theta=123.0)
    )
    write_config(directory, changed, raw)
    text = json.loads(path.read_text())["text_config"]
    assert text["rope_parameters"]["rope_theta"] == 123.0 and "rope_theta" not in text


def test_token_ids_from_the_tokenizer(directory):
    path = directory / "vlm" / "config.json"
    for place in ("text_config.pad_token_id", "vision_start_token_id"):
        _edit(path, _drop(place))
    tokens = {
        "pad_token": {"content": "<|endoftext|>"},
        "added_tokens_decoder": {
            "7": {"content": "<|endoftext|>"},
            "9": {"content": "<|vision_start|>"},
        },
    }
    (directory / "vlm" / "tokenizer_config.json").write_text(json.dumps(tokens))
    ids = read_config(directory)[0].text_tokens
    assert (ids.pad_token_id, ids.vision_start_token_id) == (7, 9)


def test_image_statistics_from_the_processor(directory):
    (directory / "vlm" / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3]}')
    prompt = read_config(directory)[0].prompt
    assert prompt.image_mean == (0.1, 0.2, 0.3) and prompt.image_std == (0.5, 0.5, 0.5)


MODEL, BACKBONE = "config.json", "vlm/config.json"
WRONG = {
    "another_model": (MODEL, _put("model_type", "llama"), "model_type is 'llama'"),
    "no_model_type": (MODEL, _drop("model_type"), "model_type is nothing"),
    "next_release": (MODEL, _put("model_type", "alpamayo2_super"), "alpamayo_r1 or alpamayo1_5"),
    "quantised": (MODEL, _put("quantization_config", {"bits": 4}), "quantization_config"),
    "missing_size": (MODEL, _drop("vocab_size"), "vocab_size is nothing, expected an integer"),
    "null_size": (MODEL, _put("traj_vocab_size", None), "traj_vocab_size"),
    "text_for_number": (MODEL, _put("vocab_size", "4540"), "vocab_size is '4540'"),
    "bool_for_number": (MODEL, _put("vocab_size", True), "vocab_size is True"),
    "float_for_integer": (MODEL, _put("min_pixels", 4096.0), "min_pixels"),
    "zero_size": (MODEL, _put("action_in_proj_cfg.hidden_size", 0), "above zero"),
    "nan": (MODEL, _put("action_space_cfg.accel_mean", float("nan")), "accel_mean"),
    "zero_deviation": (MODEL, _put("action_space_cfg.accel_std", 0.0), "above zero"),
    "short_list": (MODEL, _put("traj_tokenizer_cfg.dims_min", [-10]), "2 finite numbers"),
    "number_for_flag": (MODEL, _put("include_camera_ids", 1), "true or false"),
    "no_bins": (MODEL, _drop("traj_tokenizer_cfg.num_bins"), "traj_tokenizer_cfg.num_bins"),
    "class": (MODEL, _put("diffusion_cfg._target_", "x.DDPM"), "_target_ is 'x.DDPM'"),
    "no_class": (MODEL, _drop("action_space_cfg._target_"), "UnicycleAccelCurvatureActionSpace"),
    "not_a_section": (MODEL, _put("action_in_proj_cfg", 3), "action_in_proj_cfg is 3"),
    "two_action_spaces": (
        MODEL, _put("traj_tokenizer_cfg.action_space_cfg.accel_std", 0.7), "as elsewhere"),
    "expert_layers": (MODEL, _put("expert_cfg.num_hidden_layers", 3), "num_hidden_layers is 3"),
    "integrator": (MODEL, _put("diffusion_cfg.int_method", "heun"), "the only one implemented"),
    "few_special_tokens": (MODEL, _put("add_special_tokens", False), "add_special_tokens is False"),
    "causal_expert": (
        MODEL, _put("expert_non_causal_attention", False), "expert_non_causal_attention"),
    "backend": (MODEL, _put("vlm_backend", "llava"), "vlm_backend"),
    "dtype": (MODEL, _put("model_dtype", "int8"), "model_dtype is 'int8'"),
    "history": (MODEL, _put("tokens_per_history_traj", 47), "multiple of 3"),
    "future": (MODEL, _put("tokens_per_future_traj", 100), "tokens_per_future_traj"),
    "pixels": (MODEL, _put("min_pixels", 10**9), "min_pixels"),
    "bins": (MODEL, _put("hist_traj_tokenizer_cfg.num_bins", 2000), "traj_vocab_size"),
    "vocabulary": (MODEL, _put("vocab_size", 4000), "vocab_size is 4000"),
    "special_id": (MODEL, _put("traj_token_ids", {"history": 3}), "traj_token_ids.history is 3"),
    "own_section": (MODEL, _put("alpamayo_jax", {"flow": {"steps": 3}}), "flow.steps"),
    "own_section_type": (MODEL, _put("alpamayo_jax", [1]), "must be a mapping"),
    "unknown_backbone": (MODEL, _put("vlm_name_or_path", "org/Other-VL"), "org/Other-VL"),
    "backbone_outside": (MODEL, _put("vlm_name_or_path", "../vlm"), "vlm_name_or_path is '../vlm'"),
    "backbone_absolute": (MODEL, _put("vlm_name_or_path", "/vlm"), "vlm_name_or_path is '/vlm'"),
    "backbone_list": (MODEL, _put("vlm_name_or_path", ["vlm"]), "vlm_name_or_path"),
    "backbone_model": (BACKBONE, _put("model_type", "qwen2_5_vl"), "expected 'qwen3_vl'"),
    "backbone_size": (BACKBONE, _drop("text_config.hidden_size"), "text_config.hidden_size"),
    "backbone_section": (BACKBONE, _drop("vision_config"), "vision_config"),
    "backbone_section_type": (BACKBONE, _put("vision_config", []), "vision_config is"),
    "backbone_ids": (BACKBONE, _drop("image_token_id"), "image_token_id is nothing"),
    "backbone_pad": (BACKBONE, _drop("text_config.pad_token_id"), "pad_token_id is nothing"),
    "activation": (BACKBONE, _put("text_config.hidden_act", "gelu"), "hidden_act is 'gelu'"),
    "rotary": (BACKBONE, _put("text_config.rope_scaling.rope_type", "yarn"), "rope_type is 'yarn'"),
    "sections": (BACKBONE, _put("text_config.rope_scaling.mrope_section", [1, 2]), "3 integers"),
    "section_sum": (
        BACKBONE, _put("text_config.rope_scaling.mrope_section", [1, 2, 3]), "mrope_section"),
    "widths": (BACKBONE, _put("vision_config.out_hidden_size", 60), "out_hidden_size"),
    "taps": (BACKBONE, _put("vision_config.deepstack_visual_indexes", [9]), "deepstack"),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_wrong_fields_are_named(directory, kind):
    file, change, message = WRONG[kind]
    _edit(directory / file, change)
    with pytest.raises(InputError) as error:
        read_config(directory)
    assert message in str(error.value)
    assert "config.json" in str(error.value)


@pytest.mark.parametrize("content, message", [
    ("", "not valid JSON"), ('{"model_type": "alp', "not valid JSON"), ("[]", "JSON object"),
    ("\xff", "config.json"),
])  # fmt: skip
@pytest.mark.parametrize("file", [MODEL, BACKBONE])
def test_broken_files_are_named(directory, file, content, message):
    (directory / file).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=message) as error:
        read_config(directory)
    assert file in str(error.value)


def test_absent_files_are_named(directory, tmp_path):
    shutil.rmtree(directory / "vlm")
    with pytest.raises(InputError, match="vlm_name_or_path is 'vlm'"):
        read_config(directory)
    (directory / "config.json").unlink()
    with pytest.raises(InputError, match="cannot read .*config.json"):
        read_config(directory)
    with pytest.raises(InputError, match="nowhere does not exist"):
        read_config(tmp_path / "nowhere")


def test_a_failed_write_leaves_the_old_file(directory, monkeypatch):
    before = (directory / "config.json").read_bytes()
    _, raw = read_config(directory)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_config(directory, preset("tiny", flow=FlowConfig(num_inference_steps=2)), raw)
    assert (directory / "config.json").read_bytes() == before
    assert not list(directory.rglob(".*"))
