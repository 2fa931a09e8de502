"""Flags of the scripts that drive with a checkpoint: how its weights are held, how it reasons.

    _POLICY = policy_flags.define()
    ...
    policy = _POLICY.load(directory, progress=cli.LoadingBar())
    settings = SampleSettings(num_samples=6, **_POLICY.sampling())
"""

import dataclasses
import os
from typing import Any, Callable

from absl import flags
import jax

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.offload import offloaded
from alpamayo_jax.decode.policy import Policy, load_policy
from alpamayo_jax.decode.streaming import REUSES
from alpamayo_jax.layers.stack import separate
from alpamayo_jax.quantise import make_recipe, quantise_policy

WEIGHTS = ("int8", "fp8")
STREAMING = ("off", *REUSES)


@dataclasses.dataclass(frozen=True)
class PolicyFlags:
    """What was given on the command line; made by `define`."""

    weights: flags.FlagHolder
    offload: flags.FlagHolder
    layers_apart: flags.FlagHolder
    max_reasoning_tokens: flags.FlagHolder

    def load(
        self, directory: str | os.PathLike, progress: Callable[[int, int], None] | None = None
    ) -> Policy:
        """The policy of a checkpoint directory, held as the flags say; raises as `load`."""
        apart = self.layers_apart.value
        if self.offload.value and not self.layers_apart.present:
            apart = False
        return load(directory, self.weights.value, self.offload.value, apart, progress)

    def sampling(self) -> dict[str, Any]:
        """Fields of `SampleSettings`."""
        return {"max_reasoning_tokens": self.max_reasoning_tokens.value}


def define(*, layers_apart: bool = False) -> PolicyFlags:
    """Defines --weights, --offload, --layers_apart (by default as given) and --max_reasoning_tokens."""
    return PolicyFlags(
        flags.DEFINE_enum(
            "weights", None, WEIGHTS, "Round the weights of linear layers to this format, with one "
            "scale per output channel; default: as they are stored. See docs/decoding.md.",
        ),
        flags.DEFINE_bool(
            "offload", False, "Keep layers in host memory, for cards that are too small; slow."
        ),
        flags.DEFINE_bool(
            "layers_apart", layers_apart, "Keep every layer in arrays of its own, so that decoding "
            "copies no weights; programs take longer to compile. Not with --offload.",
        ),
        flags.DEFINE_integer(
            "max_reasoning_tokens", None, "End the reasoning after so many tokens and go on with the "
            "trajectory; 0 skips reasoning; default: the reasoning ends by itself.", lower_bound=0,
        ),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StreamingFlags:
    """What was given on the command line; made by `define_streaming`."""

    streaming: flags.FlagHolder
    draft_block: flags.FlagHolder

    @property
    def value(self) -> str:
        """One of `STREAMING`."""
        return self.streaming.value

    def sampling(self) -> dict[str, Any]:
        """Fields of `SampleSettings`."""
        return {"draft_block": self.draft_block.value}


def define_streaming() -> StreamingFlags:
    """Defines --streaming and --draft_block, for the scripts that drive step by step."""
    return StreamingFlags(
        flags.DEFINE_enum(
            "streaming", "off", STREAMING, "Use what the step before has seen and said (exact), and "
            "keep keys and values of frames that have moved too (approximate); drives run one after "
            "the other. See docs/decoding.md.",
        ),
        flags.DEFINE_integer(
            "draft_block", 8, "With --streaming: tokens of the last reasoning that one pass verifies; "
            "1 writes the reasoning anew, which is faster on CPUs.", lower_bound=1,
        ),
    )  # fmt: skip


def load(
    directory: str | os.PathLike,
    weights: str | None = None,
    offload: bool = False,
    apart: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Policy:
    """A checkpoint's policy, with rounded weights, and layers in host memory or apart, where asked for.

    All of it is prepared on the host, so that the device never holds more than it does afterwards.

    Args:
      directory: of the checkpoint.
      weights: one of `WEIGHTS`, or None: as stored.
      offload: see `decode.offload`.
      apart: see `layers.stack.separate`.
      progress: as in `load_policy`.

    Raises:
      InputError: as `load_policy`.
      ConfigError: both `offload` and `apart`; the device has no host memory to offload to; or JAX was
        told not to use the CPU.
    """
    if offload and apart:
        raise ConfigError("--offload moves stacked layers: it does not go with --layers_apart")
    if weights is None and not offload and not apart:
        return load_policy(directory, progress=progress)
    device = jax.devices()[0]
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise ConfigError(
            f"--weights, --offload and --layers_apart need the CPU too, name it in JAX_PLATFORMS: {error}"
        ) from error
    with jax.default_device(host):
        policy = load_policy(directory, progress=progress)
        if weights is not None:
            policy = quantise_policy(policy, make_recipe(f"{weights}_weights"))
        if apart:
            policy = dataclasses.replace(policy, params=separate(policy.params))
    place = offloaded if offload else jax.device_put
    return dataclasses.replace(policy, params=place(policy.params, device))
