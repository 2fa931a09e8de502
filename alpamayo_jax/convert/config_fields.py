"""The fields of a released config.json, as data: where each stands and what it is called here.

The same tables are used to read and to write. A JSON place is a dotted path; of several places the
first that is present counts.
"""

import dataclasses
import math
from typing import Any

REQUIRED = object()


@dataclasses.dataclass(frozen=True)
class Inherit:
    """Default: the value of another of our fields."""

    ours: str


@dataclasses.dataclass(frozen=True)
class Field:
    """One value.

    Attributes:
      ours: dotted path in `ModelConfig`.
      kind: "int", "float", "bool", "str", "ints" or "floats".
      places: dotted JSON paths.
      default: what the release takes when the field is absent or null; REQUIRED is an error,
        `Inherit` another field's value.
      length: of "ints" and "floats"; None is any.
      positive: whether a number must be above zero (sizes and scales).
      quiet: never added to a file that does not have it.
    """

    ours: str
    kind: str
    places: tuple[str, ...]
    default: Any = REQUIRED
    length: int | None = None
    positive: bool = False
    quiet: bool = False


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A released field of which only one value is implemented; absent means that value."""

    place: str
    value: Any
    required: bool = False


def _size(ours: str, place: str, default: Any = REQUIRED) -> Field:
    return Field(ours, "int", (place,), default, positive=True)


def _same(section: str, ours: str, kind: str, names: str, **kwargs) -> tuple[Field, ...]:
    """Fields that have the same name on both sides."""
    return tuple(Field(f"{ours}.{n}", kind, (f"{section}.{n}",), **kwargs) for n in names.split())


def _action_space(section: str) -> tuple[Field, ...]:
    return (
        *_same(section, "action", "float", "accel_mean curvature_mean", default=0.0),
        *_same(section, "action", "float", "accel_std curvature_std", default=1.0, positive=True),
        *_same(section, "action", "floats", "accel_bounds", default=(-9.8, 9.8), length=2),
        *_same(section, "action", "floats", "curvature_bounds", default=(-0.2, 0.2), length=2),
        *_same(section, "action", "float", "dt", default=0.1, positive=True),
        *_same(section, "action", "int", "n_waypoints", default=64, positive=True),
        *_same(section, "action", "float", "theta_lambda v_lambda", default=1e-6),
        *_same(section, "action", "float", "theta_ridge", default=1e-8),
        *_same(section, "action", "float", "v_ridge a_lambda a_ridge kappa_lambda kappa_ridge",
               default=1e-4),
    )  # fmt: skip


_TOKENS = "trajectory_tokens"

MODEL_FIELDS = (
    Field("release", "str", ("model_type",)),
    Field("precision.params", "str", ("model_dtype",)),
    _size("language.vocab_size", "vocab_size"),
    _size(f"{_TOKENS}.traj_vocab_size", "traj_vocab_size"),
    _size(f"{_TOKENS}.traj_token_start_idx", "traj_token_start_idx"),
    _size(f"{_TOKENS}.tokens_per_future_traj", "tokens_per_future_traj"),
    _size("prompt.min_pixels", "min_pixels"),
    _size("prompt.max_pixels", "max_pixels"),
    Field("prompt.include_camera_ids", "bool", ("include_camera_ids",), False),
    Field("prompt.include_frame_nums", "bool", ("include_frame_nums",), False),
    Field(f"{_TOKENS}.future_min", "floats", ("traj_tokenizer_cfg.dims_min",), length=2),
    Field(f"{_TOKENS}.future_max", "floats", ("traj_tokenizer_cfg.dims_max",), length=2),
    _size(f"{_TOKENS}.num_future_bins", "traj_tokenizer_cfg.num_bins"),
    Field(f"{_TOKENS}.history_min", "floats", ("hist_traj_tokenizer_cfg.ego_xyz_min",),
          (-4.0, -4.0, -10.0), 3),
    Field(f"{_TOKENS}.history_max", "floats", ("hist_traj_tokenizer_cfg.ego_xyz_max",),
          (4.0, 4.0, 10.0), 3),
    _size(f"{_TOKENS}.num_history_bins", "hist_traj_tokenizer_cfg.num_bins", 1000),
    Field(f"{_TOKENS}.history_predict_yaw", "bool", ("hist_traj_tokenizer_cfg.predict_yaw",),
          False),
    # The discrete tokenizer brings its own action space; the two must be the same one.
    *_action_space("action_space_cfg"),
    *_action_space("traj_tokenizer_cfg.action_space_cfg"),
    _size("action_proj.hidden_size", "action_in_proj_cfg.hidden_size", 1024),
    _size("action_proj.num_enc_layers", "action_in_proj_cfg.num_enc_layers", 4),
    Field("action_proj.max_freq", "float", ("action_in_proj_cfg.max_freq",), 100.0, positive=True),
    _size("action_proj.num_fourier_feats", "action_in_proj_cfg.num_fourier_feats", 20),
    _size("flow.num_inference_steps", "diffusion_cfg.num_inference_steps", 10),
    # Not every release of the class takes this argument.
    Field("flow.train_time", "str", ("diffusion_cfg.train_timestep_sampler",), "beta", quiet=True),
    _size("expert.hidden_size", "expert_cfg.hidden_size", Inherit("language.hidden_size")),
    _size("expert.num_heads", "expert_cfg.num_attention_heads", Inherit("language.num_heads")),
    _size("expert.intermediate_size", "expert_cfg.intermediate_size",
          Inherit("language.intermediate_size")),
    # The expert reads the language model's cache, so these must be the language model's.
    *(
        Field(f"language.{ours}", kind, (f"expert_cfg.{name}",), Inherit(f"language.{ours}"),
              quiet=True)
        for ours, kind, name in (
            ("num_layers", "int", "num_hidden_layers"),
            ("num_kv_heads", "int", "num_key_value_heads"),
            ("head_dim", "int", "head_dim"),
            ("rms_norm_eps", "float", "rms_norm_eps"),
            ("rope_theta", "float", "rope_theta"),
        )
    ),
)  # fmt: skip

HISTORY_TOKENS = _size(f"{_TOKENS}.tokens_per_history_traj", "tokens_per_history_traj")

MODEL_FIXED = (
    Fixed("vlm_backend", "qwenvl3"),
    Fixed("add_special_tokens", True, required=True),  # without, the vocabulary is another one
    Fixed("expert_non_causal_attention", True),
    Fixed("diffusion_cfg.int_method", "euler"),
    Fixed("hist_traj_tokenizer_cfg.ego_yaw_min", -math.pi),
    Fixed("hist_traj_tokenizer_cfg.ego_yaw_max", math.pi),
)

# Sections that name a class; only the class counts, not the package that it comes from.
TARGETS = {
    "action_space_cfg": "action_space.UnicycleAccelCurvatureActionSpace",
    "traj_tokenizer_cfg": "action_space.DiscreteTrajectoryTokenizer",
    "traj_tokenizer_cfg.action_space_cfg": "action_space.UnicycleAccelCurvatureActionSpace",
    "hist_traj_tokenizer_cfg": "models.delta_tokenizer.DeltaTrajectoryTokenizer",
    "diffusion_cfg": "diffusion.flow_matching.FlowMatching",
    "action_in_proj_cfg": "models.action_in_proj.PerWaypointActionInProjV2",
    "action_out_proj_cfg": "torch.nn.Linear",
}

ARCHITECTURES = {"alpamayo_r1": "AlpamayoR1", "alpamayo1_5": "Alpamayo1_5"}

_TEXT, _VISION = "text_config", "vision_config"

VLM_FIELDS = (
    _size("language.hidden_size", f"{_TEXT}.hidden_size"),
    _size("language.num_layers", f"{_TEXT}.num_hidden_layers"),
    _size("language.num_heads", f"{_TEXT}.num_attention_heads"),
    _size("language.num_kv_heads", f"{_TEXT}.num_key_value_heads"),
    _size("language.head_dim", f"{_TEXT}.head_dim"),
    _size("language.intermediate_size", f"{_TEXT}.intermediate_size"),
    Field("language.rms_norm_eps", "float", (f"{_TEXT}.rms_norm_eps",), positive=True),
    # transformers 5 moved the rotary settings into rope_parameters.
    Field("language.rope_theta", "float",
          (f"{_TEXT}.rope_theta", f"{_TEXT}.rope_parameters.rope_theta"), positive=True),
    Field("language.mrope_section", "ints",
          (f"{_TEXT}.rope_scaling.mrope_section", f"{_TEXT}.rope_parameters.mrope_section"),
          length=3),
    *_same(_VISION, "vision", "int",
           "depth hidden_size num_heads intermediate_size out_hidden_size patch_size "
           "temporal_patch_size spatial_merge_size in_channels num_position_embeddings",
           positive=True),
    *_same(_VISION, "vision", "ints", "deepstack_visual_indexes"),
)  # fmt: skip

TIED = Field("language.tie_word_embeddings", "bool",
             ("tie_word_embeddings", f"{_TEXT}.tie_word_embeddings"), False)  # fmt: skip

TIED_INSIDE = Field(TIED.ours, TIED.kind, TIED.places[1:], TIED.default)

VLM_TYPE = Fixed("model_type", "qwen3_vl", required=True)

VLM_FIXED = (
    Fixed(f"{_TEXT}.hidden_act", "silu"),
    Fixed(f"{_TEXT}.attention_bias", False),
    Fixed(f"{_TEXT}.rope_scaling.rope_type", "default"),
    Fixed(f"{_TEXT}.rope_scaling.mrope_interleaved", True),
    Fixed(f"{_TEXT}.rope_parameters.rope_type", "default"),
    Fixed(f"{_TEXT}.rope_parameters.mrope_interleaved", True),
    Fixed(f"{_VISION}.hidden_act", "gelu_pytorch_tanh"),
)

# Ids that the model refers to: the place in the backbone's config.json, and the token's name, or
# the tokenizer_config.json field that names it.
TEXT_TOKENS = (
    (Field("text_tokens.pad_token_id", "int", (f"{_TEXT}.pad_token_id", "pad_token_id")),
     "pad_token"),
    (Field("text_tokens.eos_token_id", "int", (f"{_TEXT}.eos_token_id", "eos_token_id")),
     "eos_token"),
    (Field("text_tokens.vision_start_token_id", "int", ("vision_start_token_id",)),
     "<|vision_start|>"),
    (Field("text_tokens.vision_end_token_id", "int", ("vision_end_token_id",)), "<|vision_end|>"),
    (Field("text_tokens.image_token_id", "int", ("image_token_id",)), "<|image_pad|>"),
)  # fmt: skip

IMAGE_FIELDS = (
    Field("prompt.image_mean", "floats", ("image_mean",), (0.5, 0.5, 0.5), 3),
    Field("prompt.image_std", "floats", ("image_std",), (0.5, 0.5, 0.5), 3),
)

# Backbones whose sizes are known without their files.
HUB_PRESETS = {
    "Qwen/Qwen3-VL-2B-Instruct": "qwen3_vl_2b",
    "Qwen/Qwen3-VL-4B-Instruct": "qwen3_vl_4b",
    "Qwen/Qwen3-VL-8B-Instruct": "qwen3_vl_8b",
    "Qwen/Qwen3-VL-32B-Instruct": "qwen3_vl_32b",
    "nvidia/Cosmos-Reason2-8B": "qwen3_vl_8b",
}
