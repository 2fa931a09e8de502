"""Attention layers: grouped-query with per-head norms (language, expert), fused qkv (vision)."""

from typing import Sequence

import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.config import KernelConfig
from alpamayo_jax.layers.linear import USUAL_INIT, Linear
from alpamayo_jax.layers.norms import RMSNorm
from alpamayo_jax.ops.attention import (
    KeyRange,
    Segment,
    attend,
    attend_flow_step,
    is_flow_step,
)
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
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(
        self,
        x: Array,
        rope: tuple[Array, Array],
        mask: Array | KeyRange | None,
        context: Sequence[Segment] = (),
    ) -> tuple[Array, tuple[Array, Array]]:
        """Attends over `context` and over x itself.

        Args:
          x: [..., T, D].
          rope: cos, sin [..., T, H].
          mask: bool [..., T, T] among the tokens of x, or the keys that each sees; None: all of them.
          context: keys and values computed earlier, already rotated.

        Returns:
          [..., T, D], and the rotated keys and the values of x, each [..., G, T, H].
        """
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        norm = dict(eps=self.rms_norm_eps, param_dtype=self.param_dtype, kernels=self.kernels)

        def heads(name, count):
            y = Linear(count * self.head_dim, name=name, **kinds)(x)
            return y.reshape(*x.shape[:-1], count, self.head_dim)

        def normed_and_rotated(name, y):
            module = RMSNorm(name=name, **norm)
            if self.kernels.wanted:
                shape = (*y.shape[:-2], self.head_dim)
                return module(y, rotary=tuple(jnp.broadcast_to(t, shape) for t in rope))
            # The release rotates in the type of the stream, not in float32.
            return rotate(module(y), *(table.astype(x.dtype) for table in rope))

        q, k = heads("q_proj", self.num_heads), heads("k_proj", self.num_kv_heads)
        v = heads("v_proj", self.num_kv_heads)
        segments = [
            Segment(k=s.k.astype(self.dtype), v=s.v.astype(self.dtype), mask=s.mask) for s in context
        ]
        how = dict(
            scale=self.head_dim**-0.5,
            implementation=self.kernels.order,
            interpret=self.kernels.interpret,
        )
        out = None
        if mask is None and self.kernels.wanted and is_flow_step(segments):
            norms = [self.get_variable("params", name)["scale"] for name in ("q_norm", "k_norm")]
            out = attend_flow_step(q, k, v, norms, rope, segments, eps=self.rms_norm_eps, **how)
        q = normed_and_rotated("q_norm", q).astype(self.dtype)
        k = jnp.swapaxes(normed_and_rotated("k_norm", k).astype(self.dtype), -3, -2)
        v = jnp.swapaxes(v, -3, -2)
        if out is None:
            if mask is None:
                mask = jnp.ones((*(1,) * (x.ndim - 2), x.shape[-2], x.shape[-2]), bool)
            out = attend(q, [*segments, Segment(k=k, v=v, mask=mask)], **how)
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
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(
        self, x: Array, rope: tuple[Array, Array] | None, mask: Array | KeyRange
    ) -> Array:
        """x [B, P, D]; rope cos and sin [B, P, H], or None; mask bool [B, P] of real patches, or
        [B, P, P] of what each may look at, or the run of keys that each sees."""
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
        if not isinstance(mask, KeyRange):
            mask = mask if mask.ndim == 3 else mask[:, None, :]
        segment = Segment(k=jnp.swapaxes(k, -3, -2), v=jnp.swapaxes(v, -3, -2), mask=mask)
        out = attend(
            q, [segment], scale=head_dim**-0.5, implementation=self.kernels.order,
            interpret=self.kernels.interpret,
        ).reshape(x.shape)  # fmt: skip
        return Linear(self.hidden_size, name="proj", **kinds)(out)
