"""Parameters of a configuration: random ones, or only their shapes."""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.types import ModelInputs


def example_inputs(config: ModelConfig) -> tuple[ModelInputs, jax.Array, jax.Array]:
    """The smallest arguments of `Alpamayo.__call__`: one row, one image of one token."""
    vision, history = config.vision, config.trajectory_tokens.num_history_steps
    merge = vision.spatial_merge_size
    inputs = ModelInputs(
        input_ids=jnp.zeros((1, 2), jnp.int32),
        attention_mask=jnp.ones((1, 2), bool),
        position_ids=jnp.zeros((3, 1, 2), jnp.int32),
        rope_delta=jnp.zeros((1,), jnp.int32),
        image_index=jnp.array([[0, -1]], jnp.int32),
        pixel_values=jnp.zeros((1, 1, vision.merge_unit, vision.patch_dim), jnp.float32),
        image_grid=jnp.full((1, 1, 2), merge, jnp.int32),
        camera_index=jnp.ones((1, 1), jnp.int32),
        frame_time=jnp.zeros((1, 1), jnp.float32),
        ego_history_xyz=jnp.zeros((1, history, 3), jnp.float32),
        ego_history_rot=jnp.zeros((1, history, 3, 3), jnp.float32),
    )
    return inputs, jnp.zeros((1, config.action.n_waypoints, 2)), jnp.zeros((1,))


@functools.partial(jax.jit, static_argnums=0)
def init_params(config: ModelConfig, rng: jax.Array) -> dict:
    """Random parameters, as a plain nested dict: unit embeddings, kernels scaled by their fan-in.

    Trajectory bins are points on a line, so their rows of the embedding and of the output projection
    start on a smooth random curve: neighbouring bins begin alike, and a small set of drives teaches
    all of them. Trained checkpoints replace every row.
    """
    params = Alpamayo(config).init(rng, *example_inputs(config))["params"]
    vlm, tokens = params["vlm"], config.trajectory_tokens
    embed = vlm["language_model"]["embed_tokens"]
    starts = (
        (tokens.traj_token_start_idx, tokens.num_future_bins),
        (tokens.history_start_idx, tokens.num_history_bins),
    )
    for i, (start, count) in enumerate(starts):
        bins, table = slice(start, start + count), embed["embedding"]
        rows = bin_curve(jax.random.fold_in(rng, 2 * i), count, table.shape[1])
        embed["embedding"] = table.at[bins].set(rows.astype(table.dtype))
        if "lm_head" in vlm:
            kernel = vlm["lm_head"]["kernel"]
            columns = bin_curve(
                jax.random.fold_in(rng, 2 * i + 1), count, kernel.shape[0], kernel.shape[0] ** -0.5
            )
            vlm["lm_head"]["kernel"] = kernel.at[:, bins].set(columns.T.astype(kernel.dtype))
    return params


def bin_curve(
    rng: jax.Array, count: int, width: int, scale: float = 1.0, cycles: float = 64.0
) -> jax.Array:
    """`count` points on a smooth random curve, float32 [count, width].

    Every coordinate is a wave over the bins, of random phase and of 1/4 to `cycles` periods (evenly
    spread in the logarithm; at least 8 bins a period), with root mean square `scale`.
    """
    cycles = min(cycles, count / 8)
    rate_rng, phase_rng = jax.random.split(rng)
    spread = jax.random.uniform(rate_rng, (width,))
    rate = 0.25 * (cycles / 0.25) ** spread
    phase = jax.random.uniform(phase_rng, (width,), maxval=2 * jnp.pi)
    at = jnp.arange(count)[:, None] / count
    return scale * jnp.sqrt(2.0) * jnp.cos(2 * jnp.pi * rate * at + phase)


def param_shapes(config: ModelConfig) -> dict:
    """Shapes and types of all parameters; nothing is computed or allocated."""
    model = Alpamayo(config)
    example = jax.eval_shape(lambda: example_inputs(config))
    return jax.eval_shape(
        lambda key, args: model.init(key, *args)["params"], jax.random.key(0), example
    )
