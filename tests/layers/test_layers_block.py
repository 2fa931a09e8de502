from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.layers.attention import GroupedQueryAttention, VisionAttention
from alpamayo_jax.layers.block import TextBlock, VisionBlock
from alpamayo_jax.layers.mlp import GeluMLP, SwiGLU
from alpamayo_jax.layers.norms import LayerNorm, RMSNorm
from alpamayo_jax.ops.rope import mrope_table, vision_rope_table
from alpamayo_jax.testing.tiny import quick_jit, tiny_config

_CONFIG = tiny_config()


def _text_case(dtype=jnp.float32):
    c = _CONFIG.language
    x = np.random.default_rng(0).standard_normal((1, 4, c.hidden_size)).astype(np.float32)
    rope = mrope_table(np.broadcast_to(np.arange(4), (3, 1, 4)), c.head_dim, c.mrope_section, 1e4)
    mask = np.tril(np.ones((1, 4, 4), bool))
    module = TextBlock(c, dtype=dtype)
    return module, _params(module, x, rope, mask), x, rope, mask


def _vision_case():
    c = _CONFIG.vision
    x = np.random.default_rng(0).standard_normal((1, 4, c.hidden_size)).astype(np.float32)
    rope = vision_rope_table(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 0, 1]]), c.head_dim, 1e4)
    mask = np.ones((1, 4), bool)
    module = VisionBlock(c)
    return module, _params(module, x, rope, mask), x, rope, mask


def _params(module, *args):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda s: 0.3 * rng.standard_normal(s.shape).astype(np.float32), shapes)


class BlockTest(parameterized.TestCase):
    def test_text_block_is_pre_norm(self):
        module, p, x, rope, mask = _text_case()
        c, eps = _CONFIG.language, _CONFIG.language.rms_norm_eps
        got, (k, v) = quick_jit(module.apply)({"params": p}, x, rope, mask)
        normed = RMSNorm(eps).apply({"params": p["input_layernorm"]}, x)
        attention = GroupedQueryAttention(
            c.hidden_size, c.num_heads, c.num_kv_heads, c.head_dim, c.rms_norm_eps
        )
        mixed, kv = quick_jit(attention.apply)({"params": p["self_attn"]}, normed, rope, mask)
        x = x + mixed
        normed = RMSNorm(eps).apply({"params": p["post_attention_layernorm"]}, x)
        mlp = SwiGLU(c.hidden_size, c.intermediate_size)
        np.testing.assert_allclose(got, x + mlp.apply({"params": p["mlp"]}, normed), atol=1e-5)
        np.testing.assert_allclose(k, kv[0], atol=1e-6)
        np.testing.assert_allclose(v, kv[1], atol=1e-6)

    def test_vision_block_is_pre_norm(self):
        module, p, x, rope, mask = _vision_case()
        c = _CONFIG.vision
        got = quick_jit(module.apply)({"params": p}, x, rope, mask)
        normed = LayerNorm(c.layer_norm_eps).apply({"params": p["norm1"]}, x)
        attention = VisionAttention(c.hidden_size, c.num_heads)
        x = x + attention.apply({"params": p["attn"]}, normed, rope, mask)
        normed = LayerNorm(c.layer_norm_eps).apply({"params": p["norm2"]}, x)
        mlp = GeluMLP(c.hidden_size, c.intermediate_size, approximate=True)
        np.testing.assert_allclose(got, x + mlp.apply({"params": p["mlp"]}, normed), atol=1e-5)

    def test_the_residual_stream_keeps_its_type(self):
        module, p, x, rope, mask = _text_case(jnp.bfloat16)
        wide, (k, v) = quick_jit(module.apply)({"params": p}, x, rope, mask)
        narrow, _ = quick_jit(module.apply)({"params": p}, jnp.asarray(x, jnp.bfloat16), rope, mask)
        assert wide.dtype == jnp.float32 and narrow.dtype == jnp.bfloat16
        assert {k.dtype, v.dtype} == {jnp.dtype(jnp.bfloat16)}
