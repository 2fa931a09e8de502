"""Suite "rl": rollouts per second, a group on one shared prefill beside independent samples."""

import dataclasses
from typing import Any, Callable

import jax

from alpamayo_jax.benchmark.timing import alternate
from alpamayo_jax.benchmark.train import Case
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.init import init_params
from alpamayo_jax.rl.rollout import make_rollout
from alpamayo_jax.rl.types import RolloutSettings
from alpamayo_jax.testing.tiny import random_inputs
from alpamayo_jax.types import ModelInputs


@dataclasses.dataclass(frozen=True)
class RolloutCase:
    """One model and its prompts.

    Attributes:
      model: its sizes, prompts per batch (`rows`), images and tokens of a prompt (`length`).
      num_samples: K.
      reasoning: tokens of a sample's reasoning; random weights hardly ever end it before.
    """

    model: Case
    num_samples: int = 12
    reasoning: int = 16


def cases(backend: str) -> tuple[RolloutCase, ...]:
    """What the suite measures by default: on a CPU, a model of the 0.5B width with few layers."""
    if backend == "cpu":
        few = dict(layers=2, text_ids=4096, compute="float32")
        paper = Case("paper_0p5b", rows=1, images=1, grid=(20, 36), length=320, **few)
        return RolloutCase(Case("tiny", rows=1, length=320)), RolloutCase(paper)
    full = Case("paper_0p5b", rows=4, images=16, grid=(20, 36), length=3328)
    return RolloutCase(Case("tiny", rows=1, length=320)), RolloutCase(full)


def run(chosen: tuple[RolloutCase, ...], *, rounds: int = 3, seed: int = 0) -> dict[str, Any]:
    """Measures cases one after the other.

    Every sample has a whole trajectory. Independent samples are K programs of
    one sample per prompt, each with its own prefill, one after the other, as K requests would be.

    Args:
      chosen: what to measure.
      rounds: repetitions that count.
      seed: of weights and prompts.

    Returns:
      phases: "CASE/rollouts" -> what `Times.row` says of one batch, `rollouts_per_second`, the same
      of `independent` samples, and `speedup`, the ratio of the medians.
    """
    rows = {case.model.name: _measure(case, rounds, seed) for case in chosen}
    return {"phases": {f"{name}/rollouts": row for name, row in rows.items()}}


def _measure(case: RolloutCase, rounds: int, seed: int) -> dict[str, Any]:
    config = case.model.config()
    params = init_params(config, jax.random.key(seed))
    inputs = jax.device_put(make_prompts(case, config, seed))
    group = RolloutSettings(
        num_samples=case.num_samples,
        max_reasoning_tokens=case.reasoning,
        constrained=True,
        force_end=True,
    )
    # One program for a group, K runs of another for independent samples.
    shared = _call(config, group, params, inputs, 1)
    alone = _call(
        config, dataclasses.replace(group, num_samples=1), params, inputs, case.num_samples
    )
    times = alternate({"shared": shared, "independent": alone}, rounds)
    samples = case.model.rows * case.num_samples
    row = times["shared"].row()
    return row | {
        "rollouts_per_second": samples / times["shared"].median,
        "independent": times["independent"].row(),
        "independent_per_second": samples / times["independent"].median,
        "speedup": times["independent"].median / times["shared"].median,
        "tokens": group.completion_length(config),
        "case": dataclasses.asdict(case),
    }


def _call(
    config: ModelConfig, settings: RolloutSettings, params: dict, inputs: ModelInputs, times: int
) -> Callable[[], None]:
    program, keys = make_rollout(config, settings), jax.random.split(jax.random.key(0), times)

    def call() -> None:
        for key in keys:
            jax.block_until_ready(program(params, inputs, key).num_tokens)

    return call


def make_prompts(case: RolloutCase, config: ModelConfig, seed: int) -> ModelInputs:
    """Random prompts of exactly `length` tokens; longer ones where images alone are longer."""
    grids = ((case.model.grid,) * case.model.images,) * case.model.rows
    shortest = random_inputs(config, grids[:1], num_text=0, seed=seed).input_ids.shape[1]
    text = max(case.model.length - shortest, 0)
    return random_inputs(config, grids, num_text=text, seed=seed)

