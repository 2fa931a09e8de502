"""Named model configurations: the released policies, the Qwen3-VL backbones, and small ones."""

import dataclasses
from typing import Any, Sequence

from alpamayo_jax.config import (
    ActionProjConfig,
    ConfigError,
    ExpertConfig,
    FlexConfig,
    LanguageConfig,
    ModelConfig,
    PrecisionConfig,
    PromptConfig,
    TextTokenConfig,
    TrajectoryTokenConfig,
    TriplaneConfig,
    VisionConfig,
)

_BF16 = PrecisionConfig(params="bfloat16", compute="bfloat16", bf16_buffers=True)
_SMALL_VISION = dict(
    depth=24, hidden_size=1024, intermediate_size=4096, deepstack_visual_indexes=(5, 11, 17)
)


def _backbone(vision: VisionConfig, **language) -> ModelConfig:
    return ModelConfig(
        vision=vision,
        language=LanguageConfig(hidden_size=vision.out_hidden_size, **language),
        precision=_BF16,
    )


def _tiny() -> ModelConfig:
    """Trains on two CPU cores in minutes; the tokenizer is built by `tokens.tokenizer`."""
    num_text_ids, traj_vocab_size, num_special = 512, 4000, 28
    return ModelConfig(
        vision=VisionConfig(
            depth=2,
            hidden_size=64,
            num_heads=2,
            intermediate_size=128,
            out_hidden_size=128,
            num_position_embeddings=256,
            deepstack_visual_indexes=(0,),
        ),
        language=LanguageConfig(
            vocab_size=num_text_ids + traj_vocab_size + num_special,
            hidden_size=128,
            num_layers=4,
            num_heads=4,
            num_kv_heads=2,
            head_dim=32,
            intermediate_size=256,
            mrope_section=(6, 5, 5),
        ),
        expert=ExpertConfig(hidden_size=96, num_heads=4, intermediate_size=192),
        action_proj=ActionProjConfig(hidden_size=64),
        trajectory_tokens=TrajectoryTokenConfig(traj_token_start_idx=num_text_ids),
        # The tiny tokenizer puts its special tokens last, in the order of the Qwen tokenizer.
        text_tokens=TextTokenConfig(
            pad_token_id=505,
            eos_token_id=507,
            vision_start_token_id=508,
            vision_end_token_id=509,
            image_token_id=511,
        ),
        prompt=PromptConfig(min_pixels=4096, max_pixels=16_384),
    )


def _moderate() -> ModelConfig:
    """Large enough that products, not launches, take the time on a CPU; for the benchmark.

    The ratios of widths, heads and MLPs are the release's; ids and tokenizer are those of `tiny`.
    """
    tiny = _tiny()
    return dataclasses.replace(
        tiny,
        vision=VisionConfig(
            depth=6,
            hidden_size=384,
            num_heads=6,
            intermediate_size=1536,
            out_hidden_size=512,
            deepstack_visual_indexes=(1, 3, 5),
        ),
        language=dataclasses.replace(
            tiny.language,
            hidden_size=512,
            num_layers=8,
            num_heads=8,
            num_kv_heads=2,
            head_dim=64,
            intermediate_size=1536,
            mrope_section=(12, 10, 10),
        ),
        expert=ExpertConfig(hidden_size=256, num_heads=4, intermediate_size=1024),
        action_proj=ActionProjConfig(hidden_size=128),
        prompt=PromptConfig(min_pixels=65_536, max_pixels=98_304),
    )


def _micro() -> ModelConfig:
    """A few layers and coarse trajectory bins: rolls out a hundred trajectories a second on a CPU.

    For tasks as small as the controlled drives. An odd number of bins has one for driving on.
    """
    tiny, traj_vocab_size, num_future_bins = _tiny(), 800, 601
    tokens = dataclasses.replace(
        tiny.trajectory_tokens,
        traj_vocab_size=traj_vocab_size,
        num_future_bins=num_future_bins,
        num_history_bins=traj_vocab_size - num_future_bins,
    )
    special = tiny.language.vocab_size - tiny.trajectory_tokens.traj_token_end_idx
    language = dataclasses.replace(
        tiny.language,
        vocab_size=tokens.traj_token_end_idx + special,
        hidden_size=96,
        num_layers=3,
        num_heads=2,
        num_kv_heads=1,
    )
    return dataclasses.replace(
        tiny,
        vision=dataclasses.replace(tiny.vision, patch_size=8, out_hidden_size=language.hidden_size),
        language=language,
        expert=dataclasses.replace(tiny.expert, hidden_size=64, num_heads=2, intermediate_size=128),
        trajectory_tokens=tokens,
    )


PRESETS = {
    "r1_10b": lambda: ModelConfig(precision=_BF16),
    "r1_5_10b": lambda: ModelConfig(
        release="alpamayo1_5",
        prompt=PromptConfig(include_camera_ids=True, include_frame_nums=True),
        precision=_BF16,
    ),
    "qwen3_vl_2b": lambda: _backbone(
        VisionConfig(out_hidden_size=2048, **_SMALL_VISION),
        num_layers=28,
        num_heads=16,
        intermediate_size=6144,
        tie_word_embeddings=True,
    ),
    "qwen3_vl_4b": lambda: _backbone(
        VisionConfig(out_hidden_size=2560, **_SMALL_VISION),
        num_layers=36,
        num_heads=32,
        intermediate_size=9728,
        tie_word_embeddings=True,
    ),
    "qwen3_vl_8b": lambda: _backbone(VisionConfig()),
    "qwen3_vl_32b": lambda: _backbone(
        VisionConfig(out_hidden_size=5120), num_layers=64, num_heads=64, intermediate_size=25_600
    ),
    # The paper's small policies have the language model of Qwen2.5-0.5B (section 6.4.1). Its vision
    # encoder and expert are not stated: here the tower of the small Qwen3-VL and half the widths.
    "paper_0p5b": lambda: ModelConfig(
        vision=VisionConfig(out_hidden_size=896, **_SMALL_VISION),
        language=LanguageConfig(
            hidden_size=896,
            num_layers=24,
            num_heads=14,
            num_kv_heads=2,
            head_dim=64,
            intermediate_size=4864,
            mrope_section=(12, 10, 10),
            tie_word_embeddings=True,
        ),
        expert=ExpertConfig(hidden_size=448, num_heads=14, intermediate_size=2432),
        precision=PrecisionConfig(params="float32", compute="bfloat16"),
    ),
    "tiny": _tiny,
    "moderate": _moderate,
    "micro": _micro,
}


# Sizes of the compressors of small policies. They compress as the paper's do: an image has 15 tokens
# in the tiny policy, where the paper's has 160.
_SMALL_WIDTH = 256
_SMALL_COMPRESSORS = {
    "triplane": TriplaneConfig(
        hidden_size=48,
        num_heads=2,
        intermediate_size=96,
        num_points=2,
        image_layers=1,
        cross_layers=1,
        token_mlp_size=96,
        grid=(12, 12, 6),
        patch=(3, 4, 3),
        half_plane=True,
        range_xy=80.0,
        inner_xy=30.0,
        inner_cells_xy=8,
        range_z=(-1.0, 11.0),
        inner_top_z=3.0,
        inner_cells_z=4,
        render_size=16,
        render_hidden_size=32,
        render_points=32,
    ),
    "flex": FlexConfig(
        depth=2,
        hidden_size=64,
        num_heads=2,
        intermediate_size=128,
        tokens_per_step=12,
        num_steps=4,
    ),
}


def with_compressor(
    config: ModelConfig, compressor: str = "", size: Sequence[int] = ()
) -> ModelConfig:
    """`config` with another vision compressor, or with another size of it.

    A compressor that `config` says nothing about gets the paper's sizes, or small ones where the
    language model has at most 256 features.

    Args:
      config: model.
      compressor: its name; "" keeps that of `config`.
      size: see `settings.VisionSettings`; empty keeps that of `config`.

    Raises:
      ConfigError: an unknown compressor, or a size that it cannot have.
    """
    before, kind = config.vision.compressor, compressor or config.vision.compressor
    vision, scene = dataclasses.replace(config.vision, compressor=kind), config.scene
    usual = {"triplane": TriplaneConfig(), "flex": FlexConfig()}
    if kind != before and before in usual:
        # Sizes of a compressor that is gone would be kept in every checkpoint.
        scene = dataclasses.replace(scene, **{before: usual[before]})
    changes = _sized(kind, tuple(size))
    if kind in usual:
        own = getattr(scene, kind)
        if kind != before and own == usual[kind] and config.language.hidden_size <= _SMALL_WIDTH:
            own = _SMALL_COMPRESSORS[kind]
        scene = dataclasses.replace(scene, **{kind: dataclasses.replace(own, **changes)})
    return dataclasses.replace(config, vision=vision, scene=scene)


def _sized(kind: str, size: tuple[int, ...]) -> dict[str, Any]:
    """Fields of a compressor's configuration that `settings.VisionSettings.size` says."""
    if not size:
        return {}
    *cells, flag = size
    if kind == "triplane" and len(size) == 4 and flag in (0, 1):
        return {"patch": tuple(cells), "half_plane": bool(flag)}
    if kind == "flex" and len(size) == 1:
        return {"tokens_per_step": size[0]}
    if kind == "flex" and len(size) == 2 and flag in (0, 1):
        return {"tokens_per_step": size[0], "prefix": bool(flag)}
    raise ConfigError(
        f"vision.size {size} is no size of the compressor {kind!r}: triplane has cells in x, y and z "
        f"and 1 (half) or 0 (all of the grid); flex has the tokens of a step, and 1 for interleaved "
        f"prediction"
    )


def preset(name: str, **replacements) -> ModelConfig:
    """The configuration called `name`, with whole sections replaced by keyword.

    Raises:
      ConfigError: no preset of that name.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown; known: {', '.join(sorted(PRESETS))}")
    return dataclasses.replace(PRESETS[name](), **replacements)
