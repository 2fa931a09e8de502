"""A stage of reinforcement learning from its settings: training, and what measures it."""

import dataclasses
import functools
from typing import Callable, Iterator

import jax
import numpy as np

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.data.sources import spread
from alpamayo_jax.rl.completions import completion_logprobs
from alpamayo_jax.rl.evaluate import evaluate_rewards
from alpamayo_jax.rl.experience import Experience, Reference, Rollout
from alpamayo_jax.rl.flow_objectives import chain_logprobs
from alpamayo_jax.rl.guard import Guard
from alpamayo_jax.rl.objectives import make_rl_objective
from alpamayo_jax.rl.prompts import Prompts
from alpamayo_jax.rl.rewards.total import TotalReward
from alpamayo_jax.rl.sampler import Sampler
from alpamayo_jax.rl.types import FlowChain, RolloutBatch, RolloutSettings
from alpamayo_jax.settings import (
    DataSettings,
    MeshSettings,
    PrecisionSettings,
    RLSettings,
    StageSettings,
)
from alpamayo_jax.sharding import AxisRules, batch_shardings
from alpamayo_jax.train import lora
from alpamayo_jax.train.assemble import Parts, Start, Windows, global_shapes, prepare
from alpamayo_jax.train.run import Training
from alpamayo_jax.train.stages import check_stage
from alpamayo_jax.train.step import make_train_step

# Objective of a stage -> who acts, and the objective of supervised training that trains the same.
ACTORS = {"grpo": ("tokens", "tokens"), "grpo_expert": ("flow", "expert")}

# Numbers folded into the key of a stage.
_ROLLOUTS, _MEASURE = 2**30, 2**30 + 1


@dataclasses.dataclass(frozen=True)
class Learning:
    """A stage of reinforcement learning.

    Attributes:
      training: as any stage has.
      params: makes the parameters that it begins with, where they belong.
      measure: parameters (of a state) -> means of rewards on the held-out windows, see
        `evaluate_rewards`.
    """

    training: Training
    params: Callable[[], dict]
    measure: Callable[[dict], dict[str, float]]


class Experiences:
    """What `Training.batches` is here: each `iter` begins anew and is the one that is asked."""

    def __init__(self, make: Callable[[], Experience]):
        self._make = make
        self.current: Experience | None = None

    def __iter__(self) -> Iterator[RolloutBatch]:
        self.current = self._make()
        return self.current


def make_learning(
    name: str,
    stage: StageSettings,
    rl: RLSettings,
    reward: TotalReward,
    start: Start,
    train: Windows,
    data: DataSettings,
    *,
    held_out: Windows,
    mesh: MeshSettings = MeshSettings(),
    precision: PrecisionSettings = PrecisionSettings(),
    watch: Callable[[Rollout], None] | None = None,
    progress: bool = True,
) -> Learning:
    """Parts that fit each other.

    Args:
      name: of the stage, for messages.
      stage: what is trained, and how; its objective is one of `ACTORS`.
      rl: rollouts, and what is learned from their rewards.
      reward: scores samples.
      start: policy and seed.
      train: what to roll out on.
      data: how prompts are made.
      held_out: windows to measure on.
      mesh: devices.
      precision: number formats while training.
      watch: told of every rollout.
      progress: show a bar while measuring.

    Raises:
      ConfigError: settings that do not fit each other or the devices.
    """
    check_learning(name, stage, rl, start.policy.config)
    actor, twin = ACTORS[stage.objective]
    parts = prepare(name, dataclasses.replace(stage, objective=twin), start, mesh, precision)
    rollouts = rollout_settings(rl, actor)
    options = dict(layout=parts.layout, shard=parts.shard, copy_params=rl.copy_params)
    sampler = Sampler(parts.model, rollouts, **options)
    objective = make_rl_objective(
        rl, parts.model, rollouts, remat=stage.remat, layout=parts.layout
    )
    prompts, tested = (
        Prompts(
            windows.source,
            windows.windows,
            start.policy.processor,
            seed=start.seed,
            num_frames=data.num_frames,
            pad_to=rl.prompt_length or data.max_length,
            components=stage.components,
        )
        for windows in (train, held_out)
    )
    rng = jax.random.fold_in(jax.random.key(start.seed), _ROLLOUTS)
    experiences = Experiences(
        functools.partial(
            Experience,
            prompts,
            sampler,
            reward,
            rl,
            batch_size=stage.batch_size // parts.shard[1],
            rng=rng,
            reference=_reference(parts, stage, rollouts, sampler) if rl.kl else None,
            watch=watch,
        )
    )
    batch_where = None
    if parts.devices is not None:
        example = _example(prompts, parts, rl, rollouts, stage.batch_size // parts.shard[1])
        shapes = global_shapes(example, parts.shard[1])
        batch_where = batch_shardings(shapes, parts.devices, AxisRules())
    training = Training(
        name=name,
        step=make_train_step(
            objective,
            parts.optimiser,
            accumulate=stage.accumulate,
            ema_decay=stage.ema_decay or None,
            compute_dtype=parts.model.precision.compute,
            shardings=None if parts.devices is None else parts.where,
            batch_sharding=batch_where,
        ),
        create=parts.create,
        like=parts.like,
        batches=experiences,
        place=sampler.place,
        windows=lambda number: experiences.current.described(number),
        num_steps=stage.steps,
        rng=rng,
        validate=lambda state: experiences.current.cost(),
    )
    judge = Sampler(
        parts.model, dataclasses.replace(rollouts, num_samples=rl.eval_samples), **options
    )
    chosen = spread(held_out.windows, rl.eval_windows)

    def measure(params: dict) -> dict[str, float]:
        key = jax.random.fold_in(jax.random.key(start.seed), _MEASURE)
        size = stage.batch_size * rl.batches_per_rollout * rl.oversample
        return evaluate_rewards(
            judge, params, tested, chosen, reward, batch_size=size, rng=key, progress=progress
        )

    return Learning(training, parts.params, measure)


def check_learning(name: str, stage: StageSettings, rl: RLSettings, model: ModelConfig) -> None:
    """Refuses settings that make no sense, before time is spent.

    Raises:
      ConfigError: names the stage or the setting.
    """
    if stage.objective not in ACTORS:
        raise ConfigError(f"{name}.objective {stage.objective!r} is not one of {', '.join(ACTORS)}")
    least = {
        "num_samples": 2,
        "batches_per_rollout": 1,
        "epochs": 1,
        "prompt_length": 0,
        "oversample": 1,
        "guard_steps": 0,
        "eval_windows": 0,
        "eval_samples": 1,
        "picture_every": 0,
    }
    for knob, lowest in least.items():
        if getattr(rl, knob) < lowest:
            raise ConfigError(f"rl.{knob} is {getattr(rl, knob)}, not {lowest} or more")
    if not 0 <= rl.share_random <= 1:
        raise ConfigError(f"rl.share_random is {rl.share_random}, not a share from 0 to 1")
    if not (rl.temperature > 0 and 0 < rl.top_p <= 1):
        raise ConfigError(
            f"rl.temperature {rl.temperature} must be above 0 and rl.top_p {rl.top_p} in (0, 1]"
        )
    Guard.from_settings(rl)
    actor, twin = ACTORS[stage.objective]
    check_stage(name, dataclasses.replace(stage, objective=twin), model)
    make_rl_objective(rl, model, rollout_settings(rl, actor), remat=stage.remat)


def rollout_settings(rl: RLSettings, actor: str) -> RolloutSettings:
    """How `rl` samples; `actor` is "tokens" or "flow"."""
    return RolloutSettings(
        actor=actor,
        num_samples=rl.num_samples,
        max_reasoning_tokens=rl.max_reasoning_tokens,
        temperature=rl.temperature,
        top_p=rl.top_p,
        constrained=rl.constrained,
        flow_noise=rl.flow_noise,
        flow_steps=rl.flow_steps or None,
    )


def _reference(
    parts: Parts, stage: StageSettings, settings: RolloutSettings, sampler: Sampler
) -> Reference:
    """Log-probabilities under the policy that the stage began with.

    With adapters that policy is in the same arrays, with the adapters off; without, it is a copy.
    """
    initial = functools.cache(lambda: sampler.ready(parts.params()))

    @jax.jit
    def logprobs(params, batch):
        options = (parts.model, settings)
        if batch.flow is None:
            inputs = batch.inputs, batch.token_ids, batch.mask
            return completion_logprobs(params, *inputs, *options, layout=parts.layout)[0]
        inputs = batch.inputs, batch.token_ids, batch.flow.states
        return chain_logprobs(params, *inputs, *options, layout=parts.layout)

    def reference(params: dict, kept: RolloutBatch) -> RolloutBatch:
        first = sampler.ready(lora.switched_off(params)) if stage.lora_rank else initial()
        found = sampler.fetch(logprobs(first, sampler.place(kept)))
        if kept.flow is None:
            return kept.replace(ref_logprobs=found)
        return kept.replace(flow=kept.flow.replace(ref_logprobs=found))

    return reference


def _example(
    prompts: Prompts, parts: Parts, rl: RLSettings, settings: RolloutSettings, rows: int
) -> RolloutBatch:
    """A batch of this process with the right shapes and types."""
    situations = [prompts.situation(window) for window in prompts.windows(0, rows)]
    tokens = (rows, rl.num_samples, settings.completion_length(parts.model))
    logprobs, group = np.zeros(tokens, np.float32), np.zeros(tokens[:2], np.float32)
    flow, kl = None, rl.kl > 0
    if settings.actor == "flow":
        steps = settings.flow_steps or parts.model.flow.num_inference_steps
        chain = np.zeros((*tokens[:2], steps), np.float32)
        states = (*tokens[:2], steps + 1, parts.model.action.n_waypoints, 2)
        flow = FlowChain(np.zeros(states, np.float32), chain, chain if kl else None)
    return RolloutBatch(
        inputs=prompts.inputs(situations),
        token_ids=np.zeros(tokens, np.int32),
        mask=np.zeros(tokens, bool),
        old_logprobs=logprobs,
        ref_logprobs=logprobs if kl and flow is None else None,
        advantages=group,
        counts=group,
        flow=flow,
    )

