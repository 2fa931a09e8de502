"""Suite "streaming": steps of drives at 10 Hz, with and without what the step before has computed.

Every step of a drive is sampled in four ways with the same seed:

    plain        `decode.sample.sample`, from nothing
    exact        `decode.streaming.Drive`: new frames alone, the prompt as far as it is unchanged
    speculative  the same, with the reasoning of the step before as a draft
    approximate  the same, with keys and values of frames that have moved
"""

import dataclasses
import statistics
import time
from typing import Any, Callable, Iterable

import numpy as np

from alpamayo_jax.benchmark.timing import Times
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import ClipSource, make_source
from alpamayo_jax.data.windows import observe, target, window_times
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.streaming import Drive
from alpamayo_jax.types import InputError, Prediction

WAYS = {
    "plain": None,
    "exact": dict(speculate=False),
    "speculative": {},
    "approximate": dict(reuse="approximate"),
}
_TICK = 0.1
_TRAINED, _HELD_OUT = 32, 8  # drives of the demo, `configs/tiny.py`
_WARM = 3  # steps of the first drive that compile


def held_out(count: int) -> tuple[ClipSource, range]:
    """Simulated drives that the demo's policy has not seen, and the numbers of `count` of them.

    Raises:
      ConfigError: there are not so many.
    """
    if not 1 <= count <= _HELD_OUT:
        raise ConfigError(f"{count} drives were asked for; the demo holds out {_HELD_OUT}")
    source = make_source("procedural", num_clips=_TRAINED + _HELD_OUT, seed=0)
    return source, range(_TRAINED, _TRAINED + count)


def run(
    policy: Policy,
    source: ClipSource,
    clips: Iterable[int],
    *,
    settings: SampleSettings,
    steps: int = 15,
    num_frames: int = 2,
    seed: int = 0,
) -> dict[str, Any]:
    """Drives the first `steps` steps of clips in every way.

    Args:
      policy: to measure.
      source: the drives.
      clips: numbers of those that are driven.
      settings: of the sampling.
      steps: of each drive, more than `_WARM`.
      num_frames: per camera.
      seed: of the sampling; every step has its own.

    Returns:
      phases: "step/WAY" -> a row of `timing.Times.row`. drives: WAY -> min_ade (metres, mean over
      steps), difference and largest_difference (metres between a sample and that of "plain" with the
      same seed: mean over samples, steps and waypoints; largest mean of one sample), same_tokens
      (share of samples that say the same), and means per step of the fields of
      `streaming.StepReport`; acceptance_rate and tokens_per_pass. steps: how many.

    Raises:
      InputError: no clip, or one that is too short.
    """
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    rows: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    first: dict[str, float] = {}
    for number, index in enumerate(clips):
        clip = source.clip(index)
        times = window_times(clip, stride_s=_TICK, num_frames=num_frames)[:steps]
        if len(times) < max(steps, _WARM + 1):
            raise InputError(
                f"clip {clip.clip_id!r} has {len(times)} windows 0.1 s apart; {steps} are needed, "
                f"at least {_WARM + 1}"
            )
        drives = {way: _way(policy, settings, options) for way, options in WAYS.items()}
        for step, t0 in enumerate(times):
            observation = observe(clip, t0, num_frames)
            future = target(clip, t0).ego_future_xyz
            made: dict[str, Prediction] = {}
            for way, drive in drives.items():
                begin = time.perf_counter()
                made[way] = drive(observation, seed + 1000 * number + step)
                took = time.perf_counter() - begin
                first.setdefault(way, took)
                if number or step >= _WARM:
                    seconds[way].append(took)
                row = _compare(made[way], made["plain"], future)
                report = getattr(drive, "report", None)
                if step and report is not None:  # a drive's first step has nothing to go on from
                    row |= dataclasses.asdict(report)
                rows[way].append(row)
    if not seconds["plain"]:
        raise InputError("there is no drive to measure")
    return {
        "phases": {f"step/{way}": Times(tuple(s), first[way]).row() for way, s in seconds.items()},
        "drives": {way: _summed(found) for way, found in rows.items()},
        "steps": len(rows["plain"]),
    }


def _way(
    policy: Policy, settings: SampleSettings, options: dict | None
) -> Callable[[Any, int], Prediction]:
    if options is None:
        return lambda observation, seed: sample(policy, observation, seed=seed, settings=settings)
    return Drive(policy, settings, **options)


def _compare(got: Prediction, plain: Prediction, future: np.ndarray) -> dict[str, float]:
    """Metres in the plane, over all waypoints."""
    apart = np.linalg.norm(got.xyz - plain.xyz, axis=-1).mean(-1)
    error = np.linalg.norm(got.xyz[..., :2] - future[None, :, :2], axis=-1).mean(-1)
    return {
        "min_ade": float(error.min()),
        "difference": float(apart.mean()),
        "largest_difference": float(apart.max()),
        "same_tokens": float((got.token_ids == plain.token_ids).all(-1).mean()),
    }


def _summed(rows: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    found = {n: statistics.fmean(row[n] for row in rows if n in row) for n in names}
    found["largest_difference"] = max(row["largest_difference"] for row in rows)
    if found.get("proposed"):
        found["acceptance_rate"] = found["accepted"] / found["proposed"]
    if found.get("passes"):
        found["tokens_per_pass"] = found["said_tokens"] / found["passes"]
    return found
