"""A policy: configuration, parameters and tokenizer, as one checkpoint directory holds them."""

import dataclasses
import functools
import os
from typing import Any, Callable, Mapping

import jax

from alpamayo_jax import convert
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.init import init_compressor, init_params, param_shapes
from alpamayo_jax.tokens.processor import Processor
from alpamayo_jax.tokens.tokenizer import Tokenizer, tiny_tokenizer


@dataclasses.dataclass(frozen=True)
class Policy:
    """Everything that turns observations into trajectories.

    Attributes:
      config: sizes and constants.
      params: nested dict of arrays.
      tokenizer: text to ids and back.
      raw: config.json as it was read, whose unknown fields are kept when saving; None for a policy
        made here.
      files: name -> content of the checkpoint's other small files (backbone and image processor
        settings), kept when saving.
    """

    config: ModelConfig
    params: dict
    tokenizer: Tokenizer
    raw: Mapping[str, Any] | None = None
    files: Mapping[str, bytes] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def processor(self) -> Processor:
        """Builds this policy's inputs."""
        return Processor(self.config, self.tokenizer)

    def save(self, directory: str | os.PathLike) -> None:
        """Writes a checkpoint directory that `load_policy` and the PyTorch release read.

        Raises:
          InputError: the directory holds something that is not a checkpoint.
        """
        convert.save_checkpoint(
            directory,
            self.config,
            self.params,
            raw=self.raw,
            extra_files={**self.files, **self.tokenizer.files()},
        )


def new_policy(config: ModelConfig, rng: jax.Array, tokenizer: Tokenizer | None = None) -> Policy:
    """A policy with random parameters; without a tokenizer, the small one of preset `tiny`."""
    tokenizer = tokenizer or tiny_tokenizer(config)
    return Policy(config=config, params=init_params(config, rng), tokenizer=tokenizer)


def load_policy(
    directory: str | os.PathLike,
    *,
    shardings: Mapping | None = None,
    dtype: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> Policy:
    """Loads a checkpoint directory: released, or written by `Policy.save`.

    Args:
      directory: config.json, safetensors and tokenizer files.
      shardings: a sharding per parameter, to load straight onto a mesh; None uses one device.
      dtype: type of the parameters; None keeps the checkpoint's.
      progress: called with (bytes read, bytes in all).

    Raises:
      InputError: a file is missing, damaged, or of another model; the message names it.
    """
    policy = describe_policy(directory)
    params = convert.load_params(
        directory, policy.config, shardings=shardings, dtype=dtype, progress=progress
    )
    return dataclasses.replace(policy, params=params)


def describe_policy(directory: str | os.PathLike) -> Policy:
    """As `load_policy`, with the shapes of the parameters in place of the parameters.

    Raises:
      InputError: a small file is missing or damaged.
    """
    config, raw = convert.read_config(directory)
    files = convert.companion_files(directory)
    return Policy(
        config=config,
        params=param_shapes(config),
        tokenizer=Tokenizer.from_directory(directory, config),
        raw=raw,
        files={name: path.read_bytes() for name, path in files.items()},
    )


def adopt_compressor(
    params: dict, own: ModelConfig, config: ModelConfig, rng: jax.Array
) -> dict:
    """Parameters for a configuration that differs in the vision compressor only.

    Args:
      params: of a policy.
      own: its configuration.
      config: the new one.
      rng: key of the parameters of a new compressor.

    Returns:
      The parameters; those of the compressor are random unless it is the policy's own.
    """
    kind = config.vision.compressor
    if kind == own.vision.compressor and (
        kind == "per_image" or getattr(config.scene, kind) == getattr(own.scene, kind)
    ):
        return params
    vlm = {name: tree for name, tree in params["vlm"].items() if name != "scene"}
    if kind != "per_image":
        new = init_compressor(config, rng)
        dtype = jax.tree.leaves(vlm)[0].dtype
        vlm["scene"] = jax.tree.map(lambda leaf: leaf.astype(dtype), new)
    return {**params, "vlm": vlm}
