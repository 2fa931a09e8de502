"""Observation in, reasoning and trajectories out."""

import functools
from typing import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode import act, score
from alpamayo_jax.decode.generate import Generation, generate
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.prefix import Prefix, prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.speculative import Draft, Speculation, speculate
from alpamayo_jax.tokens.prompt import extract_text
from alpamayo_jax.tokens.vocabulary import special
from alpamayo_jax.types import (
    Array,
    InputError,
    ModelInputs,
    Observation,
    Prediction,
    Trajectory,
)


@flax.struct.dataclass
class SampleOutput:
    """What the compiled program returns for a batch.

    Attributes:
      generation: the reasoning.
      actions: float32 [B, K, W, 2].
      trajectory: poses, [B, K, W, ...].
      trajectory_logprob: float32 [B, K], or None.
      speculation: what the draft was good for; None without one.
    """

    generation: Generation
    actions: Array
    trajectory: Trajectory
    trajectory_logprob: Array | None
    speculation: Speculation | None = None


def sample_program(
    params: dict,
    inputs: ModelInputs,
    rng: jax.Array,
    config: ModelConfig,
    settings: SampleSettings,
    *,
    noise: Array | None = None,
    unconditional: ModelInputs | None = None,
    score_trajectories: bool = False,
) -> SampleOutput:
    """From pixels to trajectories: one prefill, the reasoning loop, the flow, the unicycle.

    A pure function; jit it with `config`, `settings` and `score_trajectories` static.

    Args:
      params: of the whole policy.
      inputs: a batch of prompts.
      rng: key of the reasoning and of the noise, or one per row [B].
      config: model.
      settings: sampling.
      noise: float32 [B, K, W, 2] to start the flow from, instead of drawing it.
      unconditional: the same prompts without navigation, for guidance.
      score_trajectories: also compute `trajectory_logprob`.
    """
    return drive_program(
        params,
        prefill(params, inputs, config),
        inputs,
        rng,
        config,
        settings,
        noise=noise,
        unconditional=None if unconditional is None else prefill(params, unconditional, config),
        score_trajectories=score_trajectories,
    )


def drive_program(
    params: dict,
    prefix: Prefix,
    inputs: ModelInputs,
    rng: jax.Array,
    config: ModelConfig,
    settings: SampleSettings,
    *,
    draft: Draft | None = None,
    noise: Array | None = None,
    unconditional: Prefix | None = None,
    score_trajectories: bool = False,
) -> SampleOutput:
    """What `sample_program` does after the prefill.

    Args:
      params: of the whole policy.
      prefix: the prefilled prompts.
      inputs: the prompts; only the ego histories are read.
      rng: as in `sample_program`.
      config: model.
      settings: sampling.
      draft: a guess of the reasoning, see `decode.speculative`.
      noise: as in `sample_program`.
      unconditional: the prefilled prompts without navigation, for guidance.
      score_trajectories: as in `sample_program`.
    """
    fold_in = jax.vmap(jax.random.fold_in, (0, None)) if rng.ndim else jax.random.fold_in
    rng_text, rng_noise = fold_in(rng, 0), fold_in(rng, 1)
    speculation = None
    if draft is None:
        generation = generate(params, prefix, config, settings, rng_text)
    else:
        generation, speculation = speculate(params, prefix, draft, config, settings, rng_text)
    batch = prefix.mask.shape[0]
    if noise is None:
        noise = act.initial_noise(rng_noise, batch, config, settings)
    actions = act.sample_actions(
        params, prefix, generation, config, settings, noise, unconditional=unconditional
    )

    def per_sample(history):
        return jnp.broadcast_to(
            jnp.asarray(history)[:, None], (batch, settings.num_samples, *history.shape[1:])
        )

    trajectory = unicycle.action_to_trajectory(
        actions,
        per_sample(inputs.ego_history_xyz),
        per_sample(inputs.ego_history_rot),
        config.action,
        bf16_constants=config.precision.bf16_buffers,
    )
    logprob = None
    if score_trajectories:
        logprob = score.trajectory_logprob(params, prefix, generation, config, actions)
    return SampleOutput(generation, actions, trajectory, logprob, speculation)


@functools.partial(jax.jit, static_argnames=("config", "settings", "score_trajectories"))
def _sample(params, inputs, rng, config, settings, unconditional=None, score_trajectories=False):
    out = sample_program(
        params,
        inputs,
        rng,
        config,
        settings,
        unconditional=unconditional,
        score_trajectories=score_trajectories,
    )
    # Keys and values are hundreds of megabytes that nobody reads on the host.
    return out.replace(generation=out.generation.replace(cache=None))


@functools.partial(jax.jit, static_argnames=("config", "settings"))
def _answer(params, inputs, rng, config, settings):
    prefix = prefill(params, inputs, config)
    return generate(params, prefix, config, settings, rng, answer=True)


def sample(
    policy: Policy,
    observations: Observation | Sequence[Observation],
    num_samples: int = 6,
    seed: int | Sequence[int] = 0,
    *,
    settings: SampleSettings | None = None,
    score_trajectories: bool = False,
) -> Prediction | list[Prediction]:
    """Draws reasoning traces and trajectories for one observation, or for several at once.

    Args:
      policy: from `load_policy`.
      observations: one observation, or a sequence to run as one batch.
      num_samples: K per observation; ignored when `settings` is given.
      seed: of the reasoning and the noise; or one for each of several observations, which then
        are drawn as each would be alone. 0 to 2^32 - 1.
      settings: everything else that can be chosen.
      score_trajectories: also return how likely the language model finds each trajectory.

    Returns:
      A `Prediction`, or a list of them for a sequence.

    Raises:
      InputError: an observation is malformed, guidance is asked for without navigation text, or
        there are not as many seeds as observations.
    """
    settings = settings or SampleSettings(num_samples=num_samples)
    single = isinstance(observations, Observation)
    batch = [observations] if single else list(observations)
    if not isinstance(seed, int) and len(seed) != len(batch):
        raise InputError(f"{len(seed)} seeds for {len(batch)} observations; give one seed, or as many")
    inputs = policy.processor.inputs(batch, pad_to="bucket")
    unconditional = None
    if settings.guidance_weight is not None:
        missing = [o.clip_id for o in batch if not o.navigation]
        if missing:
            raise InputError(
                f"guidance needs navigation text; observation(s) of clip(s) {missing} have none"
            )
        unconditional = policy.processor.inputs(
            [policy.processor.without_navigation(o) for o in batch], pad_to="bucket"
        )
    out = _sample(
        policy.params,
        inputs,
        _keys(seed),
        policy.config,
        settings,
        unconditional,
        score_trajectories,
    )
    out = jax.tree.map(np.asarray, out)
    predictions = [prediction_of(policy, out, row) for row in range(len(batch))]
    return predictions[0] if single else predictions


def _keys(seed: int | Sequence[int]) -> jax.Array:
    if isinstance(seed, int):
        return jax.random.key(seed)
    return jax.vmap(jax.random.key)(jnp.asarray(np.asarray(seed, np.uint32)))


def prediction_of(policy: Policy, out: SampleOutput, row: int) -> Prediction:
    """One row of what a program returned, as arrays and text on the host."""
    generation = out.generation
    texts = [policy.tokenizer.decode(ids) for ids in generation.token_ids[row]]
    logprob = out.trajectory_logprob
    return Prediction(
        xyz=out.trajectory.xyz[row],
        rot=out.trajectory.rot[row],
        actions=out.actions[row],
        reasoning=tuple(extract_text(text, "cot") for text in texts),
        meta_action=tuple(extract_text(text, "meta_action") for text in texts),
        token_ids=generation.token_ids[row],
        token_logprobs=generation.logprobs[row],
        reasoning_logprob=generation.logprobs[row].sum(-1),
        ended=generation.end_index[row] >= 0,
        trajectory_logprob=None if logprob is None else logprob[row],
    )


def answer(
    policy: Policy,
    observation: Observation,
    num_samples: int = 1,
    seed: int = 0,
    *,
    settings: SampleSettings | None = None,
) -> list[str]:
    """Answers `observation.question` in text (Alpamayo 1.5); K answers.

    Raises:
      InputError: the observation has no question.
    """
    if not observation.question:
        raise InputError(f"observation of clip {observation.clip_id!r} has no question")
    settings = settings or SampleSettings(num_samples=num_samples)
    inputs = policy.processor.inputs([observation], pad_to="bucket", mode="answer")
    generation = _answer(
        policy.params, inputs, jax.random.key(seed), policy.config, settings
    )
    eos, pad = policy.config.text_tokens.eos_token_id, policy.config.text_tokens.pad_token_id
    answers = []
    for ids in np.asarray(generation.token_ids[0]):
        text = policy.tokenizer.decode([i for i in ids if i not in (eos, pad)])
        answers.append(text.split(special("answer_end"))[0].strip())
    return answers
