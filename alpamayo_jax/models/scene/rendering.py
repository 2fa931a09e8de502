"""What is where, read off the three planes: density and colour of points, for volume rendering."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import TriplaneConfig
from alpamayo_jax.layers.linear import Linear
from alpamayo_jax.layers.mlp import GeluMLP
from alpamayo_jax.ops import contraction
from alpamayo_jax.ops.volume import sample_plane
from alpamayo_jax.types import Array

_CHANNELS = 4  # density and colour


class PlaneDecoder(nn.Module):
    """Bilinear samples of three planes, multiplied element by element, through an MLP."""

    config: TriplaneConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, planes: tuple[Array, Array, Array], points: Array) -> tuple[Array, Array]:
        """Reads planes at points.

        Args:
          planes: xy, xz, yz, each [R, ., ., d].
          points: [R, N, 3] metres, ego frame; outside of the grid its border counts.

        Returns:
          Density [R, N] per metre, above 0, and colour [R, N, 3] in (0, 1); float32.
        """
        c = self.config
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        at = [axis.to_cells(points[..., i]) for i, axis in enumerate(contraction.axes(c))]
        product = 1.0
        for name, plane, (i, j) in zip(("xy", "xz", "yz"), planes, ((0, 1), (0, 2), (1, 2))):
            plane = Linear(c.render_size, use_bias=True, name=f"proj_{name}", **kinds)(plane)
            # Around 1, so that the product of three neither vanishes nor explodes at the start.
            where = jnp.stack([at[i], at[j]], -1)
            product = product * (1.0 + jax.vmap(sample_plane)(plane, where))
        out = GeluMLP(_CHANNELS, c.render_hidden_size, name="mlp", **kinds)(product)
        out = out.astype(jnp.float32)
        return jax.nn.softplus(out[..., 0] - 2.0), jax.nn.sigmoid(out[..., 1:])
