"""Lanes of maps of three kinds, junctions, and where a point is."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc import lanes


class RoadsTest(parameterized.TestCase):
    def test_a_pair_of_boundaries(self):
        roads = lanes.roads_of(scenes.lines(*scenes.lane("a", 1.0, width=3.2)))
        (lane,) = roads.lanes
        assert lane.name == "a" and not lane.link and abs(lane.width - 3.2) < 1e-6
        np.testing.assert_allclose(lane.centre[:, 1], 1.0)

    def test_a_centre_line_with_and_without_a_polygon(self):
        line = [[0, 0], [10, 0], [20, 0]]
        roads = lanes.roads_of(
            scenes.lines(
                ("a", "LANE_SURFACE_STREET:polyline", line),
                ("a", "LANE_SURFACE_STREET:polygon", [[0, 2], [20, 2], [20, -2], [0, -2]]),
                ("b", "LANE_SURFACE_STREET:polyline", line),
                ("c", "ROAD_LINE_BROKEN_SINGLE_WHITE:polyline", line),
            )
        )
        assert [(lane.name, lane.link) for lane in roads.lanes] == [("a", False), ("b", True)]

    def test_unpainted_boundaries_are_a_link(self):
        entries = [
            ("a", "lane_left:NONE", [[0, 2], [9, 2]]), ("a", "lane_right:NONE", [[0, -2], [9, -2]])
        ]  # fmt: skip
        assert lanes.roads_of(scenes.lines(*entries)).lanes[0].link

    def test_crosswalks_and_stop_lines(self):
        roads = lanes.roads_of(
            scenes.lines(
                ("p", "ped_crossing_edge1", [[10, -4], [10, 4]]),
                ("p", "ped_crossing_edge2", [[14, -4], [14, 4]]),
                ("q", "ped_crossing_edge1", [[50, -4], [50, 4]]),
                ("s", "stop_line", [[8, -2], [8, 2]]),
            )
        )
        (quad,) = roads.crosswalks
        np.testing.assert_allclose(quad, [[10, -4], [10, 4], [14, 4], [14, -4]])
        assert len(roads.stop_lines) == 1

    def test_no_map(self):
        roads = lanes.roads_of(None)
        assert roads == lanes.Roads() and lanes.places(roads, np.zeros(2), 0.0) == []


class JunctionTest(parameterized.TestCase):
    def test_links_that_cross_or_branch(self):
        roads = lanes.roads_of(scenes.lines(*scenes.junction()))
        found = {lane.name: roads.junction(i) for i, lane in enumerate(roads.lanes)}
        assert found == {
            "in": False, "through": True, "out": False, "across": True, "left": True
        }  # fmt: skip

    def test_a_link_alone_is_none(self):
        entries = [("a", "LANE_SURFACE_STREET:polyline", [[0, 0], [20, 0]])]
        assert not lanes.roads_of(scenes.lines(*entries)).junction(0)


class PlacesTest(parameterized.TestCase):
    def setUp(self):
        self.roads = lanes.roads_of(
            scenes.lines(*scenes.lane("a", 0.0), *scenes.lane("b", 3.5))
        )

    @parameterized.parameters((0.4, 0, 0.4), (3.0, 1, -0.5))
    def test_the_nearest_first(self, y, lane, offset):
        found = lanes.places(self.roads, np.array([20.0, y]), 0.1)
        assert found[0].lane == lane and len(found) == 2
        np.testing.assert_allclose(found[0].offset, offset, atol=1e-6)

    def test_a_lane_that_goes_another_way_is_not_the_egos(self):
        assert lanes.places(self.roads, np.array([20.0, 0.0]), np.pi) == []
        assert lanes.places(self.roads, np.array([20.0, 0.0]), np.pi / 2) == []

    def test_beyond_reach_or_the_ends(self):
        assert lanes.places(self.roads, np.array([20.0, 12.0]), 0.0) == []
        assert lanes.places(self.roads, np.array([400.0, 0.0]), 0.0) == []
