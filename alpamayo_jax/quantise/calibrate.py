"""Ranges of activations: the policy drives windows of clips, and every linear layer is watched.

The parameters get a number per layer beside its kernel, and an interceptor sends what each numbered
layer reads to the host, so that it works inside of scans, loops and vectorised layers alike.
"""

import functools
from typing import Any, Callable, Iterable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.convert.table import flatten, nest
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.linear import Linear
from alpamayo_jax.quantise.ranges import BINS_PER_OCTAVE, LOWEST_OCTAVE, NUM_BINS, Ranges
from alpamayo_jax.quantise.recipe import linear_layers
from alpamayo_jax.types import InputError, Observation

_SITE = "calibration_site"


def calibrate(
    policy: Policy,
    observations: Iterable[Observation],
    *,
    settings: SampleSettings = SampleSettings(num_samples=1),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    jit: Callable[[Callable], Callable] = jax.jit,
) -> Ranges:
    """Runs a policy from pixels to trajectories and records the inputs of all its linear layers.

    What the policy computes on padding is counted too, as it is where it drives.

    Args:
      policy: as trained.
      observations: moments of drives, one after the other.
      settings: how it reasons while it is watched.
      seed: of reasoning and noise; every observation has its own.
      progress: called with the number of observations done.
      jit: compiles the program; one that compiles quickly pays for few observations.

    Raises:
      InputError: no observation, or a malformed one.
    """
    watched, sites = _numbered(policy.params)
    recorder = _Recorder(sum(int(np.prod(shape, dtype=int)) for shape in sites.values()))
    program = jit(functools.partial(sample_program, config=policy.config, settings=settings))
    windows = 0
    with nn.intercept_methods(functools.partial(_watch, recorder)):
        for observation in observations:
            inputs = policy.processor.inputs([observation], pad_to="bucket")
            key = jax.random.fold_in(jax.random.key(seed), windows)
            jax.block_until_ready(program(watched, inputs, key))
            windows += 1
            if progress is not None:
                progress(windows)
    jax.effects_barrier()
    if not windows:
        raise InputError("there is no window to calibrate on")
    return recorder.ranges(sites, windows)


def _numbered(params: Mapping[str, Any]) -> tuple[dict, dict[str, tuple[int, ...]]]:
    """Parameters with a number beside every kernel, and the shape of the numbers by path, in order."""
    leaves, sites, count = dict(flatten(params)), {}, 0
    for path, shape in linear_layers(params).items():
        sites[path] = shape[:-2]
        size = int(np.prod(shape[:-2], dtype=int))
        numbers = jnp.arange(count, count + size, dtype=jnp.int32).reshape(shape[:-2])
        leaves[(*path.split("/"), _SITE)] = numbers
        count += size
    return nest(leaves), sites


def _watch(recorder: "_Recorder", call, args, kwargs, context) -> Any:
    """Interceptor: records the input of a numbered linear layer and calls it."""
    module = context.module
    if isinstance(module, Linear) and context.method_name == "__call__":
        if module.has_variable("params", _SITE):
            x = jnp.abs(args[0].astype(jnp.float32))
            site = module.get_variable("params", _SITE)
            jax.debug.callback(recorder.add, site, x.max(), _histogram(x))
    return call(*args, **kwargs)


def _histogram(x: jax.Array) -> jax.Array:
    """Counts of magnitudes by bin, int32 [NUM_BINS]."""
    octave = jnp.log2(jnp.maximum(x.reshape(-1), 2.0**LOWEST_OCTAVE))
    bins = ((octave - LOWEST_OCTAVE) * BINS_PER_OCTAVE).astype(jnp.int32)
    return jnp.bincount(jnp.clip(bins, 0, NUM_BINS - 1), length=NUM_BINS)


class _Recorder:
    """Sums of what the layers send."""

    def __init__(self, sites: int):
        self._largest = np.zeros(sites)
        self._counts = np.zeros((sites, NUM_BINS), np.int64)

    def add(self, site: Any, largest: Any, counts: Any) -> None:
        """One call of one layer."""
        site = int(site)
        self._largest[site] = max(self._largest[site], float(largest))
        self._counts[site] += np.asarray(counts)

    def ranges(self, sites: Mapping[str, tuple[int, ...]], windows: int) -> Ranges:
        """By path. Layers that did not run at all (of another mode) have no counts."""
        largest, counts, start = {}, {}, 0
        for path, shape in sites.items():
            stop = start + int(np.prod(shape, dtype=int))
            largest[path] = self._largest[start:stop].reshape(shape)
            counts[path] = self._counts[start:stop].reshape(*shape, NUM_BINS)
            start = stop
        return Ranges(largest, counts, windows)
