"""Qwen3-VL vision tower: image patches to image tokens, with deepstack taps.

Images are independent, so each is a row of its own: attention never crosses images and the program
does not depend on how many there are or how large each one is, only on the largest.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import KernelConfig, VisionConfig
from alpamayo_jax.kernels.attention import prefix_range
from alpamayo_jax.layers.block import VisionBlock
from alpamayo_jax.layers.linear import INIT_STD, Linear
from alpamayo_jax.layers.norms import LayerNorm
from alpamayo_jax.layers.stack import one_layer, run_stack, stacked_params
from alpamayo_jax.layout import gathered, place
from alpamayo_jax.ops.rope import vision_rope_table
from alpamayo_jax.sharding import Layout
from alpamayo_jax.types import Array


def patch_positions(grid: Array, num_patches: int, merge: int) -> tuple[Array, Array, Array]:
    """Row and column of every patch in merge-block order.

    A 2 x 4 grid with merge 2 is read (row, column): 00 01 10 11 02 03 12 13.

    Args:
      grid: int [..., 2], patches in height and width; (0, 0) for an absent image.
      num_patches: P, the padded number of patches.
      merge: side of a merge block.

    Returns:
      row, column: int32 [..., P]; real: bool [..., P], False on padding.
    """
    p = jnp.arange(num_patches)
    height, width = grid[..., 0, None], grid[..., 1, None]
    block, within = p // merge**2, p % merge**2
    blocks_per_row = jnp.maximum(width // merge, 1)
    row = block // blocks_per_row * merge + within // merge
    col = block % blocks_per_row * merge + within % merge
    real = p < height * width
    return jnp.where(real, row, 0), jnp.where(real, col, 0), real


def interpolate_positions(table: Array, row: Array, col: Array, grid: Array) -> Array:
    """Bilinear samples of the square table of learned positions, stretched over each image.

    Args:
      table: [side^2, D].
      row: int [..., P].
      col: int [..., P].
      grid: int [..., 2].

    Returns:
      [..., P, D] in the table's type.
    """
    side = int(round(table.shape[0] ** 0.5))

    def corners(index, size):
        step = (side - 1) / jnp.maximum(size - 1, 1).astype(jnp.float32)
        at = index.astype(jnp.float32) * step[..., None]
        low = jnp.clip(jnp.floor(at), 0, side - 1)
        return low.astype(jnp.int32), jnp.minimum(low + 1, side - 1).astype(jnp.int32), at - low

    top, bottom, down = corners(row, grid[..., 0])
    left, right, across = corners(col, grid[..., 1])
    mixed = 0.0
    for r, wr in ((top, 1 - down), (bottom, down)):
        for c, wc in ((left, 1 - across), (right, across)):
            weight = (wr * wc).astype(table.dtype)
            mixed = mixed + jnp.take(table, r * side + c, axis=0) * weight[..., None]
    return mixed


class PatchMerger(nn.Module):
    """Groups of merge_unit patches become one token of the language model's width.

    The last merger normalises patches before grouping them, the deepstack mergers after.
    """

    config: VisionConfig
    norm_grouped: bool
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        width = c.hidden_size * c.merge_unit
        norm = LayerNorm(c.layer_norm_eps, param_dtype=self.param_dtype, name="norm")
        if not self.norm_grouped:
            x = norm(x)
        x = x.reshape(*x.shape[:-2], x.shape[-2] // c.merge_unit, width)
        if self.norm_grouped:
            x = norm(x)
        kinds = dict(use_bias=True, dtype=self.dtype, param_dtype=self.param_dtype)
        x = Linear(width, name="linear_fc1", **kinds)(x)
        x = jax.nn.gelu(x, approximate=False)
        return Linear(c.out_hidden_size, name="linear_fc2", **kinds)(x)


class VisionTower(nn.Module):
    """Patches of B x I images to image tokens and J deepstack tensors."""

    config: VisionConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    unroll: bool = False
    remat: str = "none"
    layout: Layout | None = None
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(self, pixel_values: Array, image_grid: Array) -> tuple[Array, Array]:
        """Encodes images.

        Args:
          pixel_values: float32 [B, I, P, patch_dim].
          image_grid: int32 [B, I, 2].

        Returns:
          tokens [B, I, P / merge_unit, D] and deepstack [J, B, I, P / merge_unit, D].
        """
        c = self.config
        batch, images, patches, _ = pixel_values.shape
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        grid = image_grid.reshape(batch * images, 2)
        row, col, real = patch_positions(grid, patches, c.spatial_merge_size)

        x = pixel_values.reshape(batch * images, patches, c.patch_dim)
        x = Linear(c.hidden_size, use_bias=True, name="patch_embed", **kinds)(x)
        x = x + self._positions(row, col, grid).astype(self.dtype)
        x = place(x, self.layout, "batch", None, "act_embed")

        rope = vision_rope_table(row, col, c.head_dim, c.rope_theta)
        block = VisionBlock(c, kernels=self.kernels, parent=None, **kinds)
        example = (jnp.zeros((1, 1, c.hidden_size)), tuple(t[:1, :1] for t in rope), real[:1, :1])
        params = stacked_params(self, "blocks", block, c.depth, *example)

        mask = prefix_range(real.sum(-1), patches) if self.kernels.wanted else real

        def layer(params_l, x, _):
            x = block.apply({"params": params_l}, x, rope, mask)
            return place(x, self.layout, "batch", None, "act_embed"), None

        # The tapped states end a run of layers each, so no scan has to carry all of them.
        taps, start = [], 0
        for stop in (*(tap + 1 for tap in c.deepstack_visual_indexes), c.depth):
            if stop > start:
                own = dict(layers=(start, stop), unroll=self.unroll, remat=self.remat)
                x, _ = run_stack(layer, params, x, **own)
            taps.append(x)
            start = stop
        tokens = PatchMerger(c, norm_grouped=False, name="merger", **kinds)(taps.pop())
        deepstack = self._deepstack(taps, tokens)
        shape = (batch, images, patches // c.merge_unit, c.out_hidden_size)
        return tokens.reshape(shape), deepstack.reshape(len(taps), *shape)

    def _positions(self, row: Array, col: Array, grid: Array) -> Array:
        embed = nn.Embed(
            self.config.num_position_embeddings,
            self.config.hidden_size,
            param_dtype=self.param_dtype,
            embedding_init=nn.initializers.normal(INIT_STD),
            name="pos_embed",
        )
        return interpolate_positions(gathered(embed.embedding, self.layout), row, col, grid)

    def _deepstack(self, taps: list[Array], tokens: Array) -> Array:
        if not taps:
            return jnp.zeros((0, *tokens.shape), tokens.dtype)
        merger = PatchMerger(
            self.config, norm_grouped=True, dtype=self.dtype, param_dtype=self.param_dtype, parent=None
        )
        example = jnp.zeros((1, self.config.merge_unit, self.config.hidden_size))
        params = stacked_params(self, "deepstack_merger_list", merger, len(taps), example)
        apply = lambda p, x: merger.apply({"params": p}, x)  # noqa: E731
        if self.unroll:
            return jnp.stack([apply(one_layer(params, i), tap) for i, tap in enumerate(taps)])
        return jax.vmap(apply)(params, jnp.stack(taps))
