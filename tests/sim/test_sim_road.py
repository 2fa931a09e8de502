"""Roads: geometry, road coordinates, the tabulated field and the map."""

import hypothesis
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import strategies

from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.road import FAR, STEP, build_road, curve, map_lines, road_field


PIECES = strategies.lists(
    strategies.tuples(strategies.floats(5.0, 60.0), strategies.floats(-0.08, 0.08)),
    min_size=1,
    max_size=6,
)


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.example([(5.000000000000001, 0.0)], 0.0)
@hypothesis.given(PIECES, strategies.floats(-3.0, 3.0))
def test_any_road_is_smooth_and_turns_as_much_as_its_curvature(pieces, heading):
    road = build_road(pieces, heading=heading)
    lengths = np.array([length for length, _ in pieces])
    ends = np.array([0.0] + [kappa for _, kappa in pieces])
    expected = heading + (lengths * (ends[1:] + ends[:-1]) / 2).sum()
    assert abs(road.pose(lengths.sum())[1] - expected) < 0.02
    assert np.abs(np.diff(road.heading)).max() <= 0.08 * STEP + 1e-9
    assert np.isfinite(road.xy).all() and road.s[-1] >= lengths.sum()


def winding_road(**style):
    pieces = [(20.0, 0.0)] + curve(0.078, 1.3, 8.0) + [(15.0, 0.0)] + curve(-0.03, 1.3, 12.0)
    return build_road(pieces + [(40.0, 0.0)], origin=(31.0, -7.0), heading=0.8, **style)


class RoadTest(parameterized.TestCase):
    def test_starts_at_origin_and_heading(self):
        xy, heading, kappa = winding_road().pose(0.0)
        np.testing.assert_allclose(xy, [31.0, -7.0], atol=1e-9)
        self.assertAlmostEqual(float(heading), 0.8, places=9)
        self.assertEqual(float(kappa), 0.0)

    def test_curve_turns_by_its_angle(self):
        for kappa, angle, transition in ((0.05, 1.2, 10.0), (-0.02, 0.4, 60.0), (0.08, 0.1, 30.0)):
            road = build_road([(10.0, 0.0)] + curve(kappa, angle, transition) + [(10.0, 0.0)])
            turned = road.heading[-1] - road.heading[0]
            self.assertAlmostEqual(turned, np.sign(kappa) * angle, delta=2e-3)

    def test_arc_lies_on_its_circle(self):
        road = build_road([(0.01, 0.05), (30.0, 0.05)])
        late = road.s > 1.0
        centre, _, _ = road.pose(1.0, 20.0)
        radius = np.linalg.norm(road.xy[late] - centre, axis=-1)
        np.testing.assert_allclose(radius, 20.0, atol=5e-3)

    def test_samples_are_evenly_spaced(self):
        steps = np.linalg.norm(np.diff(winding_road().xy, axis=0), axis=-1)
        np.testing.assert_allclose(steps, STEP, rtol=1e-3)

    @parameterized.parameters((), (2, 1))
    def test_project_inverts_pose(self, *batch):
        road, rng = winding_road(), np.random.default_rng(0)
        s, d = rng.uniform(0, 110, (*batch, 30)), rng.uniform(-6, 6, (*batch, 30))
        xy, _, _ = road.pose(s, d)
        self.assertEqual(xy.shape, (*batch, 30, 2))
        found_s, found_d = road.project(xy, s + rng.uniform(-2, 2, s.shape), 6)
        np.testing.assert_allclose(found_s, s, atol=2e-2)
        np.testing.assert_allclose(found_d, d, atol=5e-3)

    def test_field_agrees_with_projection(self):
        road, rng = winding_road(), np.random.default_rng(1)
        field = road_field(road)
        s, d = rng.uniform(-40, 110, 4000), rng.uniform(-6.5, 6.5, 4000)
        xy, _, _ = road.pose(s, d)
        found_s, found_d = field.lookup(xy[:, 0].astype(np.float32), xy[:, 1].astype(np.float32))
        np.testing.assert_allclose(found_d, d, atol=0.04)
        np.testing.assert_allclose(found_s, s, atol=0.15)

    def test_field_knows_what_is_far(self):
        field = road_field(build_road([(50.0, 0.0)]))
        _, d = field.lookup(np.float32([10.0, 10.0]), np.float32([500.0, -500.0]))
        self.assertTrue((d > 20.0).all())
        self.assertEqual(field.values[..., 1].max(), FAR)

    def test_nearest_is_the_distance_to_the_centre_line(self):
        road = build_road([(100.0, 0.0)])
        np.testing.assert_allclose(road.nearest(np.array([[50.0, 12.0]])), 12.0, atol=0.05)

    def test_pieces_need_length(self):
        for pieces in ([], [(0.0, 0.1)], [(5.0, 0.0), (-1.0, 0.0)]):
            with pytest.raises(ConfigError, match="positive length"):
                build_road(pieces)

    def test_map_has_the_lane_and_its_boundaries(self):
        road = winding_road(lane_width=3.6, dashed=False)
        lines = map_lines(road, stop_line=30.0)
        self.assertEqual(lines.offsets[-1], len(lines.points))
        self.assertEqual(len(lines.offsets), len(lines.kind) + 1)
        by_kind = {
            kind: lines.points[a:b]
            for kind, a, b in zip(lines.kind, lines.offsets[:-1], lines.offsets[1:])
        }
        self.assertIn("lane_left:SOLID_YELLOW", by_kind)
        gap = by_kind["lane_left:SOLID_YELLOW"] - by_kind["lane_right:SOLID_WHITE"]
        np.testing.assert_allclose(np.linalg.norm(gap, axis=-1), 3.6, atol=1e-6)
        self.assertEqual(by_kind["stop_line"].shape, (2, 3))
        self.assertNotIn("stop_line", map_lines(road).kind)
