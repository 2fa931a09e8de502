"""Stages as StableHLO: one program for CPU, CUDA and TPU, any batch, weights in a file beside it.

Programs keep their meaning in newer versions of jax, not in older ones: what is made with the oldest
supported version is read by all.
"""

import dataclasses
import pathlib
from typing import Any, Mapping, Sequence

import jax

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.export.stages import STAGES, Sizes, Stage, make_stages

PLATFORMS = ("cpu", "cuda", "tpu")
BATCH = "batch"  # name of the size that is chosen at run time


def symbolic_stages(
    config: ModelConfig, params: Mapping[str, Any], sizes: Sizes, names: Sequence[str] = STAGES
) -> dict[str, Stage]:
    """Stages for any batch size; `sizes.batch` is not read."""
    (batch,) = jax.export.symbolic_shape(BATCH)
    return make_stages(
        config, params, dataclasses.replace(sizes, batch=batch), unroll=False, names=names
    )


def serialise(stage: Stage, platforms: Sequence[str] = PLATFORMS) -> bytes:
    """The program of a stage: a function of its weights and its inputs, two dicts by name.

    Raises:
      ConfigError: flatbuffers is not installed.
    """
    exported = jax.export.export(jax.jit(stage.function), platforms=platforms)(
        stage.weight_shapes, dict(stage.inputs)
    )
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise ConfigError(
            f"writing StableHLO needs flatbuffers ({error}); pip install 'alpamayo_jax[export]'"
        ) from error


def write(stage: Stage, path: pathlib.Path, platforms: Sequence[str] = PLATFORMS) -> None:
    """Writes the program of a stage."""
    path.write_bytes(serialise(stage, platforms))
