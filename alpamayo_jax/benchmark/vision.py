"""Suite "vision": seconds and memory of vision and prefill behind each compressor, at 4 and 7 cameras.

One observation per case. Vision is the tower and the compressor; prefill the language model over the
whole prompt. Compressors of one case take turns within one process.
"""

import dataclasses
from typing import Any, Mapping, Sequence

import jax
import jax.numpy as jnp

from alpamayo_jax.benchmark.timing import Times, alternate
from alpamayo_jax.config import COMPRESSORS
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import Policy, new_policy
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.presets import preset, with_compressor
from alpamayo_jax.sim.camera import RIGS
from alpamayo_jax.sim.source import procedural_clip
from alpamayo_jax.types import Observation

_T0 = 4.0  # seconds into the drive


@dataclasses.dataclass(frozen=True)
class Case:
    """A policy and what it sees.

    Attributes:
      preset: model.
      cameras: of a simulated rig.
      frames: per camera.
      language_layers, vision_layers: only so many of the model's; None: all.
    """

    preset: str
    cameras: int
    frames: int = 1
    language_layers: int | None = None
    vision_layers: int | None = None

    def policy(self, compressor: str) -> Policy:
        """A random policy behind a compressor; of four cameras the triplane keeps the front half."""
        model = preset(self.preset)
        if self.language_layers is not None:
            language = dataclasses.replace(model.language, num_layers=self.language_layers)
            model = dataclasses.replace(model, language=language)
        if self.vision_layers is not None:
            vision = dataclasses.replace(
                model.vision, depth=self.vision_layers, deepstack_visual_indexes=()
            )
            model = dataclasses.replace(model, vision=vision)
        model = with_compressor(model, compressor)
        if compressor == "triplane":
            half = dataclasses.replace(model.scene.triplane, half_plane=self.cameras <= 4)
            scene = dataclasses.replace(model.scene, triplane=half)
            model = dataclasses.replace(model, scene=scene)
        return new_policy(model, jax.random.key(0))

    def observation(self) -> Observation:
        """One moment of a simulated drive."""
        clip = procedural_clip(0, 0, seconds=12.0, cameras=RIGS[self.cameras])
        return observe(clip, _T0, self.frames)


@dataclasses.dataclass(frozen=True)
class Measured:
    """One observation behind one compressor.

    Attributes:
      vision, prefill: their times.
      prompt_tokens: positions of the prompt.
      scene_tokens: of them.
      memory: bytes that the two programs hold besides parameters and input.
    """

    vision: Times
    prefill: Times
    prompt_tokens: int
    scene_tokens: int
    memory: float


def cases(backend: str) -> tuple[Case, ...]:
    """What the suite measures: the tiny policy, and elsewhere than on CPUs the paper's 0.5B policy."""
    names = ("tiny",) if backend == "cpu" else ("tiny", "paper_0p5b")
    return tuple(Case(name, cameras) for name in names for cameras in (4, 7))


def run(
    chosen: Sequence[Case], *, rounds: int = 5, compressors: Sequence[str] = COMPRESSORS
) -> dict[str, Any]:
    """Measures cases one after the other.

    Args:
      chosen: what to measure.
      rounds: repetitions that count.
      compressors: their names; "per_image", which the others are compared with, among them.

    Returns:
      phases: "PRESET/N_cameras/COMPRESSOR/vision" and ".../prefill" -> `Times.row`, and
      prompt_tokens, scene_tokens and memory_mib. savings: "PRESET/N_cameras/COMPRESSOR" ->
      prompt_ratio and prefill_ratio: how many times more tokens, and seconds of prefill, the
      baseline takes.
    """
    phases: dict[str, dict[str, Any]] = {}
    savings: dict[str, dict[str, float]] = {}
    for case in chosen:
        seen, where = case.observation(), f"{case.preset}/{case.cameras}_cameras"
        found = measure({name: (case.policy(name), seen) for name in compressors}, rounds)
        base = found["per_image"]
        for name, one in found.items():
            sizes = {
                "prompt_tokens": one.prompt_tokens,
                "scene_tokens": one.scene_tokens,
                "memory_mib": one.memory / 2**20,
            }
            for part, times in (("vision", one.vision), ("prefill", one.prefill)):
                phases[f"{where}/{name}/{part}"] = times.row() | sizes
            savings[f"{where}/{name}"] = {
                "prompt_ratio": base.prompt_tokens / one.prompt_tokens,
                "prefill_ratio": base.prefill.median / one.prefill.median,
            }
    return {"phases": phases, "savings": savings}


def measure(
    policies: Mapping[str, tuple[Policy, Observation]], rounds: int
) -> dict[str, Measured]:
    """Times policies, each on its observation, in turns."""
    calls: dict[tuple[str, str], Any] = {}
    held, sizes = {}, {}
    for name, (policy, seen) in policies.items():
        inputs = jax.tree.map(jnp.asarray, policy.processor.inputs([seen]))
        programs, held[name] = _programs(policy, inputs)
        calls |= {(name, part): call for part, call in programs.items()}
        sizes[name] = inputs.input_ids.shape[1], int((inputs.image_index >= 0).sum())
    times = alternate(calls, rounds)
    return {
        name: Measured(times[name, "vision"], times[name, "prefill"], *sizes[name], held[name])
        for name in policies
    }


def _programs(policy: Policy, inputs) -> tuple[dict[str, Any], float]:
    model = Alpamayo(policy.config)
    vision = jax.jit(lambda p, i: model.apply({"params": p}, i, method="scene_tokens"))
    prefill = jax.jit(
        lambda p, i, s: model.apply({"params": p}, i, i.input_ids, s, method="prefill")
    )
    vision = vision.lower(policy.params, inputs).compile()
    seen = vision(policy.params, inputs)
    prefill = prefill.lower(policy.params, inputs, seen).compile()
    held = sum(
        analysis.temp_size_in_bytes + analysis.output_size_in_bytes
        for analysis in (vision.memory_analysis(), prefill.memory_analysis())
    )
    calls = {
        "vision": lambda: jax.block_until_ready(vision(policy.params, inputs)),
        "prefill": lambda: jax.block_until_ready(prefill(policy.params, inputs, seen)),
    }
    return calls, float(held)
