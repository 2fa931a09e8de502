"""From a reasoning trace to actions: the flow-matching expert on the samples' caches."""

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import Prefix
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.flow import samplers
from alpamayo_jax.layers.stack import Layers, are_separate
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.language import Context
from alpamayo_jax.types import Array


def expert_context(prefix: Prefix, generation: Generation) -> tuple[Context, Array]:
    """What the expert may look at, and where its waypoints stand.

    Waypoints follow `<|traj_future_start|>` directly; what was generated after it is masked. A
    sample without that token keeps everything generated but its last token, which has no keys and
    values, and its waypoints follow the whole sequence.

    Returns:
      The context, and int32 [B, K], the cache slot of the first waypoint.
    """
    slots = jnp.arange(generation.token_ids.shape[-1])
    has_end = generation.end_index >= 0
    cached = jnp.where(has_end, generation.end_index + 1, generation.num_tokens - 1)
    first = prefix.length + jnp.where(has_end, generation.end_index + 1, generation.num_tokens)
    context = [
        (prefix.cache, prefix.mask[:, None, None, :]),
        (generation.cache, (slots < cached[..., None])[..., None, :]),
    ]
    return context, first


def laid_out(context: Context, params: dict, config: ModelConfig) -> Context:
    """What `expert_context` gives, arranged once for all steps of the flow."""
    (shared, shared_mask), (own, own_mask) = context
    # Kernels read a shared prefix; without them one sample, alone with its prefix, has one product
    # per layer instead of two.
    if own.k.shape[2] == 1 and not config.kernels.wanted:
        join = lambda a, b: jnp.concatenate([a[:, :, None], b], axis=-2)  # noqa: E731
        mask = jnp.concatenate([shared_mask, own_mask], axis=-1)
        context = [(jax.tree.map(join, shared, own), mask)]
    if are_separate(params["expert"]):  # no layer is cut out of the cache again at every step
        context = [(jax.tree.map(Layers.of, cache), mask) for cache, mask in context]
    return context


def velocity_field(
    params: dict, prefix: Prefix, generation: Generation, config: ModelConfig, **stack
) -> samplers.Velocity:
    """velocity(x [B, K, W, 2], t [B, K, 1, 1]) for the given observations and their reasoning.

    `stack` are fields of `Alpamayo`: `remat`, `unroll`, `layout`.
    """
    model = Alpamayo(config, **stack)
    context, first = expert_context(prefix, generation)
    context = laid_out(context, params, config)
    waypoints = jnp.arange(config.action.n_waypoints)
    positions = (first + prefix.rope_delta[:, None])[..., None] + waypoints
    positions = jnp.broadcast_to(positions, (3, *positions.shape))

    def velocity(x, t):
        return model.apply(
            {"params": params}, x, t[..., 0, 0], positions, context, method="velocity"
        )

    return velocity


def recondition(
    params: dict, prefix: Prefix, generation: Generation, config: ModelConfig, **stack
) -> Generation:
    """The same generated tokens on another prefix, in one pass: the unconditional branch.

    `stack` are fields of `Alpamayo`: `remat`, `unroll`, `layout`.
    """
    batch, samples, size = generation.token_ids.shape
    offset = prefix.length + prefix.rope_delta[:, None, None] + jnp.arange(size)
    positions = jnp.broadcast_to(offset, (3, batch, samples, size))
    causal = jnp.tril(jnp.ones((1, 1, size, size), bool))
    _, cache = Alpamayo(config, **stack).apply(
        {"params": params}, generation.token_ids, positions, causal,
        [(prefix.cache, prefix.mask[:, None, None, :])], method="extend",
    )
    return generation.replace(cache=cache)


def sample_actions(
    params: dict,
    prefix: Prefix,
    generation: Generation,
    config: ModelConfig,
    settings: SampleSettings,
    noise: Array,
    *,
    unconditional: Prefix | None = None,
    return_all: bool = False,
) -> Array:
    """Integrates the flow from noise to normalised actions.

    Args:
      params: of the whole policy.
      prefix: the prompts.
      generation: the samples' reasoning.
      config: model.
      settings: steps and guidance.
      noise: float32 [B, K, W, 2], already scaled.
      unconditional: prompts without navigation, for guidance.
      return_all: every Euler state, [steps + 1, B, K, W, 2].

    Returns:
      float32 [B, K, W, 2].
    """
    velocity = velocity_field(params, prefix, generation, config)
    if unconditional is not None and settings.guidance_weight is not None:
        other = recondition(params, unconditional, generation, config)
        free = velocity_field(params, unconditional, other, config)
        velocity = samplers.guided(free, velocity, settings.guidance_weight)
    steps = settings.flow_steps or config.flow.num_inference_steps
    return samplers.euler(velocity, noise, steps, return_all=return_all)


def initial_noise(
    rng: jax.Array, batch: int, config: ModelConfig, settings: SampleSettings
) -> Array:
    """Standard normal noise [B, K, W, 2] times the temperature; sample k does not depend on K.

    `rng` is a key, or one per row [B].
    """
    if rng.ndim:
        return jax.vmap(lambda key: initial_noise(key, 1, config, settings)[0])(rng)
    temperature = settings.flow_temperature
    temperature = config.flow.temperature if temperature is None else temperature
    shape = (batch, config.action.n_waypoints, 2)

    def one(sample):
        return samplers.initial_noise(jax.random.fold_in(rng, sample), shape, temperature)

    return jax.vmap(one, out_axes=1)(jnp.arange(settings.num_samples))
