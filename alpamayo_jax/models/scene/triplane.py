"""Triplane tokens: a grid around the ego, filled from all cameras, pooled into three planes.

After arXiv 2506.12251 and equation 4 of the paper: tokens of a time step =
N_xy + N_xz + N_yz with N_ij = (S_i / p_i) (S_j / p_j), whatever the number of cameras and their
resolution. Each time step has a grid of its own, in the ego frame of its moment.

The paper's body is silent about much, and these are choices: the metres of the grid; two deformable
layers per image and two attention layers over images (the public re-implementation's counts), each
with an MLP; planes are means over the cells that some camera sees; a patch becomes one vector by a
weighted sum of its cells, channel by channel, and then a token by an MLP of the plane, so that, as
in the paper's table, the size of the patches hardly changes the number of parameters; planes are
laid out in the language model's positions as images are (rows and columns of the plane).
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.layers.linear import FAN_IN_INIT, INIT_STD, Linear
from alpamayo_jax.layers.mlp import GeluMLP
from alpamayo_jax.layers.norms import LayerNorm
from alpamayo_jax.layers.stack import stacked_params
from alpamayo_jax.models.scene.interface import Cameras, Compressor, take_steps, without_deepstack
from alpamayo_jax.models.scene.lifting import CrossLayer, ImageLayer, cell_features, see
from alpamayo_jax.models.scene.rendering import PlaneDecoder
from alpamayo_jax.ops.contraction import cell_centres
from alpamayo_jax.ops.lens import LENS_SIZE
from alpamayo_jax.types import Array, SceneTokens

PLANES = ("xy", "xz", "yz")
Planes = tuple[Array, Array, Array]


class Triplane(Compressor):
    """See the module. `planes` and `render` are also what self-supervised pretraining uses."""

    def setup(self):
        c = self.config.scene.triplane
        usual = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        kinds = usual | dict(kernel_init=FAN_IN_INIT)
        width = self.config.language.hidden_size
        self.feature_proj = Linear(c.hidden_size, use_bias=True, **kinds)
        self.feature_norm = LayerNorm(c.layer_norm_eps, param_dtype=self.param_dtype)
        self.query_proj = Linear(c.hidden_size, use_bias=True, **kinds)
        self.image_layer = ImageLayer(c, parent=None, **usual)
        self.cross_layer = CrossLayer(c, parent=None, **usual)
        one = jnp.zeros((1, 1, c.hidden_size))
        place = jnp.ones((1, 2), jnp.int32), jnp.zeros((1, 1, 2))
        self.image_layers = stacked_params(
            self, "image_layers", self.image_layer, c.image_layers, one, one, *place
        )
        seen = one[:, None], jnp.ones((1, 1, 1), bool)
        self.cross_layers = stacked_params(
            self, "cross_layers", self.cross_layer, c.cross_layers, one, *seen
        )
        sides = dict(zip("xyz", c.patch))
        self.patch_weights = [
            self.param(
                f"patch_{name}",
                _mean_of_patch,
                (sides[name[0]], sides[name[1]], c.hidden_size),
                self.param_dtype,
            )
            for name in PLANES
        ]
        norm = dict(eps=c.layer_norm_eps, param_dtype=self.param_dtype)
        self.patch_norms = [LayerNorm(name=f"norm_{name}", **norm) for name in PLANES]
        self.token_mlps = [
            GeluMLP(width, c.token_mlp_size, name=f"mlp_{name}", **kinds) for name in PLANES
        ]
        self.decoder = PlaneDecoder(c, **usual)

    def __call__(self, tokens: Array, deepstack: Array, cameras: Cameras) -> SceneTokens:
        """Scene tokens [B, F x N, D]: per step the planes xy, xz, yz; arguments as in `Compressor`."""
        del deepstack
        planes = self.planes(tokens, cameras)
        if self.is_initializing():
            self.decoder(planes, jnp.zeros((*planes[0].shape[:1], 1, 3)))
        return self.tokens(planes, tokens.shape[0])

    def planes(self, tokens: Array, cameras: Cameras) -> Planes:
        """The three planes of every time step.

        Args:
          tokens: [B, I, P, D] image tokens.
          cameras: with steps, lenses and mountings.

        Returns:
          xy [R, X, Y, d], xz [R, X, Z, d], yz [R, Y, Z, d] with R = B x F rows; 0 where no camera
          sees any cell that is averaged.
        """
        c = self.config.scene.triplane
        batch, images, patches, width = tokens.shape
        chex.assert_shape(cameras.lenses, (batch, images, LENS_SIZE))
        chex.assert_shape(cameras.ego_from_camera, (batch, images, 4, 4))
        features = self.feature_norm(self.feature_proj(tokens))

        _, steps, count = cameras.steps.shape
        rows = batch * steps
        real = cameras.steps >= 0
        real &= take_steps(cameras.index, cameras.steps) >= 0
        flat = lambda a: take_steps(a, cameras.steps).reshape(rows * count, *a.shape[2:])  # noqa: E731
        features, grid = flat(features), flat(cameras.grid)
        lenses, poses = flat(cameras.lenses), flat(cameras.ego_from_camera)
        real = real.reshape(rows, count, 1)

        x_size, y_size, z_size = c.size
        queries = self.query_proj(jnp.asarray(cell_features(c)).reshape(x_size, -1, c.hidden_size))
        centres = jnp.asarray(cell_centres(c)).reshape(x_size, -1, 3)

        def slab(carry, inputs):
            """All cells of one x: their part of the planes xy and xz, and of the sum that is yz."""
            query, points = inputs
            uv, visible = see(points, lenses, poses)
            visible = visible.reshape(rows, count, -1) & real
            cells = query.shape[0]
            x = jnp.broadcast_to(query, (rows * count, *query.shape))
            for params in _layers(self.image_layers, c.image_layers):
                x = self.image_layer.apply({"params": params}, x, features, grid, uv)
            found = x.reshape(rows, count, cells, -1)
            x = jnp.broadcast_to(query, (rows, *query.shape))
            for params in _layers(self.cross_layers, c.cross_layers):
                x = self.cross_layer.apply({"params": params}, x, found, visible)
            seen = visible.any(1).astype(jnp.float32).reshape(rows, y_size, z_size, 1)
            x = x.reshape(rows, y_size, z_size, -1).astype(jnp.float32) * seen
            total, number = carry[0] + x, carry[1] + seen
            return (total, number), (_mean(x, seen, 2), _mean(x, seen, 1))

        zero = jnp.zeros((rows, y_size, z_size, 1))
        start = jnp.zeros((rows, y_size, z_size, c.hidden_size)), zero
        # A slab is lifted again in the backward pass: the grid as a whole is never held.
        (total, number), (xy, xz) = jax.lax.scan(jax.checkpoint(slab), start, (queries, centres))
        yz = total / jnp.maximum(number, 1.0)
        return jnp.moveaxis(xy, 0, 1), jnp.moveaxis(xz, 0, 1), yz

    def tokens(self, planes: Planes, batch: int) -> SceneTokens:
        """Planes of B x F rows to scene tokens [B, F x N, D]."""
        parts = []
        for plane, weight, norm, mlp in zip(
            planes, self.patch_weights, self.patch_norms, self.token_mlps
        ):
            rows, first, second, width = plane.shape
            a, b = weight.shape[:2]
            cut = plane.reshape(rows, first // a, a, second // b, b, width)
            pooled = jnp.einsum("rxaybd,abd->rxyd", cut, weight.astype(cut.dtype))
            parts.append(mlp(norm(pooled.reshape(rows, -1, width))))
        tokens = jnp.concatenate(parts, 1)
        return without_deepstack(tokens.reshape(batch, -1, tokens.shape[-1]))

    def decode(self, planes: Planes, points: Array) -> tuple[Array, Array]:
        """Density [R, N] and colour [R, N, 3] at points [R, N, 3] of the ego frame."""
        return self.decoder(planes, points)


def _layers(stacked: dict, count: int) -> list[dict]:
    return [jax.tree.map(lambda leaf: leaf[i], stacked) for i in range(count)]


def _mean(x: Array, seen: Array, axis: int) -> Array:
    return x.sum(axis) / jnp.maximum(seen.sum(axis), 1.0)


def _mean_of_patch(key: Array, shape: tuple[int, int, int], dtype: jnp.dtype) -> Array:
    """Weights of a patch's cells: about their mean."""
    noise = jax.random.normal(key, shape, dtype) * INIT_STD
    return (1 + noise) / (shape[0] * shape[1])
