"""Configuration as frozen dataclasses.

Every size the model needs is here and nowhere else. A `ModelConfig` is hashable, so it can be a
static argument of `jax.jit`. Unknown keys are errors; the unknown fields of a released
`config.json` are kept by `alpamayo_jax.convert`, not here.
"""

from alpamayo_jax.config.building import ConfigError, build
from alpamayo_jax.config.model import (
    IMPLEMENTATIONS,
    RELEASES,
    ActionProjConfig,
    ActionSpaceConfig,
    ExpertConfig,
    FlowConfig,
    KernelConfig,
    LanguageConfig,
    ModelConfig,
    PrecisionConfig,
    PromptConfig,
    TextTokenConfig,
    TrajectoryTokenConfig,
    VisionConfig,
)
from alpamayo_jax.config.scene import COMPRESSORS, FlexConfig, SceneConfig, TriplaneConfig

__all__ = [
    "COMPRESSORS",
    "IMPLEMENTATIONS",
    "RELEASES",
    "ActionProjConfig",
    "ActionSpaceConfig",
    "ConfigError",
    "ExpertConfig",
    "FlexConfig",
    "FlowConfig",
    "KernelConfig",
    "LanguageConfig",
    "ModelConfig",
    "PrecisionConfig",
    "PromptConfig",
    "SceneConfig",
    "TextTokenConfig",
    "TrajectoryTokenConfig",
    "TriplaneConfig",
    "VisionConfig",
    "build",
]
