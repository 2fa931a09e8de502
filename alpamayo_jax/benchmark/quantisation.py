"""What narrow number formats cost a policy: in metres, and in what it says."""

import dataclasses
from typing import Any, Callable, Iterable, Sequence

import jax
import numpy as np

from alpamayo_jax.coc.evidence import components_of
from alpamayo_jax.coc.intent import parse_intent
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.data.windows import observe
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.sample import sample
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.evaluate import evaluate
from alpamayo_jax.ops.number_formats import quantised_bytes
from alpamayo_jax.quantise import RECIPES, Ranges, cast_policy, make_recipe, quantise_policy
from alpamayo_jax.rl.rewards.reasoning import cause_agreement
from alpamayo_jax.types import Prediction

AS_TRAINED = "as trained"
PRECISIONS = ("bf16", *RECIPES)


def needs_ranges(precisions: Iterable[str]) -> bool:
    """Whether any of these quantises activations.

    Raises:
      ConfigError: an unknown precision.
    """
    unknown = [name for name in precisions if name not in PRECISIONS]
    if unknown:
        raise ConfigError(f"precision {unknown[0]!r} is unknown; known: {', '.join(PRECISIONS)}")
    return any(name in RECIPES and RECIPES[name].activations for name in precisions)


def variant(
    policy: Policy, precision: str, ranges: Ranges | None = None, percentile: float = 100.0
) -> Policy:
    """A policy in one of `PRECISIONS`."""
    if precision == "bf16":
        return cast_policy(policy, "bfloat16")
    return quantise_policy(policy, make_recipe(precision, percentile=percentile), ranges)


def compare(
    policy: Policy,
    source: ClipSource,
    windows: Sequence[Window],
    precisions: Sequence[str],
    *,
    settings: SampleSettings,
    ranges: Ranges | None = None,
    percentile: float = 100.0,
    seed: int = 0,
    batch_size: int = 8,
    num_frames: int = 4,
    progress: Callable[[str], None] = lambda name: None,
) -> list[dict[str, Any]]:
    """A row for the policy as trained, and one per precision, on the same windows and random keys.

    Columns:
      precision: of the row.
      weights_mib: all parameters, packed.
      min_ade_K: metres, best of K samples drawn as `settings` say; mean over the windows.
      ade: metres, of the first sample.
      moved_m: mean distance over the waypoints to the trajectory as trained, both with greedy
        reasoning and the same noise.
      tokens_same: share of greedy reasoning tokens that are those of the policy as trained, place by
        place.
      reasoning_same: share of windows whose whole greedy reasoning is.
      decisions_same: share of windows that state the same decisions.
      causes_same: how far they name the same causes, 0 to 1.

    Args:
      policy: as trained.
      source: the clips.
      windows: moments to compare on.
      precisions: of `PRECISIONS`.
      settings: K and how reasoning is sampled.
      ranges: of the activations, where a precision quantises them.
      percentile: of the inputs of a layer that its scale covers.
      seed: of reasoning and noise.
      batch_size: windows per program call.
      num_frames: per camera.
      progress: called with every precision before it is measured.
    """
    needs_ranges(precisions)
    rows, wanted = [], None
    for name in (AS_TRAINED, *precisions):
        progress(name)
        tried = policy if name == AS_TRAINED else variant(policy, name, ranges, percentile)
        mean = evaluate(
            tried, source, windows, settings=settings, seed=seed, batch_size=batch_size,
            num_frames=num_frames, score_trajectories=False, progress=False,
        ).mean()  # fmt: skip
        greedy = _greedy(tried, source, windows, settings, seed, batch_size, num_frames)
        wanted = greedy if wanted is None else wanted
        rows.append(
            {
                "precision": name,
                "weights_mib": quantised_bytes(tried.params) / 2**20,
                f"min_ade_{settings.num_samples}": mean["min_ade"],
                "ade": mean["ade"],
                **agreement(wanted, greedy),
            }
        )
        jax.clear_caches()  # every format is another program; none is used again
    return rows


def agreement(wanted: Sequence[Prediction], found: Sequence[Prediction]) -> dict[str, float]:
    """How far predictions say and do the same, window by window; first samples only."""
    columns: dict[str, list[float]] = {
        name: [] for name in
        ("moved_m", "tokens_same", "reasoning_same", "decisions_same", "causes_same")
    }  # fmt: skip
    for want, got in zip(wanted, found, strict=True):
        columns["moved_m"].append(np.linalg.norm(want.xyz[0] - got.xyz[0], axis=-1).mean())
        columns["tokens_same"].append(_tokens_same(want, got))
        said, says = want.reasoning[0], got.reasoning[0]
        columns["reasoning_same"].append(float(said == says))
        columns["decisions_same"].append(float(parse_intent(said) == parse_intent(says)))
        columns["causes_same"].append(cause_agreement(components_of(says), components_of(said)))
    return {name: float(np.mean(values)) for name, values in columns.items()}


def _tokens_same(want: Prediction, got: Prediction) -> float:
    """Places with the same token, of all up to the end of the longer one. Log-probabilities are 0
    on padding, so that they tell where a reasoning ends."""
    used = (want.token_logprobs[0] != 0) | (got.token_logprobs[0] != 0)
    length = int(np.flatnonzero(used).max(initial=-1)) + 1
    if not length:
        return 1.0
    return float((want.token_ids[0, :length] == got.token_ids[0, :length]).mean())


def _greedy(policy, source, windows, settings, seed, batch_size, num_frames) -> list[Prediction]:
    """One greedy sample of every window; window i has noise of its own, whatever the policy."""
    settings = dataclasses.replace(settings, num_samples=1, greedy=True)
    predictions: list[Prediction] = []
    for start in range(0, len(windows), batch_size):
        chosen = list(windows[start : start + batch_size])
        observations = [observe(source.clip(clip), t0, num_frames) for clip, t0 in chosen]
        # The last batch is filled up by repetition, so that one program serves all batches.
        filled = [observations[i % len(observations)] for i in range(batch_size)]
        seeds = [(seed + start + i) % 2**32 for i in range(batch_size)]
        predictions += sample(policy, filled, seed=seeds, settings=settings)[: len(chosen)]
    return predictions
