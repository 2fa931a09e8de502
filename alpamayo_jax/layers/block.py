"""Transformer blocks."""

from typing import Sequence

import flax.linen as nn
import jax.numpy as jnp

from alpamayo_jax.config import FlexConfig, KernelConfig, LanguageConfig, VisionConfig
from alpamayo_jax.layers.attention import GroupedQueryAttention, VisionAttention
from alpamayo_jax.layers.linear import USUAL_INIT
from alpamayo_jax.layers.mlp import GeluMLP, SwiGLU
from alpamayo_jax.layers.norms import LayerNorm, RMSNorm
from alpamayo_jax.ops.attention import KeyRange, Segment
from alpamayo_jax.types import Array


class TextBlock(nn.Module):
    """Pre-norm block of the language model and of the expert."""

    config: LanguageConfig
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
        """Returns x [..., T, D] in its own type, and this layer's keys and values of x."""
        c = self.config
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        norm = dict(eps=c.rms_norm_eps, param_dtype=self.param_dtype, kernels=self.kernels)
        attended, kv = GroupedQueryAttention(
            hidden_size=c.hidden_size,
            num_heads=c.num_heads,
            num_kv_heads=c.num_kv_heads,
            head_dim=c.head_dim,
            rms_norm_eps=c.rms_norm_eps,
            kernels=self.kernels,
            name="self_attn",
            **kinds,
        )(RMSNorm(name="input_layernorm", **norm)(x), rope, mask, context)
        normed, x = RMSNorm(name="post_attention_layernorm", **norm)(x, attended)
        mlp = SwiGLU(
            c.hidden_size, c.intermediate_size, kernels=self.kernels, name="mlp", **kinds
        )
        return x + mlp(normed), kv


class VisionBlock(nn.Module):
    """Pre-norm block of the vision tower and of the Flex encoder."""

    config: VisionConfig | FlexConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    kernel_init: nn.initializers.Initializer = USUAL_INIT
    kernels: KernelConfig = KernelConfig()

    @nn.compact
    def __call__(
        self, x: Array, rope: tuple[Array, Array] | None, mask: Array | KeyRange
    ) -> Array:
        c = self.config
        kinds = dict(
            dtype=self.dtype, param_dtype=self.param_dtype, kernel_init=self.kernel_init
        )
        norm = dict(eps=c.layer_norm_eps, param_dtype=self.param_dtype)
        normed = LayerNorm(name="norm1", **norm)(x)
        attention = VisionAttention(
            c.hidden_size, c.num_heads, kernels=self.kernels, name="attn", **kinds
        )
        x = x + attention(normed, rope, mask)
        normed = LayerNorm(name="norm2", **norm)(x)
        return x + GeluMLP(c.hidden_size, c.intermediate_size, name="mlp", **kinds)(normed)
