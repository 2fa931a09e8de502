import dataclasses

from absl.testing import parameterized
import jax
import numpy as np

from alpamayo_jax.config import VisionConfig
from alpamayo_jax.models.vision import VisionTower, interpolate_positions, patch_positions
from alpamayo_jax.testing.tiny import full_jit, quick_jit, random_params, tiny_config

_CONFIG = dataclasses.replace(tiny_config().vision, depth=4, deepstack_visual_indexes=(0, 2))
_GRID = np.array([[[4, 6], [2, 4]], [[4, 4], [0, 0]]], np.int32)


def _pixels(grid=_GRID, patches=24, seed=0):
    """Random real patches, zero padding."""
    draw = np.random.default_rng(seed).uniform(-1, 1, (*grid.shape[:2], patches, _CONFIG.patch_dim))
    real = np.arange(patches) < grid.prod(-1)[..., None]
    return (draw * real[..., None]).astype(np.float32), real


def _params(config: VisionConfig):
    whole = tiny_config(vision=config)
    return random_params(whole)["vlm"]["visual"]


def _run(config=_CONFIG, jit=quick_jit, **stack):
    return jit(lambda p, x, g: VisionTower(config, **stack).apply({"params": p}, x, g))


class PositionsTest(parameterized.TestCase):
    def test_merge_blocks(self):
        row, col, real = patch_positions(np.array([2, 4]), 10, 2)
        assert row.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
        assert col.tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 0, 0]
        assert real.tolist() == [True] * 8 + [False] * 2

    @parameterized.parameters((4, 6, 2), (6, 4, 2), (6, 3, 3), (3, 2, 1))
    def test_every_patch_once(self, height, width, merge):
        row, col, real = patch_positions(np.array([[[height, width]]]), height * width, merge)
        assert row.shape == (1, 1, height * width) and real.all()
        cells = list(zip(row[0, 0].tolist(), col[0, 0].tolist()))
        assert sorted(cells) == [(r, c) for r in range(height) for c in range(width)]
        for start in range(0, len(cells), merge**2):
            block = {(r // merge, c // merge) for r, c in cells[start : start + merge**2]}
            assert len(block) == 1

    def test_an_absent_image_has_no_patches(self):
        row, col, real = patch_positions(np.array([0, 0]), 4, 2)
        assert not real.any() and not row.any() and not col.any()

    @parameterized.parameters((5, 7), (2, 2), (3, 8), (1, 1))
    def test_interpolation_is_bilinear(self, height, width):
        side = 5
        table = np.random.default_rng(0).standard_normal((side**2, 3)).astype(np.float32)
        row, col = (a.reshape(1, -1) for a in np.mgrid[:height, :width])
        got = quick_jit(interpolate_positions)(table, row, col, np.array([[height, width]]))[0]
        square = table.reshape(side, side, 3)
        for place, (r, c) in enumerate(zip(row[0], col[0])):
            y = np.linspace(0, side - 1, height)[r] if height > 1 else 0
            x = np.linspace(0, side - 1, width)[c] if width > 1 else 0
            r0, c0 = int(y), int(x)
            r1, c1 = min(r0 + 1, side - 1), min(c0 + 1, side - 1)
            top = square[r0, c0] * (1 - x + c0) + square[r0, c1] * (x - c0)
            bottom = square[r1, c0] * (1 - x + c0) + square[r1, c1] * (x - c0)
            want = top * (1 - y + r0) + bottom * (y - r0)
            np.testing.assert_allclose(got[place], want, atol=1e-5)

    def test_a_grid_of_the_tables_size_reads_the_table(self):
        table = np.random.default_rng(0).standard_normal((16, 3)).astype(np.float32)
        row, col = (a.reshape(-1) for a in np.mgrid[:4, :4])
        got = interpolate_positions(table, row, col, np.array([4, 4]))
        np.testing.assert_allclose(got, table, atol=1e-6)


class TowerTest(parameterized.TestCase):
    def test_shapes(self):
        pixels, _ = _pixels()
        tokens, deepstack = jax.eval_shape(_run(), _params(_CONFIG), pixels, _GRID)
        assert tokens.shape == (2, 2, 6, 32) and deepstack.shape == (2, 2, 2, 6, 32)

    def test_scan_and_unrolled_twin_are_equal_bit_for_bit(self):
        pixels, _ = _pixels()
        params = _params(_CONFIG)
        scanned, unrolled = (
            _run(jit=full_jit, unroll=u)(params, pixels, _GRID) for u in (False, True)
        )
        for got, want in zip(scanned, unrolled):
            np.testing.assert_array_equal(got, want)

    def test_images_are_encoded_alone(self):
        run, params = _run(), _params(_CONFIG)
        pixels, real = _pixels()
        tokens, deepstack = run(params, pixels, _GRID)
        # What stands in padding and in other images does not matter.
        loud = np.where(real[..., None], pixels, 50).astype(np.float32)
        loud[0, 1] = 3 * pixels[1, 0]
        got, taps = run(params, loud, _GRID)
        for b, i in ((0, 0), (1, 0)):
            count = _GRID[b, i].prod() // 4
            np.testing.assert_array_equal(got[b, i, :count], tokens[b, i, :count])
            np.testing.assert_array_equal(taps[:, b, i, :count], deepstack[:, b, i, :count])
        assert np.abs(got[0, 1, :2] - tokens[0, 1, :2]).max() > 1e-3
        assert np.isfinite(got).all()
        # Nor how many images there are, or how large the largest is.
        alone = run(params, pixels[1:, :1, :16], _GRID[1:, :1])
        np.testing.assert_allclose(alone[0][0, 0], tokens[1, 0, :4], atol=1e-5)
        np.testing.assert_allclose(alone[1][:, 0, 0], deepstack[:, 1, 0, :4], atol=1e-5)

    def test_taps_follow_their_blocks(self):
        run, params = _run(), _params(_CONFIG)
        pixels, _ = _pixels()
        before = run(params, pixels, _GRID)

        def without_block(index):
            silent = jax.tree.map(lambda a: a.at[index].set(0), params["blocks"])
            return run(params | {"blocks": silent}, pixels, _GRID)

        def changed(after):
            moved = lambda a, b: bool(np.abs(a - b).max() > 1e-4)  # noqa: E731
            taps = [moved(after[1][j], before[1][j]) for j in range(2)]
            return [*taps, moved(after[0], before[0])]

        assert [changed(without_block(i)) for i in range(4)] == [
            [True, True, True],
            [False, True, True],
            [False, True, True],
            [False, False, True],
        ]

    @parameterized.parameters(((),), ((3,),))
    def test_any_set_of_taps(self, taps):
        config = dataclasses.replace(_CONFIG, deepstack_visual_indexes=taps)
        pixels, _ = _pixels()
        tokens, deepstack = jax.eval_shape(_run(config), _params(config), pixels, _GRID)
        assert deepstack.shape == (len(taps), 2, 2, 6, 32) and tokens.shape == (2, 2, 6, 32)
