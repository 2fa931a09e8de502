"""Suite "policy": from pixels to trajectories, phase by phase, beside the floor and beside PyTorch.

One observation. Phases that do not depend on the number of samples are measured once, the others for
each K. Programs are compiled before anything is timed; candidates take turns within one process.
"""

import copy
import dataclasses
import logging
import resource
import sys
import time
from typing import Any, Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.action import unicycle
from alpamayo_jax.benchmark import floors
from alpamayo_jax.benchmark.timing import Times, alternate, compares
from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.decode import act
from alpamayo_jax.decode.generate import generate
from alpamayo_jax.decode.prefix import Prefix, fuse_history, prefill
from alpamayo_jax.decode.sample import sample_program
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.layers.stack import separate
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.init import init_params
from alpamayo_jax.presets import preset
from alpamayo_jax.testing.tiny import random_inputs
from alpamayo_jax.types import ModelInputs


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and one observation.

    Attributes:
      config: model.
      images: how many.
      grid: patches of each, (height, width).
      length: tokens of the prompt.
      tokens: of the reasoning.
      steps: of the flow.
    """

    config: ModelConfig
    images: int = 2
    grid: tuple[int, int] = (4, 8)
    length: int = 96
    tokens: int = 8
    steps: int = 10

    @property
    def shapes(self) -> floors.Shapes:
        """The same for `floors`."""
        patches = self.grid[0] * self.grid[1]
        return floors.Shapes(self.images, patches, self.length, self.tokens, self.steps)

    def inputs(self, seed: int = 0) -> ModelInputs:
        """A random prompt of exactly `length` tokens.

        Raises:
          ConfigError: images and history alone are longer.
        """
        grids = ((self.grid,) * self.images,)
        shortest = random_inputs(self.config, grids, num_text=0, seed=seed).input_ids.shape[1]
        if self.length < shortest:
            raise ConfigError(f"a prompt of {self.length} tokens is too short: {shortest} are needed")
        return random_inputs(self.config, grids, num_text=self.length - shortest, seed=seed)

    def settings(self, samples: int) -> SampleSettings:
        """How it is sampled."""
        return SampleSettings(
            num_samples=samples, max_new_tokens=self.tokens, flow_steps=self.steps
        )


def case(config: ModelConfig) -> Case:
    """What a model of this size is measured on: the release's shapes, smaller ones for small models."""
    width = config.language.hidden_size
    if width >= 896:  # 4 cameras x 4 frames of 320 x 576 pixels
        return Case(config, images=16, grid=(20, 36), length=3000, tokens=40)
    if width >= 512:  # 2 cameras x 2 frames of 224 x 392 pixels, resized to 224 x 384
        return Case(config, images=4, grid=(14, 24), length=441, tokens=16)
    return Case(config)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled phase.

    Attributes:
      call: returns when the work is done.
      compile: seconds of tracing and compilation.
      memory: bytes of arguments, results and temporaries.
      result: of one call.
      divide: how many tokens or steps one call does.
    """

    call: Callable[[], Any]
    compile: float
    memory: int
    result: Any
    divide: int = 1


def prompt_reader(config: ModelConfig) -> Callable[[dict, ModelInputs, Any], Prefix]:
    """`decode.prefix.prefill` of images that were seen already: (params, inputs, scene) -> Prefix."""
    model = Alpamayo(config)

    def read(params, inputs, scene):
        hidden, cache = model.apply(
            {"params": params}, inputs, fuse_history(inputs, config), scene, method="prefill"
        )
        return Prefix(cache, inputs.attention_mask, hidden[:, -1], inputs.rope_delta)

    return read


def build(
    one: Case, params: dict, samples: Sequence[int], seed: int = 0
) -> tuple[ModelInputs, dict[str, Program]]:
    """Compiles all phases; a phase's name ends in "/K_samples" where it depends on them."""
    config, model = one.config, Alpamayo(one.config)
    inputs = jax.device_put(one.inputs(seed))
    found: dict[str, Program] = {}

    def add(name: str, function: Callable, *args: Any, divide: int = 1) -> Any:
        found[name] = _compiled(function, args, divide)
        return found[name].result

    scene = add(
        "vision", lambda p, i: model.apply({"params": p}, i, method="scene_tokens"), params, inputs
    )
    add("prefill", prompt_reader(config), params, inputs, scene)
    prefix = add("prefill_with_vision", lambda p, i: prefill(p, i, config), params, inputs)
    for count in samples:
        settings, end = one.settings(count), f"{count}_samples"
        rng, noise_rng = jax.random.split(jax.random.key(seed))

        def trajectory(actions, xyz, rot):
            rows = (jnp.broadcast_to(a[:, None], (1, count, *a.shape[1:])) for a in (xyz, rot))
            return unicycle.action_to_trajectory(
                actions, *rows, config.action, bf16_constants=config.precision.bf16_buffers
            )

        said = add(
            f"decode_token/{end}", lambda p, x, r: generate(p, x, config, settings, r),
            params, prefix, rng,
        )  # fmt: skip
        tokens = int(said.num_tokens)
        found[f"decode_token/{end}"] = dataclasses.replace(
            found[f"decode_token/{end}"], divide=tokens
        )
        noise = act.initial_noise(noise_rng, 1, config, settings)
        actions = add(
            f"flow_step/{end}",
            lambda p, x, g, n: act.sample_actions(p, x, g, config, settings, n),
            params, prefix, said, noise, divide=one.steps,
        )  # fmt: skip
        add(
            f"trajectory/{end}", trajectory, actions, inputs.ego_history_xyz, inputs.ego_history_rot
        )
        add(
            f"end_to_end/{end}",
            lambda p, i, r, n: sample_program(p, i, r, config, settings, noise=n),
            params, inputs, rng, noise,
        )  # fmt: skip
    return inputs, found


def run(
    one: Case,
    *,
    samples: Sequence[int] = (1, 6, 16),
    rounds: int = 5,
    compare: str = "auto",
    params: dict | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures a case.

    Our side holds every layer in arrays of its own, see `layers.stack.separate`.

    Args:
      one: model and observation.
      samples: numbers of samples.
      rounds: repetitions that count.
      compare: "transformers" also times PyTorch, "auto" does so where it is possible.
      params: of the policy; None: random ones.
      seed: of parameters, prompt and draws.

    Returns:
      phases: name -> `Times.row` (of one token, of one step), `floor`, `ratio_to_floor`, `flops`,
      `bytes`, `compile`, `memory_mib`; with PyTorch `comparison` (its times), `ratio_to_comparison`
      (our median over its: below 1 we are faster), and for "end_to_end" also
      `comparison_shared`, which reads the prompt once for all samples, and its ratio.
      peaks; peak_memory: of this process before PyTorch began, and of the device;
      difference: of "keys" and "velocity" from PyTorch's on the same tokens and noise.

    Raises:
      ConfigError: the comparison is not to be had.
    """
    on_gpu = jax.default_backend() == "gpu"
    compared = compares(compare, "cuda" if on_gpu else "cpu")
    log = logging.getLogger(__name__)
    params = init_params(one.config, jax.random.key(seed)) if params is None else params
    log.info("compiling")
    inputs, programs = build(one, separate(params), samples, seed)
    peaks = floors.measure_peaks(one.config)
    for program in programs.values():
        program.call()
    memory = peak_memory()
    calls: dict[str, Callable] = {name: p.call for name, p in programs.items()}
    prepare, difference = {}, {}
    if compared:
        log.info("building PyTorch's")
        theirs = _Theirs(one, params, inputs, programs, "cuda" if on_gpu else "cpu")
        difference = theirs.difference(params, samples[0])
        calls |= theirs.calls
        prepare = theirs.prepare
    log.info("timing %d programs", len(calls))
    times = alternate(calls, rounds, prepare)
    work = {count: floors.phases(one.config, one.shapes, count) for count in samples}
    rows = {
        name: _row(name, program, times, work, one, peaks) for name, program in programs.items()
    }
    return {
        "phases": rows,
        "peaks": dataclasses.asdict(peaks),
        "peak_memory": memory,
        "difference": difference,
        "case": dataclasses.asdict(one),
        "compile": sum(program.compile for program in programs.values()),
    }


def peak_memory() -> dict[str, float]:
    """MiB: the most that this process held, and that its device did where it says so."""
    unit = 1 if sys.platform == "darwin" else 1024
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    stats = jax.devices()[0].memory_stats() or {}
    found = {"process_mib": held / 2**20}
    if "peak_bytes_in_use" in stats:
        found["device_mib"] = stats["peak_bytes_in_use"] / 2**20
    return found


def _compiled(function: Callable, args: tuple, divide: int) -> Program:
    begin = time.perf_counter()
    program = jax.jit(function).lower(*args).compile()
    seconds = time.perf_counter() - begin
    analysis = program.memory_analysis()
    memory = sum(
        getattr(analysis, f"{name}_size_in_bytes", 0) for name in ("argument", "output", "temp")
    )
    result = jax.block_until_ready(program(*args))
    call = lambda: jax.block_until_ready(program(*args))  # noqa: E731
    return Program(call, seconds, memory, result, divide)


def _scaled(times: Times, divide: int) -> Times:
    return Times(tuple(s / divide for s in times.seconds), times.first / divide)


def _row(
    name: str,
    program: Program,
    times: Mapping[str, Times],
    work: Mapping[int, Mapping[str, floors.Work]],
    one: Case,
    peaks: floors.Peaks,
) -> dict[str, Any]:
    phase, _, end = name.partition("/")
    count = int(end.removesuffix("_samples")) if end else next(iter(work))
    least = work[count][phase]
    floor = least.seconds(peaks)
    if phase == "end_to_end":
        floor = floors.end_to_end_seconds(work[count], one.shapes, peaks)
    ours = _scaled(times[name], program.divide)
    row = {
        **ours.row(),
        "floor": floor,
        "ratio_to_floor": ours.median / floor,
        "flops": least.flops,
        "bytes": least.bytes,
        "compile": program.compile,
        "memory_mib": program.memory / 2**20,
    }
    for key, suffix in (("comparison", ""), ("comparison_shared", "_shared")):
        other = f"transformers{suffix}/{name}"
        if other in times:
            theirs = _scaled(times[other], program.divide)
            row[key] = theirs.row()
            row[f"ratio_to_{key}"] = ours.median / theirs.median
    return row


class _Theirs:
    """PyTorch's calls, which say what ours said."""

    def __init__(self, one, params, inputs, programs, device):
        from alpamayo_jax.testing.torch_policy import TorchPolicy

        self.one, self.programs, self.device = one, programs, device
        dtype = one.config.precision.compute if device == "cuda" else "float32"
        ids = np.asarray(fuse_history(inputs, one.config))
        self.policy = TorchPolicy(one.config, params, inputs, ids, device=device, dtype=dtype)
        self.prefix = self.policy.prefill()
        features = self.policy.vision()
        self.calls: dict[str, Callable] = {}
        self.prepare: dict[str, Callable] = {}
        self._add("vision", self.policy.vision)
        self._add("prefill", lambda: self.policy.prefill(features))
        self._add("prefill_with_vision", self.policy.prefill)
        for name in programs:
            if name.startswith("end_to_end/"):
                self._samples(int(name.split("/")[1].removesuffix("_samples")))

    def _add(self, name: str, call: Callable, shared: str = "") -> None:
        def waiting(*args):
            call(*args)
            self.policy.wait()

        self.calls[f"transformers{shared}/{name}"] = waiting

    def _said(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """What our samples said, up to the longest, and where their ends are."""
        said = self.programs[f"decode_token/{count}_samples"].result
        tokens = np.asarray(said.token_ids)[0][:, : int(said.num_tokens)]
        return tokens, np.asarray(said.end_index)[0]

    def _noise(self, count: int) -> np.ndarray:
        settings = self.one.settings(count)
        _, rng = jax.random.split(jax.random.key(0))
        return np.asarray(act.initial_noise(rng, 1, self.one.config, settings))[0]

    def _samples(self, count: int) -> None:
        policy, end = self.policy, f"{count}_samples"
        tokens, ends = self._said(count)
        noise, steps = self._noise(count), self.one.steps

        def fresh():
            prefix = copy.deepcopy(self.prefix)
            prefix.cache.batch_repeat_interleave(count)
            return dataclasses.replace(prefix, last_hidden=prefix.last_hidden.expand(count, -1))

        def whole(rows):
            _, cache = policy.decode(policy.prefill(rows=rows), count, tokens)
            return policy.trajectory(policy.flow(cache, ends, noise, steps))

        _, cache = policy.decode(fresh(), count, tokens)
        actions = policy.flow(cache, ends, noise, steps)
        self._add(f"decode_token/{end}", lambda prefix: policy.decode(prefix, count, tokens))
        self.prepare[f"transformers/decode_token/{end}"] = fresh
        self._add(f"flow_step/{end}", lambda: policy.flow(cache, ends, noise, steps))
        self._add(f"trajectory/{end}", lambda: policy.trajectory(actions))
        self._add(f"end_to_end/{end}", lambda: whole(count))
        self._add(f"end_to_end/{end}", lambda: whole(1), shared="_shared")

    def difference(self, params: dict, count: int) -> dict[str, float]:
        """The largest differences of the keys of prompt and reasoning, over the largest key, and of
        the first velocity of the flow. Later ones say little: frequencies of 2 pi 100 per unit of
        action make a random network amplify the last bit a hundredfold at every step."""
        tokens, ends = self._said(count)
        _, cache = self.policy.decode(self.policy.prefill(), count, tokens)
        prefix = self.programs["prefill"].result
        said = self.programs[f"decode_token/{count}_samples"].result
        length, shape = self.one.length, prefix.cache.k.shape
        keys, worst = 0.0, 0.0
        for layer in range(shape[0]):
            their = cache.layers[layer].keys.float().cpu().numpy()
            for ours, part in (
                (prefix.cache.k[layer, 0], their[:1, :, :length][0]),
                (said.cache.k[layer, 0, :, :, : tokens.shape[1]], their[:, :, length:]),
            ):
                ours = np.asarray(ours, np.float32)
                keys = max(keys, float(np.abs(ours).max()))
                worst = max(worst, float(np.abs(ours - part).max()))
        settings = dataclasses.replace(self.one.settings(count), flow_steps=1)
        noise = self._noise(count)
        step = jax.jit(
            lambda p, x, g, n: act.sample_actions(p, x, g, self.one.config, settings, n)
        )
        ours = np.asarray(step(params, prefix, said, noise[None]))[0]
        theirs = self.policy.flow(cache, ends, noise, 1).cpu().numpy()
        return {"keys": worst / keys, "velocity": float(np.abs(ours - theirs).max())}
