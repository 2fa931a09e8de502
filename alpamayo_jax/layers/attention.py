"""Attention layers: grouped-query with per-head norms (language, expert), fused qkv (vision)."""

from typing import Sequence

import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.layers.linear import USUAL_INIT, Linear
from alpamayo_jax.layers.norms import RMSNorm
from alpamayo_jax.ops.attention import Segment, attend
from alpamayo_jax.ops.rope import rotate
from alpamayo_jax.types import Array


class GroupedQueryAttention(nn.Module):
    """Qwen3 attention: RMSNorm on every query and key head, rotary, grouped keys and values."""

    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Array,
        rope: tuple[Array, Array],
        mask: Array,
        context: Sequence[Segment] = (),
    ) -> tuple[Array, tuple[Array, Array]]:
        """Attends over `context` and over x itself.

        Args:
          x: [..., T, D].
          rope: cos, sin [..., T, H].
          mask: bool [..., T, T] among the tokens of x.
          context: keys and values computed earlier, already rotated.

        Returns:
          [..., T, D], and the rotated keys and the values of x, each [..., G, T, H].
        """
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        norm = dict(eps=self.rms_norm_eps, param_dtype=self.param_dtype)

        def heads(name, count):
            y = Linear(count * self.head_dim, name=name, **kinds)(x)
            return y.reshape(*x.shape[:-1], count, self.head_dim)

        cos, sin = (table.astype(x.dtype) for table in rope)
        q = RMSNorm(name="q_norm", **norm)(heads("q_proj", self.num_heads))
        k = RMSNorm(name="k_norm", **norm)(heads("k_proj", self.num_kv_heads))
        v = heads("v_proj", self.num_kv_heads)
        q = rotate(q, cos, sin).astype(self.dtype)
        k = jnp.swapaxes(rotate(k, cos, sin).astype(self.dtype), -3, -2)
        v = jnp.swapaxes(v, -3, -2)
        segments = [
            Segment(k=s.k.astype(self.dtype), v=s.v.astype(self.dtype), mask=s.mask) for s in context
        ]
        out = attend(q, [*segments, Segment(k=k, v=v, mask=mask)], scale=self.head_dim**-0.5)
        out = out.reshape(*x.shape[:-1], self.num_heads * self.head_dim)
        return Linear(self.hidden_size, name="o_proj", **kinds)(out), (k, v)


class VisionAttention(nn.Module):
    """Full attention among the patches of one image, with a fused qkv projection.

    Vision compressors use it for all tokens of a scene, without rotary positions.
    """

    hidden_size: int
    num_heads: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = USUAL_INIT

    @nn.compact
    def __call__(self, x: Array, rope: tuple[Array, Array] | None, mask: Array) -> Array:
        """x [B, P, D]; rope cos and sin [B, P, H], or None; mask bool [B, P] of real patches, or
        [B, P, P] of what each may look at."""
        head_dim = self.hidden_size // self.num_heads
        kinds = dict(
            use_bias=True,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=self.kernel_init,
        )
        qkv = Linear(3 * self.hidden_size, name="qkv", **kinds)(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:-1], 3, self.num_heads, head_dim), -3, 0)
        if rope is not None:
            cos, sin = rope  # float32: the release rotates in float32 and casts back
            q = rotate(q.astype(jnp.float32), cos, sin).astype(self.dtype)
            k = rotate(k.astype(jnp.float32), cos, sin).astype(self.dtype)
        mask = mask if mask.ndim == 3 else mask[:, None, :]
        segment = Segment(k=jnp.swapaxes(k, -3, -2), v=jnp.swapaxes(v, -3, -2), mask=mask)
        out = attend(q, [segment], scale=head_dim**-0.5).reshape(x.shape)
        return Linear(self.hidden_size, name="proj", **kinds)(out)
