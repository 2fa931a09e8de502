"""Text towers: the stack that the language model and the action expert share, and its embedding."""

from typing import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import KernelConfig, LanguageConfig
from alpamayo_jax.layers.block import TextBlock
from alpamayo_jax.layers.linear import INIT_STD
from alpamayo_jax.layers.norms import RMSNorm
from alpamayo_jax.layers.stack import run_stack, stacked_params
from alpamayo_jax.layout import place, take_rows
from alpamayo_jax.ops.attention import KeyRange, Segment
from alpamayo_jax.ops.rope import mrope_table
from alpamayo_jax.sharding import Layout
from alpamayo_jax.types import Array, KVCache

# Keys and values of earlier tokens with the mask that says who may look at them: the cache is
# [L, B, G, S, H] or [L, B, K, G, S, H], the mask bool [B, T, S] or [B, K, T, S] (1s broadcast).
Context = Sequence[tuple[KVCache, Array]]


class TextTower(nn.Module):
    """Transformer layers with interleaved multimodal rotary positions, and the final norm."""

    config: LanguageConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    unroll: bool = False
    remat: str = "none"
    layout: Layout | None = None
    kernels: KernelConfig = KernelConfig()

    def setup(self):
        c = self.config
        kinds = dict(dtype=self.dtype, param_dtype=self.param_dtype)
        self.block = TextBlock(c, kernels=self.kernels, parent=None, **kinds)
        one = jnp.zeros((1, 1, c.hidden_size))
        table = jnp.zeros((1, 1, c.head_dim))
        self.layers = stacked_params(
            self, "layers", self.block, c.num_layers, one, (table, table), jnp.ones((1, 1, 1), bool)
        )
        self.norm = RMSNorm(
            c.rms_norm_eps, param_dtype=self.param_dtype, kernels=self.kernels
        )

    def __call__(
        self,
        x: Array,
        position_ids: Array,
        mask: Array | KeyRange | None,
        context: Context = (),
        deepstack: Array | None = None,
    ) -> tuple[Array, KVCache]:
        """Runs all layers.

        Args:
          x: [..., T, D] with "..." = (B,) or (B, K); its type is that of the residual stream.
          position_ids: int32 [3, ..., T].
          mask: bool [..., T, T] among the tokens of x, or the keys that each sees; None: all of them.
          context: caches of earlier tokens; layer l reads layer l of each.
          deepstack: [J, ..., T, D], added after the first J layers, or None.

        Returns:
          Hidden states after the final norm [..., T, D], and the keys and values of x.
        """
        c = self.config
        rope = mrope_table(position_ids, c.head_dim, c.mrope_section, c.rope_theta)
        masks = [m for _, m in context]
        taps = 0 if deepstack is None else deepstack.shape[0]

        def layer(params_l, x, inputs):
            index, caches = inputs
            segments = [Segment(k=kv.k, v=kv.v, mask=m) for kv, m in zip(caches, masks)]
            x, (k, v) = self.block.apply({"params": params_l}, x, rope, mask, segments)
            if taps:
                tap = jax.lax.dynamic_index_in_dim(
                    deepstack, jnp.minimum(index, taps - 1), keepdims=False
                )
                none = jnp.zeros((), tap.dtype)  # ONNX has no mix of bfloat16 and int
                x = x + jnp.where(index < taps, tap, none).astype(x.dtype)
            return self._placed(x), KVCache(k=k, v=v)

        x = self._placed(x)
        xs = (jnp.arange(c.num_layers), [cache for cache, _ in context])
        x, cache = run_stack(
            layer, self.layers, x, xs, unroll=self.unroll, remat=self.remat
        )
        return self.norm(x), cache

    def _placed(self, x: Array) -> Array:
        rows = ("batch", "samples")[: x.ndim - 2]
        return place(x, self.layout, *rows, "length", "act_embed")


class LanguageModel(TextTower):
    """Text tower with its token embedding."""

    def setup(self):
        super().setup()
        self.embed_tokens = nn.Embed(
            self.config.vocab_size,
            self.config.hidden_size,
            param_dtype=self.param_dtype,
            embedding_init=nn.initializers.normal(INIT_STD),
        )

    def embed(self, input_ids: Array) -> Array:
        """Token ids [...] to embeddings [..., D] in the compute type."""
        x = take_rows(self.embed_tokens.embedding, input_ids, self.layout).astype(self.dtype)
        return self._placed(x)

    def unembed_kernel(self) -> Array:
        """The transposed embedding, for models that tie it to the output projection."""
        return self.embed_tokens.embedding.T
