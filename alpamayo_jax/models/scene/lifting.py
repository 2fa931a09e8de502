"""From image tokens to the cells of a grid around the ego: deformable lifting by real calibration.

Letters: M images, R rows (a time step of an observation), C images of a row, N cells, P tokens of an
image, d width. Each cell looks at every image where its centre projects (deformable attention, per
image), then at what it found in all images that see it (attention over images). Which image is which
is known only through its calibration, so the order of the images does not matter.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import TriplaneConfig
from alpamayo_jax.layers.linear import FAN_IN_INIT, Linear
from alpamayo_jax.layers.mlp import GeluMLP
from alpamayo_jax.layers.norms import LayerNorm
from alpamayo_jax.ops.attention import Segment, attend
from alpamayo_jax.ops.camera import camera_from_ego
from alpamayo_jax.ops.deformable import deformable_read
from alpamayo_jax.ops.lens import project_lens
from alpamayo_jax.types import Array


class ImageLayer(nn.Module):
    """A pre-norm layer in which cells read one image each by deformable attention."""

    config: TriplaneConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, features: Array, grid: Array, uv: Array) -> Array:
        """x [M, N, d] cells, features [M, P, d], grid int [M, 2], uv [M, N, 2] -> [M, N, d]."""
        c, (images, cells, width) = self.config, x.shape
        heads, points = c.num_heads, c.num_points
        # Cells begin by reading where they project, all points alike.
        usual = dict(use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype)
        kinds = usual | dict(kernel_init=FAN_IN_INIT)
        norm = dict(eps=c.layer_norm_eps, param_dtype=self.param_dtype)
        query = LayerNorm(name="norm1", **norm)(x)
        shape = images, cells, heads, points
        offsets = Linear(heads * points * 2, name="offset_proj", **usual)(query)
        weights = Linear(heads * points, name="weight_proj", **usual)(query)
        weights = jax.nn.softmax(weights.reshape(shape).astype(jnp.float32), -1)
        offsets = offsets.reshape(*shape, 2).astype(jnp.float32)
        values = Linear(width, name="value_proj", **kinds)(features)
        values = values.reshape(images, -1, heads, width // heads)
        read = deformable_read(values, grid, uv, offsets, weights)
        x = x + Linear(width, name="out_proj", **kinds)(read.reshape(x.shape))
        normed = LayerNorm(name="norm2", **norm)(x)
        kinds.pop("use_bias")
        return x + GeluMLP(width, c.intermediate_size, name="mlp", **kinds)(normed)


class CrossLayer(nn.Module):
    """A pre-norm layer in which cells attend to what they found in the images that see them."""

    config: TriplaneConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array, found: Array, visible: Array) -> Array:
        """x [R, N, d] cells, found [R, C, N, d], visible bool [R, C, N] -> [R, N, d]."""
        c, (rows, cells, width) = self.config, x.shape
        heads, count = c.num_heads, found.shape[1]
        kinds = dict(
            use_bias=True,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=FAN_IN_INIT,
        )
        norm = dict(eps=c.layer_norm_eps, param_dtype=self.param_dtype)
        split = lambda a: a.reshape(*a.shape[:-1], heads, width // heads)  # noqa: E731
        query = split(Linear(width, name="q_proj", **kinds)(LayerNorm(name="norm1", **norm)(x)))
        found = LayerNorm(name="norm_found", **norm)(found)
        # Every cell is a row of its own with one query and C keys: [R N, heads, C, head].
        k, v = (
            split(Linear(width, name=name, **kinds)(found))
            .transpose(0, 2, 3, 1, 4)
            .reshape(rows * cells, heads, count, -1)
            for name in ("k_proj", "v_proj")
        )
        mask = jnp.moveaxis(visible, 1, 2).reshape(rows * cells, 1, count)
        query = query.reshape(rows * cells, 1, heads, -1)
        seen = attend(query, [Segment(k=k, v=v, mask=mask)], scale=(width // heads) ** -0.5)
        x = x + Linear(width, name="out_proj", **kinds)(seen.reshape(x.shape))
        normed = LayerNorm(name="norm2", **norm)(x)
        kinds.pop("use_bias")
        return x + GeluMLP(width, c.intermediate_size, name="mlp", **kinds)(normed)


def cell_features(config: TriplaneConfig) -> np.ndarray:
    """Sinusoids of the place of every cell in the contracted grid, float32 [X, Y, Z, d]."""
    count = config.hidden_size // 6
    parts = []
    for cells in config.size:
        at = (np.arange(cells) + 0.5) / cells * 2 - 1
        angle = np.pi * at[:, None] * np.geomspace(0.5, max(cells / 2, 1), count)
        parts.append(np.concatenate([np.sin(angle), np.cos(angle)], -1))
    x, y, z = parts
    shape = (*config.size, 2 * count)
    spread = x[:, None, None], y[None, :, None], z[None, None]
    return np.concatenate([np.broadcast_to(a, shape) for a in spread], -1).astype(np.float32)


def see(points: Array, lenses: Array, ego_from_camera: Array) -> tuple[Array, Array]:
    """Where points of the ego frame appear in images.

    Args:
      points: [N, 3] metres.
      lenses: [M, LENS_SIZE].
      ego_from_camera: [M, 4, 4].

    Returns:
      uv [M, N, 2] fractions of the image, visible bool [M, N].
    """
    points = jnp.broadcast_to(points, (lenses.shape[0], *points.shape))
    return project_lens(camera_from_ego(points, ego_from_camera), lenses)
