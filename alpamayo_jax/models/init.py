"""Parameters of a configuration: random ones, or only their shapes."""

import functools

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.models.scene import cameras_of, make_compressor
from alpamayo_jax.ops.lens import absent_lens
from alpamayo_jax.types import ModelInputs


def example_inputs(config: ModelConfig) -> tuple[ModelInputs, jax.Array, jax.Array]:
    """The smallest arguments of `Alpamayo.__call__`: one row, one image of one token."""
    vision, history = config.vision, config.trajectory_tokens.num_history_steps
    merge = vision.spatial_merge_size
    calibrated = vision.compressor == "triplane"
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
        step_images=jnp.zeros((1, 1, 1), jnp.int32),
        lenses=jnp.asarray(absent_lens())[None, None] if calibrated else None,
        ego_from_camera=jnp.eye(4)[None, None] if calibrated else None,
    )
    return inputs, jnp.zeros((1, config.action.n_waypoints, 2)), jnp.zeros((1,))


@functools.partial(jax.jit, static_argnums=0)
def init_params(config: ModelConfig, rng: jax.Array) -> dict:
    """Random parameters (normal, 0.02, as the backbone's family), as a plain nested dict."""
    return Alpamayo(config).init(rng, *example_inputs(config))["params"]


@functools.partial(jax.jit, static_argnums=0)
def init_compressor(config: ModelConfig, rng: jax.Array) -> dict:
    """Random parameters of the vision compressor alone (`vlm/scene`), float32."""
    inputs, width = example_inputs(config)[0], config.language.hidden_size
    example = jnp.zeros((1, 1, 1, width)), jnp.zeros((0, 1, 1, 1, width)), cameras_of(inputs, config)
    return make_compressor(config).init(rng, *example)["params"]


def param_shapes(config: ModelConfig) -> dict:
    """Shapes and types of all parameters; nothing is computed or allocated."""
    model = Alpamayo(config)
    example = jax.eval_shape(lambda: example_inputs(config))
    return jax.eval_shape(
        lambda key, args: model.init(key, *args)["params"], jax.random.key(0), example
    )
