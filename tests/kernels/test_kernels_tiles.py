"""Tiles: how columns are cut, and loads and stores that reach past an array's edge."""

from absl.testing import parameterized
import jax
from jax.experimental import pallas as pl
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.kernels import tiles
from alpamayo_jax.kernels.tiles import Columns


def _copy(x, rows, parts, heads=None):
    """x [T, D] or one head of x [T, N, D], copied tile by tile; what is not written stays -1."""

    def kernel(x_ref, start_ref, out_ref):
        out_ref[...] = jnp.full(out_ref.shape, -1, out_ref.dtype)
        middle = () if heads is None else (heads + 0 * start_ref[0],)
        for i in range(-(-x.shape[0] // rows)):
            start = start_ref[0] + i * rows
            for part in parts:
                tile = tiles.load_rows(x_ref, start, rows, x.shape[0], part, middle)
                tiles.store_rows(out_ref, start, rows, x.shape[0], part, tile)

    shape = jax.ShapeDtypeStruct((x.shape[0], x.shape[-1]), x.dtype)
    return pl.pallas_call(kernel, out_shape=shape, interpret=True)(x, jnp.zeros(1, jnp.int32))


class ColumnsTest(parameterized.TestCase):
    @parameterized.parameters(
        (128, ((0, 128, 128),)),
        (72, ((0, 64, 64), (64, 8, 16))),
        (24, ((0, 16, 16), (16, 8, 16))),
        (8, ((0, 8, 16),)),
        (112, ((0, 64, 64), (64, 32, 32), (96, 16, 16))),
    )
    def test_columns(self, width, want):
        assert tiles.columns_of(width) == tuple(Columns(*part) for part in want)

    @parameterized.parameters(*range(1, 80, 3), 256, 300)
    def test_every_column_once_in_tiles_that_a_product_takes(self, width):
        for total, parts in (
            (width, tiles.columns_of(width)), (2 * width, tiles.halves_of(2 * width)),
        ):  # fmt: skip
            found = [c for part in parts for c in range(part.start, part.start + part.width)]
            assert found == list(range(total))
            for part in parts:
                assert part.width <= part.size == tiles.power_of_two(part.size)

    def test_halves(self):
        assert tiles.halves_of(128) == (Columns(0, 64, 64), Columns(64, 64, 64))
        assert tiles.halves_of(24) == (Columns(0, 12, 16), Columns(12, 12, 16))

    @parameterized.parameters((1, 16), (16, 16), (17, 32), (64, 64), (4095, 4096))
    def test_power_of_two(self, size, want):
        assert tiles.power_of_two(size) == want


class EdgesTest(parameterized.TestCase):
    @parameterized.product(tokens=(1, 16, 21), width=(24, 72))
    def test_a_copy_in_tiles_is_whole(self, tokens, width):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((tokens, width)), jnp.float32)
        np.testing.assert_array_equal(_copy(x, 16, tiles.columns_of(width)), x)

    def test_what_is_outside_a_part_stays_untouched(self):
        x = jnp.ones((20, 24))
        got = np.asarray(_copy(x, 16, [Columns(8, 8, 16)]))
        np.testing.assert_array_equal(got[:, 8:16], 1)
        np.testing.assert_array_equal(np.delete(got, np.s_[8:16], 1), -1)

    def test_one_head_of_several(self):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((20, 3, 24)), jnp.float32)
        got = _copy(x, 16, tiles.columns_of(24), heads=1)
        np.testing.assert_array_equal(got, x[:, 1])

    def test_vectors(self):
        def kernel(x_ref, start_ref, loaded_ref, stored_ref):
            stored_ref[...] = jnp.full(stored_ref.shape, -1.0)
            loaded_ref[...] = tiles.load_vector(x_ref, start_ref[0], 16, 20, (jnp.int32(1),))
            tiles.store_vector(stored_ref, start_ref[0], 16, 20, jnp.arange(16.0))

        x = jnp.stack([jnp.zeros(20), jnp.arange(20.0)])
        shapes = [jax.ShapeDtypeStruct((16,), jnp.float32), jax.ShapeDtypeStruct((20,), jnp.float32)]
        loaded, stored = pl.pallas_call(kernel, out_shape=shapes, interpret=True)(
            x, jnp.full(1, 16, jnp.int32)
        )
        np.testing.assert_array_equal(loaded, [16, 17, 18, 19] + [0] * 12)
        np.testing.assert_array_equal(stored, [-1] * 16 + [0, 1, 2, 3])

    def test_products_are_float32(self):
        a = jnp.asarray(np.random.default_rng(0).standard_normal((16, 16)), jnp.bfloat16)

        def kernel(a_ref, out_ref, turned_ref):
            out_ref[...] = tiles.product(a_ref[...], a_ref[...], trans_b=True)
            turned_ref[...] = tiles.product(a_ref[...], a_ref[...], trans_a=True)

        shape = jax.ShapeDtypeStruct((16, 16), jnp.float32)
        plain, turned = pl.pallas_call(kernel, out_shape=[shape, shape], interpret=True)(a)
        wide = np.asarray(a, np.float32)
        np.testing.assert_allclose(plain, wide @ wide.T, atol=1e-5)
        np.testing.assert_allclose(turned, wide.T @ wide, atol=1e-5)
