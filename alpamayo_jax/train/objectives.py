"""What is trained, as objectives (params, batch, rng) -> (loss, metrics), pure and jit-able.

Stage 1 teaches the language model discrete trajectory tokens beside text, stage 2 Chain-of-Causation
reasoning, meta-actions and trajectories, and answering trains question and answer: all are the
cross-entropy of the labelled tokens of conversations, and the conversations differ. The action expert
learns the flow on the language model's cache, whose gradient is stopped, alone or jointly with the
tokens (paper, sections 5.1 and 5.2).
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError, ModelConfig
from alpamayo_jax.flow import matching
from alpamayo_jax.layout import place
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.losses import chunked_cross_entropy, masked_mean, token_cross_entropy
from alpamayo_jax.tokens.vocabulary import special_token_id
from alpamayo_jax.train import rendering
from alpamayo_jax.train.objective import Metrics, Objective, Weights
from alpamayo_jax.train.targets import fused_ids, future_actions, token_weights
from alpamayo_jax.types import Array, KVCache, ModelInputs

TOKEN_MEANS = {
    "two_means": {"loss_future_traj": 1.0, "loss_others": 1.0},
    "one_mean": {"loss_tokens": 1.0},
}
LOGITS_CHUNK = 512  # positions whose logits are held at a time


@flax.struct.dataclass
class Examples:
    """A batch with everything that needs no parameters done.

    Attributes:
      inputs: conversations, trajectory ids in place of the placeholders.
      noisy: float32 [B, K, W, 2], points on the flow's path; None where no flow is trained.
      time: float32 [B, K].
      velocity: float32 [B, K, W, 2], what the expert should say there.
      rays: of the input images, with their colours; None where nothing is rendered.
    """

    inputs: ModelInputs
    noisy: Array | None = None
    time: Array | None = None
    velocity: Array | None = None
    rays: rendering.Rays | None = None


def token_losses(logits: Array, ids: Array, labels_mask: Array, config: ModelConfig) -> Metrics:
    """Mean next-token cross-entropy of each kind of `token_weights`; 0 where there is no such token.

    Args:
      logits: float32 [B, T, V].
      ids: int32 [B, T], fused.
      labels_mask: bool [B, T].
      config: says which ids are trajectory ids.
    """
    values = token_cross_entropy(logits[:, :-1], ids[:, 1:])
    weights = token_weights(ids, labels_mask, config)
    return {name: masked_mean(values, mask) for name, mask in weights.items()}


def conversation_logits(
    params: dict, inputs: ModelInputs, ids: Array, config: ModelConfig, **stack
) -> Array:
    """Logits float32 [B, T, V] of whole conversations with fused ids [B, T]."""
    model = Alpamayo(config, **stack)
    hidden, _ = model.apply({"params": params}, inputs, ids, method="prefill")
    return model.apply({"params": params}, hidden, method="logits")


def expert_velocity(
    params: dict,
    inputs: ModelInputs,
    ids: Array,
    x: Array,
    t: Array,
    config: ModelConfig,
    **stack,
) -> Array:
    """The velocity at noisy actions, after the teacher-forced conversation up to the future.

    Args:
      params: of the whole policy.
      inputs: conversations.
      ids: int32 [B, T], fused.
      x: float32 [B, K, W, 2], K noisy versions of each row's actions.
      t: float32 [B, K].
      config: model.
      **stack: fields of `Alpamayo`.

    Returns:
      float32 [B, K, W, 2].
    """
    _, cache = Alpamayo(config, **stack).apply({"params": params}, inputs, ids, method="prefill")
    return velocity_on_cache(params, cache, inputs, ids, x, t, config, **stack)


def velocity_on_cache(
    params: dict,
    cache: KVCache,
    inputs: ModelInputs,
    ids: Array,
    x: Array,
    t: Array,
    config: ModelConfig,
    **stack,
) -> Array:
    """As `expert_velocity`, on the cache of the whole conversation, whose gradient is stopped.

    The waypoints see each other and every real token up to `<|traj_future_start|>`, as they do when
    sampling.
    """
    cache = jax.lax.stop_gradient(cache)
    # The last start token of each row: a reasoning text cannot contain one.
    slots = jnp.arange(ids.shape[1])
    is_start = ids == special_token_id(config, "traj_future_start")
    cut = jnp.max(jnp.where(is_start, slots, -1), axis=-1) + 1
    mask = inputs.attention_mask & (slots < cut[:, None])
    if inputs.prefix is not None:  # the flow is that of the last conversation
        own = jnp.take_along_axis(inputs.prefix, cut[:, None] - 1, axis=1)
        mask &= (inputs.prefix >= 0) | (inputs.prefix == own)
    positions = (cut + inputs.rope_delta)[:, None] + jnp.arange(config.action.n_waypoints)
    positions = jnp.broadcast_to(positions[:, None], (3, *x.shape[:-1]))
    return Alpamayo(config, **stack).apply(
        {"params": params}, x, t, positions, [(cache, mask[:, None, None, :])], method="velocity"
    )


def token_objective(
    config: ModelConfig,
    *,
    mean: str = "two_means",
    render_weight: float = 0.0,
    rays_per_row: int = 256,
    **stack,
) -> Objective:
    """Stages 1 and 2 and answering: cross-entropy on the labelled tokens of whole conversations.

    Args:
      config: model.
      mean: "two_means" adds the means over trajectory tokens and over the others, as the released
        stage 1 does; "one_mean" is the mean over all labelled tokens.
      render_weight: of the loss of rendering the input images from a triplane; 0: not rendered.
      rays_per_row: rays per conversation that are.
      **stack: fields of `Alpamayo`: `remat`, `unroll`, `layout`.

    Raises:
      ConfigError: unknown `mean`, or rendering without a triplane or rays.
    """
    coefficients = dict(_coefficients(mean))
    rays = _rays(config, coefficients, render_weight, rays_per_row)
    return _objective(config, coefficients, None, stack, rays)


def expert_objective(config: ModelConfig, *, noises_per_row: int = 1, **stack) -> Objective:
    """The action expert by conditional flow matching (equation 8 of the paper).

    Conversations without a future do not count.

    Args:
      config: model.
      noises_per_row: noise and time draws per conversation; they share its prefill.
      **stack: as in `token_objective`.
    """
    return _objective(config, {"loss_flow": 1.0}, noises_per_row, stack)


def joint_objective(
    config: ModelConfig,
    *,
    mean: str = "one_mean",
    noises_per_row: int = 1,
    flow_weight: float = 1.0,
    token_weight: float = 1.0,
    render_weight: float = 0.0,
    rays_per_row: int = 256,
    **stack,
) -> Objective:
    """Tokens and flow together, on one pass of the language model.

    The flow does not reach the language model: its gradient stops at the cache.

    Args:
      config: model.
      mean: as in `token_objective`; the release's joint training has "one_mean".
      noises_per_row: as in `expert_objective`.
      flow_weight: of the flow's loss.
      token_weight: of the tokens' loss.
      render_weight, rays_per_row: as in `token_objective`.
      **stack: as in `token_objective`.

    Raises:
      ConfigError: as `token_objective`.
    """
    weights = {name: token_weight * c for name, c in _coefficients(mean).items()}
    rays = _rays(config, weights, render_weight, rays_per_row)
    return _objective(config, {"loss_flow": flow_weight, **weights}, noises_per_row, stack, rays)


def render_objective(config: ModelConfig, *, rays_per_row: int = 256, **stack) -> Objective:
    """Self-supervised pretraining of the triplane: rendering the input images from the planes.

    Args:
      config: model, with compressor "triplane".
      rays_per_row: rays per conversation and step.
      **stack: as in `token_objective`.

    Raises:
      ConfigError: the model has no triplane, or no ray.
    """
    coefficients: dict[str, float] = {}
    rays = _rays(config, coefficients, 1.0, rays_per_row)
    return _objective(config, coefficients, None, stack, rays)


OBJECTIVES = {
    "tokens": token_objective,
    "expert": expert_objective,
    "joint": joint_objective,
    "render": render_objective,
}


def make_objective(name: str, config: ModelConfig, **options) -> Objective:
    """The objective called `name`.

    Raises:
      ConfigError: unknown name.
    """
    if name not in OBJECTIVES:
        raise ConfigError(f"objective {name!r} is unknown; known: {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](config, **options)


def _coefficients(mean: str) -> dict[str, float]:
    if mean not in TOKEN_MEANS:
        raise ConfigError(f"token mean {mean!r} is unknown; known: {', '.join(TOKEN_MEANS)}")
    return TOKEN_MEANS[mean]


def _rays(config: ModelConfig, coefficients: dict[str, float], weight: float, count: int) -> int:
    """Adds the term of rendering to `coefficients`; returns the rays per row, 0 for none."""
    if not weight:
        return 0
    rendering.check(config, count)
    coefficients["loss_render"] = weight
    return count


def _objective(
    config: ModelConfig,
    coefficients: dict[str, float],
    noises: int | None,
    stack: dict,
    rays: int = 0,
) -> Objective:
    tokens = bool(set(coefficients) - {"loss_flow", "loss_render"})
    return Objective(
        prepare=functools.partial(
            _prepare,
            config=config,
            tokens=tokens,
            noises=noises,
            layout=stack.get("layout"),
            rays=rays,
        ),
        values=functools.partial(_values, config=config, tokens=tokens, stack=stack),
        coefficients=coefficients,
    )


def _prepare(batch, rng, *, config, tokens, noises, layout, rays) -> tuple[Examples, Weights]:
    actions = future_actions(batch, config, layout)
    ids = fused_ids(batch, actions, config, layout)
    examples, weights = Examples(inputs=batch.inputs.replace(input_ids=ids)), {}
    if tokens:
        weights |= token_weights(ids, batch.labels_mask, config)
    if noises is not None:
        pair = matching.sample_pair(rng, jnp.repeat(actions[:, None], noises, 1), config.flow)
        examples = examples.replace(noisy=pair.x_t, time=pair.t[..., 0, 0], velocity=pair.target)
        has_future = (ids == special_token_id(config, "traj_future_start")).any(-1)
        weights["loss_flow"] = jnp.repeat(has_future[:, None], noises, 1)
    if rays:
        drawn = rendering.draw_rays(batch.inputs, config, rays, jax.random.fold_in(rng, 1))
        examples = examples.replace(rays=drawn)
        weights["loss_render"] = drawn.valid
    return examples, weights


def _values(params, examples, weights, *, config, tokens, stack) -> dict[str, Array]:
    model, inputs = Alpamayo(config, **stack), examples.inputs
    ids, values, scene = inputs.input_ids, {}, None
    if examples.rays is not None:
        values["loss_render"], scene = rendering.render_loss(params, examples.rays, inputs, model)
        if not tokens and examples.noisy is None:
            return values
    hidden, cache = model.apply({"params": params}, inputs, ids, scene, method="prefill")
    if tokens:
        hidden = place(hidden, stack.get("layout"), "batch", None, "act_embed")
        nll = chunked_cross_entropy(
            lambda h: model.apply({"params": params}, h, method="logits"),
            hidden[:, :-1],
            ids[:, 1:],
            weights["loss_tokens"],
            LOGITS_CHUNK,
        )
        values |= dict.fromkeys(("loss_future_traj", "loss_others", "loss_tokens"), nll)
    if examples.noisy is not None:
        got = velocity_on_cache(
            params, cache, inputs, ids, examples.noisy, examples.time, config, **stack
        )
        values["loss_flow"] = jnp.mean(jnp.square(got - examples.velocity), axis=(-2, -1))
    return values
