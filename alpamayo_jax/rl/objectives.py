"""Policy-gradient objectives over groups of completions, as objectives of a train step.

    paper     -sum_i softmax(beta A)_i (log pi(c_i) - kl KL_i) over every group (equation 10)
    grpo      the clipped ratio of every token times A, as released
    dr_grpo   the same, summed over a completion and divided by a constant
    gspo      the clipped ratio of a whole completion, exp(mean log ratio), times A

c_i are completions; A comes with the batch, see `rl.advantages`. What a KL and an entropy term add
is averaged in the same way. Actor "flow" trains the expert instead, see `rl.flow_objectives`.
"""

import functools

import jax.numpy as jnp

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.rl import surrogates
from alpamayo_jax.rl.completions import completion_logprobs
from alpamayo_jax.rl.flow_objectives import flow_objective
from alpamayo_jax.rl.types import RolloutBatch, RolloutSettings
from alpamayo_jax.settings import RLSettings
from alpamayo_jax.train.objective import Objective, Weights
from alpamayo_jax.types import Array

# Algorithm -> its own mean, the other means it can have, and the advantage it is defined with.
ALGORITHMS = {
    "paper": ("sum", ("token_mean", "sequence_mean"), "centred"),
    "grpo": ("token_mean", ("token_mean", "sequence_mean"), "standardised"),
    "dr_grpo": ("constant", (), "centred"),
    "gspo": ("sequence", (), "standardised"),
}
KL_ESTIMATORS = ("k1", "k3")


def advantage_kind(settings: RLSettings) -> str:
    """Which of `rl.advantages.ADVANTAGES` the algorithm is defined with.

    Raises:
      ConfigError: unknown algorithm.
    """
    if settings.algorithm not in ALGORITHMS:
        raise ConfigError(
            f"rl.algorithm {settings.algorithm!r} is unknown; known: {', '.join(ALGORITHMS)}"
        )
    return ALGORITHMS[settings.algorithm][2]


def check_settings(settings: RLSettings) -> str:
    """The mean that `settings` asks for, or the algorithm's own.

    Raises:
      ConfigError: an unknown name, a mean that the algorithm lacks, or a number out of range.
    """
    advantage_kind(settings)
    own, others, _ = ALGORITHMS[settings.algorithm]
    if settings.mean not in ("", own, *others):
        raise ConfigError(
            f"rl.mean {settings.mean!r} does not go with algorithm {settings.algorithm!r}; it has "
            f"{', '.join(dict.fromkeys((own, *others)))}"
        )
    if settings.kl_estimator not in KL_ESTIMATORS:
        known = ", ".join(KL_ESTIMATORS)
        raise ConfigError(f"rl.kl_estimator {settings.kl_estimator!r} is unknown; known: {known}")
    if not 0 <= settings.clip_low < 1 or settings.clip_high < 0:
        raise ConfigError(
            f"rl.clip_low {settings.clip_low} must be in [0, 1) and clip_high {settings.clip_high} "
            f"0 or more"
        )
    if settings.dual_clip and settings.dual_clip <= 1:
        raise ConfigError(f"rl.dual_clip {settings.dual_clip} must be above 1, or 0 for none")
    for knob in ("kl", "entropy", "beta"):
        if not 0 <= getattr(settings, knob) < float("inf"):
            raise ConfigError(f"rl.{knob} is {getattr(settings, knob)}, not 0 or more")
    return settings.mean or own


def make_rl_objective(
    settings: RLSettings, config: ModelConfig, rollouts: RolloutSettings, **stack
) -> Objective:
    """The objective of `settings` on a `RolloutBatch`.

    Its terms: `loss_policy`; `kl` where `settings.kl` is not 0, which needs `ref_logprobs`;
    `entropy` of the policy; `clip_fraction`, the share whose gradient the clip stops.

    Args:
      settings: what is minimised.
      config: model.
      rollouts: how the completions were drawn. With actor "flow" the expert's chain is trained and
        the language model is not.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Raises:
      ConfigError: see `check_settings`.
    """
    mean = check_settings(settings)
    coefficients = {"loss_policy": 1.0, "clip_fraction": 0.0}
    if settings.kl:
        coefficients["kl"] = settings.kl
    if rollouts.actor == "flow":
        return flow_objective(settings, config, rollouts, coefficients, stack)
    coefficients["entropy"] = -settings.entropy
    options = dict(settings=settings, mean=mean)
    return Objective(
        prepare=functools.partial(_prepare, names=tuple(coefficients), **options),
        values=functools.partial(
            _values, config=config, rollouts=rollouts, stack=stack, **options
        ),
        coefficients=coefficients,
    )


def token_weights(mask: Array, counts: Array, mean: str) -> Array:
    """How much a token or, of means over whole completions, a completion counts in the loss.

    Args:
      mask: bool [B, K, N], drawn tokens.
      counts: float32 [B, K], of completions.
      mean: "token_mean" over all tokens alike, "sequence_mean" over the completions' own means;
        "sum", "constant" and "sequence" over completions.

    Returns:
      float32 [B, K, N] for the first two, [B, K] for the others.
    """
    length = mask.sum(-1).astype(jnp.float32)
    counts = jnp.where(length > 0, counts, 0.0)
    if mean == "token_mean":
        return mask * counts[..., None]
    if mean == "sequence_mean":
        return mask * (counts / jnp.maximum(length, 1.0))[..., None]
    return counts


def _prepare(batch: RolloutBatch, rng, *, settings, mean, names) -> tuple[RolloutBatch, Weights]:
    del rng
    counts = batch.counts
    if settings.algorithm == "paper":
        counts = surrogates.softmax_weights(batch.advantages, counts, settings.beta)
    weights = token_weights(batch.mask, counts, mean)
    return batch, dict.fromkeys(names, weights)


def _values(params, batch: RolloutBatch, weights, *, config, rollouts, settings, mean, stack):
    logprobs, entropy = completion_logprobs(
        params, batch.inputs, batch.token_ids, batch.mask, config, rollouts, **stack
    )
    values = policy_terms(logprobs, entropy, batch, settings, mean)
    return {name: values[name] for name in weights}


def policy_terms(
    logprobs: Array, entropy: Array, batch: RolloutBatch, settings: RLSettings, mean: str
) -> dict[str, Array]:
    """Every term of the loss, shaped like `token_weights`.

    Args:
      logprobs: float32 [B, K, N], of the policy that trains.
      entropy: float32 [B, K, N].
      batch: the rest.
      settings: algorithm and numbers.
      mean: see `token_weights`.
    """
    advantage, mask = batch.advantages[..., None], batch.mask
    length = jnp.maximum(mask.sum(-1, keepdims=True), 1)

    def of_completions(values):
        """Tokens' values as the mean wants them."""
        values = jnp.where(mask, values, 0.0)
        if mean in ("token_mean", "sequence_mean"):
            return values
        size = {"sum": 1, "constant": mask.shape[-1], "sequence": length[..., 0]}[mean]
        return values.sum(-1) / size

    old = batch.old_logprobs
    if settings.algorithm == "gspo":
        shift = jnp.where(mask, logprobs - old, 0.0).sum(-1, keepdims=True) / length
        ratio = surrogates.probability_ratio(shift, 0.0)
    else:
        ratio = surrogates.probability_ratio(logprobs, old)
    clip = settings.clip_low, settings.clip_high
    if settings.algorithm == "paper":
        loss, clipped = -logprobs, jnp.zeros_like(logprobs)
    else:
        loss = surrogates.clipped_surrogate(ratio, advantage, *clip, settings.dual_clip)
        clipped = surrogates.is_clipped(ratio, advantage, *clip).astype(jnp.float32)
    loss, clipped = (jnp.broadcast_to(a, mask.shape) for a in (loss, clipped))
    terms = {"loss_policy": loss, "clip_fraction": clipped, "entropy": entropy}
    if settings.kl:
        terms["kl"] = surrogates.divergence(logprobs, batch.ref_logprobs, settings.kl_estimator)
    return {name: of_completions(values) for name, values in terms.items()}
