"""Cells and metres of the contracted grid."""

from absl.testing import parameterized
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import TriplaneConfig
from alpamayo_jax.ops import contraction
from alpamayo_jax.presets import preset, with_compressor


class AxesTest(parameterized.TestCase):
    @parameterized.parameters(False, True)
    def test_there_and_back(self, half):
        config = TriplaneConfig(half_plane=half)
        for axis, cells in zip(contraction.axes(config), config.size):
            self.assertEqual(axis.size, cells)
            metres = np.linspace(axis.metres[0], axis.metres[-1], 101)
            np.testing.assert_allclose(axis.to_metres(axis.to_cells(metres)), metres, atol=1e-9)
            self.assertTrue((np.diff(axis.centres()) > 0).all())
            got = axis.to_cells(jnp.asarray(metres, jnp.float32))
            np.testing.assert_allclose(got, axis.to_cells(metres), rtol=1e-5, atol=1e-4)

    def test_the_inner_part_is_finer(self):
        for axis, inner in zip(contraction.axes(TriplaneConfig()), (60.0, 60.0, 15.0)):
            width = np.diff(axis.to_metres(np.arange(axis.size + 1.0)))
            middle = np.abs(axis.centres()) < inner
            self.assertLess(width[middle].max(), 0.5 * width[~middle].min())

    def test_the_half_plane_is_the_upper_half_of_x(self):
        full = contraction.cell_centres(TriplaneConfig())
        half = contraction.cell_centres(TriplaneConfig(half_plane=True))
        self.assertEqual((full.shape, half.shape), ((96, 96, 48, 3), (48, 96, 48, 3)))
        np.testing.assert_allclose(half, full[48:], atol=1e-4)
        self.assertGreater(half[..., 0].min(), 0)

    def test_outside_is_clipped(self):
        x, _, z = contraction.axes(TriplaneConfig())
        np.testing.assert_array_equal(x.to_cells(np.array([-1e4, 1e4])), [0, 96])
        np.testing.assert_array_equal(z.to_cells(np.array([-5.0, 100.0])), [0, 48])

    @parameterized.parameters("tiny", "r1_10b")
    def test_cells_cover_the_range(self, name):
        config = with_compressor(preset(name), "triplane").scene.triplane
        centres = contraction.cell_centres(config)
        self.assertEqual(centres.shape, (*config.size, 3))
        self.assertLess(np.abs(centres[..., 1]).max(), config.range_xy)
        self.assertTrue((np.diff(centres[:, 0, 0, 0]) > 0).all())
