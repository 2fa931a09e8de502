"""Polylines and polygons; padding changes nothing."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import polylines

BEND = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]])
PADDED = np.concatenate([BEND, np.repeat(BEND[-1:], 4, axis=0)])
SQUARE = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
# A horseshoe: the notch between its legs is outside.
HORSESHOE = np.array([[0, 0], [6, 0], [6, 6], [4, 6], [4, 2], [2, 2], [2, 6], [0, 6]], float)


class LineTest(parameterized.TestCase):
    @parameterized.product(
        case=(
            ((3.0, 2.0), 3.0, 2.0, 0.0),
            ((3.0, -2.0), 3.0, -2.0, 0.0),
            ((-1.0, 0.0), 0.0, 1.0, 0.0),
            ((12.0, 4.0), 14.0, -2.0, np.pi / 2),
            ((10.0, 13.0), 20.0, 3.0, np.pi / 2),
        ),
        line=(BEND, PADDED),
    )
    def test_project(self, case, line):
        point, along, off, heading = case
        got = polylines.project(jnp.array(point), jnp.asarray(line))
        np.testing.assert_allclose(got[0], along, atol=1e-5)
        np.testing.assert_allclose(abs(got[1]), abs(off), atol=1e-5)
        if 0 < along < 20:
            np.testing.assert_allclose(got[1], off, atol=1e-5)
        np.testing.assert_allclose(got[2], heading, atol=1e-5)
        distance = polylines.line_distance(jnp.array(point), jnp.asarray(line))
        np.testing.assert_allclose(distance, abs(off), atol=1e-5)

    def test_lengths_of_padding_do_not_grow(self):
        np.testing.assert_allclose(polylines.lengths(jnp.asarray(PADDED)), [0, 10] + [20] * 5)

    @parameterized.product(
        case=((0.0, (0, 0), 0.0), (10.0, (10, 0), np.pi / 2), (14.0, (10, 4), np.pi / 2),
              (25.0, (10, 15), np.pi / 2), (-3.0, (-3, 0), 0.0)),
        line=(BEND, PADDED),
    )  # fmt: skip
    def test_interpolate(self, case, line):
        along, point, heading = case
        got = polylines.interpolate(jnp.asarray(line), jnp.float32(along))
        np.testing.assert_allclose(got[0], point, atol=1e-5)
        np.testing.assert_allclose(got[1], heading, atol=1e-5)

    def test_interpolating_where_a_point_was_projected_gives_its_foot(self):
        rng = np.random.default_rng(0)
        line = jnp.asarray(np.cumsum(rng.uniform(0.1, 2.0, (12, 2)), axis=0))
        along = jnp.linspace(0.2, float(polylines.lengths(line)[-1]) - 0.2, 9)
        points, _ = polylines.interpolate(line, along)
        back, off, _ = jax.vmap(polylines.project, (0, None))(points, line)
        np.testing.assert_allclose(back, along, atol=1e-4)
        np.testing.assert_allclose(off, 0.0, atol=1e-4)


class PolygonTest(parameterized.TestCase):
    @parameterized.product(
        case=((SQUARE, (1.0, 1.0), True), (SQUARE, (5.0, 1.0), False), (SQUARE, (-1, 4.0), False),
              (HORSESHOE, (1.0, 5.0), True), (HORSESHOE, (3.0, 5.0), False),
              (HORSESHOE, (3.0, 1.0), True)),
        padding=(0, 3),
        closed=(False, True),
    )  # fmt: skip
    def test_inside(self, case, padding, closed):
        polygon, point, want = case
        if closed:
            polygon = np.concatenate([polygon, polygon[:1]])
        polygon = np.concatenate([polygon, np.repeat(polygon[-1:], padding, axis=0)])
        for loop in (polygon, polygon[::-1]):
            got = polylines.inside(jnp.array(point, jnp.float32), jnp.asarray(loop))
            self.assertEqual(bool(got), want)
