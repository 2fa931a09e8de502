"""Narrow formats against ml_dtypes and exact arithmetic."""

from absl.testing import absltest, parameterized
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.ops import number_formats as nf

def weights(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


class NumberFormatsTest(parameterized.TestCase):
    @parameterized.product(format=nf.FORMATS, batch_dims=((), (2, 1)))
    def test_error_is_bounded_by_half_a_step(self, format, batch_dims):
        w = weights(*batch_dims, 48, 20)
        back = nf.dequantise(nf.quantise(w, format, -2))
        if format == "nvfp4":
            largest = jnp.repeat(
                jnp.abs(w.reshape(*batch_dims, 3, 16, 20)).max(-2), 16, axis=-2
            )
            bound = largest * (1 / 6 + 1 / 16)  # half of 4 to 6, and the block scale's own rounding
        else:
            largest = jnp.abs(w).max(-2, keepdims=True)
            bound = largest * (0.5 / 127 if format == "int8" else 1 / 28)  # 16 of 448
        self.assertTrue(bool((jnp.abs(back - w) <= bound * 1.0001).all()))

    @parameterized.parameters(*nf.FORMATS)
    def test_rounding_again_changes_nothing(self, format):
        once = nf.dequantise(nf.quantise(weights(32, 8), format, -2))
        twice = nf.dequantise(nf.quantise(once, format, -2))
        np.testing.assert_allclose(twice, once, rtol=1e-6)

    def test_largest_of_every_channel_is_kept(self):
        w = weights(16, 5)
        for format in ("int8", "fp8"):
            back = nf.dequantise(nf.quantise(w, format, -2))
            rows = jnp.abs(w).argmax(0)
            np.testing.assert_allclose(back[rows, np.arange(5)], w[rows, np.arange(5)], rtol=1e-6)

    def test_int8_is_symmetric_and_nearest(self):
        w = jnp.array([[-12.7], [0.06], [0.04], [12.7]])
        q = nf.quantise(w, "int8", -2)
        np.testing.assert_array_equal(q.values[:, 0], [-127, 1, 0, 127])

    def test_fp8_equals_ml_dtypes_on_scaled_values(self):
        w = np.asarray(weights(64, 3))
        q = nf.quantise(w, "fp8", -2)
        want = (w / np.asarray(q.scale)).astype(ml_dtypes.float8_e4m3fn)
        np.testing.assert_array_equal(np.asarray(q.values).view(np.uint8), want.view(np.uint8))

    def test_nvfp4_has_the_values_of_the_format(self):
        grid = jnp.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.5, -1, -1.5, -2, -3, -4, -6, 0])
        w = jnp.stack([grid, 448 * grid], axis=-1)  # the second column's block scale is the largest
        q = nf.quantise(w, "nvfp4", -2)
        self.assertEqual(q.values.dtype, jnp.float4_e2m1fn)
        self.assertEqual(q.block_scale.shape, (1, 2))
        self.assertEqual(q.scale.shape, (1, 1))
        np.testing.assert_allclose(nf.dequantise(q), w)
        np.testing.assert_array_equal(q.block_scale.astype(jnp.float32), [[1, 448]])

    def test_nvfp4_blocks_may_lie_along_the_last_axis(self):
        w = weights(8, 32)
        across = nf.dequantise(nf.quantise(w.T, "nvfp4", -2)).T
        np.testing.assert_array_equal(nf.dequantise(nf.quantise(w, "nvfp4", -1)), across)

    @parameterized.parameters(*nf.FORMATS)
    def test_zeros_stay_zero(self, format):
        w = weights(32, 4).at[:, 1].set(0).at[:16, 2].set(0)
        back = nf.dequantise(nf.quantise(w, format, -2))
        np.testing.assert_array_equal(back[:, 1], 0)
        np.testing.assert_array_equal(back[:16, 2], 0)
        self.assertTrue(bool(jnp.isfinite(nf.dequantise(nf.quantise(0 * w, format, -2))).all()))

    @parameterized.parameters(*nf.FORMATS)
    def test_layers_are_independent(self, format):
        w = weights(3, 16, 4) * jnp.array([1, 100, 1e-3])[:, None, None]
        whole = nf.quantise(w, format, -2)
        for index in range(3):
            alone = nf.quantise(w[index], format, -2)
            part = jax.tree.map(lambda a: a[index], whole)
            np.testing.assert_array_equal(
                *(np.asarray(q.values).astype(np.float32) for q in (part, alone))
            )
            np.testing.assert_allclose(nf.dequantise(part), nf.dequantise(alone), rtol=1e-6)

    @parameterized.parameters(*nf.FORMATS)
    def test_it_is_a_pytree_for_jit_and_scan(self, format):
        w = weights(3, 16, 4)
        q = nf.quantise(w, format, -2)
        _, rows = jax.lax.scan(lambda c, layer: (c, nf.dequantise(layer)), 0, q)
        np.testing.assert_array_equal(rows, nf.dequantise(q))
        self.assertEqual(jax.jit(lambda q: q)(q).format, format)

    @parameterized.parameters(*nf.FORMATS)
    def test_columns_are_those_of_the_array(self, format):
        q = nf.quantise(weights(16, 12), format, -2)
        np.testing.assert_array_equal(
            nf.dequantise(q.columns(slice(3, 7))), nf.dequantise(q)[:, 3:7]
        )
        whole = nf.quantise(weights(16, 12), "fp8", (-2, -1))
        self.assertEqual(whole.columns(slice(2)).scale.shape, (1, 1))

    def test_bits_are_counted_packed(self):
        w = weights(32, 4)
        self.assertEqual(nf.quantise(w, "int8", -2).bits, 32 * 4 * 8 + 4 * 32)
        self.assertEqual(nf.quantise(w, "nvfp4", -2).bits, 32 * 4 * 4 + 2 * 4 * 8 + 32)
        tree = {"a": nf.quantise(w, "int8", -2), "b": jnp.zeros((3,), jnp.bfloat16)}
        self.assertEqual(nf.quantised_bytes(tree), 32 * 4 + 16 + 6)

    @parameterized.parameters("int8", "fp8")
    def test_fake_quantise_with_a_fixed_scale_clips(self, format):
        x = jnp.array([-9.0, 0.5, 2.0, 9.0])
        scale = nf.scale_of(2.0, format)
        got = nf.fake_quantise(x, format, scale=scale)
        np.testing.assert_allclose(got, [-2, 0.5, 2, 2], atol=0.02)
        self.assertEqual(nf.fake_quantise(x.astype(jnp.bfloat16), format).dtype, jnp.bfloat16)

    @parameterized.parameters(*nf.FORMATS)
    def test_scales_are_exact_in_the_type_of_the_array(self, format):
        q = nf.quantise(weights(32, 4).astype(jnp.bfloat16), format, -2)
        self.assertEqual(q.scale.dtype, jnp.float32)
        np.testing.assert_array_equal(q.scale, q.scale.astype(jnp.bfloat16).astype(jnp.float32))

    @parameterized.parameters("int8", "fp8")
    def test_fake_quantise_without_one_equals_quantise(self, format):
        x = weights(6, 4)
        want = nf.dequantise(nf.quantise(x, format, (0, 1)))
        np.testing.assert_array_equal(nf.fake_quantise(x, format), want)

    def test_what_cannot_be_is_refused(self):
        with self.assertRaisesRegex(ConfigError, "'int4' is unknown; known: int8, fp8, nvfp4"):
            nf.quantise(weights(16, 4), "int4", -2)
        with self.assertRaisesRegex(ConfigError, "multiple of 16 .* got 24"):
            nf.quantise(weights(24, 4), "nvfp4", -2)
        with self.assertRaisesRegex(ConfigError, "one axis"):
            nf.quantise(weights(16, 4), "nvfp4", (-2, -1))
        with self.assertRaisesRegex(ConfigError, "blocks themselves"):
            nf.fake_quantise(weights(16, 4), "nvfp4", scale=jnp.ones(()))
        with self.assertRaisesRegex(ConfigError, "cannot be sliced"):
            nf.quantise(weights(4, 16), "nvfp4", -1).columns(slice(2))


if __name__ == "__main__":
    absltest.main()
