"""Roads: lanes meet, crossings cross, turns end in a lane, asphalt lies below every lane."""

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.coc.lanes import places, roads_of
from alpamayo_jax.sim import layouts
from alpamayo_jax.sim.layouts import Profile, Site
from alpamayo_jax.sim.mapping import drivable_areas, map_lines
from alpamayo_jax.sim.paths import curve
from alpamayo_jax.sim.roadside import clearance

SITE, LONG = Site((30.0, -50.0), 0.9), [(400.0, 0.0)]


def all_layouts():
    crossing = dict(profile=Profile(), site=SITE, line=60.0)
    winding = [(50.0, 0.0)] + curve(0.03, 1.0, 15.0) + [(200.0, 0.0)]
    return {
        "plain": layouts.open_road(winding, Profile(), SITE, 90.0),
        "two_lanes": layouts.open_road(winding, Profile(same=1), SITE),
        "crossing": layouts.crossing_road(LONG, **crossing, skew=0.12, crosswalk=True),
        "left": layouts.crossing_road(LONG, **crossing, skew=-0.1, turn="left", room=200.0),
        "right": layouts.crossing_road(LONG, **crossing, turn="right", room=200.0),
        "merge": layouts.merging_road(Profile(same=2, oncoming=0), SITE, 60.0, 180.0, 400.0),
        "round_right": layouts.roundabout(Profile(), SITE, 50.0, "right", 200.0)[0],
        "round_straight": layouts.roundabout(Profile(), SITE, 50.0, "straight", 200.0)[0],
        "round_left": layouts.roundabout(Profile(), SITE, 50.0, "left", 200.0)[0],
    }


LAYOUTS = all_layouts()


class LayoutTest(parameterized.TestCase):
    @parameterized.parameters(*LAYOUTS)
    def test_lanes_and_route_lie_on_asphalt(self, name):
        layout = LAYOUTS[name]
        for lane in layout.lanes:
            self.assertLess(clearance(layout, lane.centre).max(), -0.9)
        until = min(layout.lane_end, 200.0)
        self.assertLess(clearance(layout, layout.route.points(0.0, until)).max(), -1.2)

    @parameterized.parameters(*LAYOUTS)
    def test_the_route_is_in_a_lane_of_the_map(self, name):
        layout = LAYOUTS[name]
        roads = roads_of(map_lines(layout))
        self.assertLen(roads.lanes, len(layout.lanes))
        for s in np.arange(0.0, min(layout.lane_end, 180.0), 4.0):
            xy, heading, _ = layout.route.pose(s)
            found = places(roads, xy, float(heading), reach=3.0)
            self.assertTrue(found, s)
            self.assertLess(abs(found[0].offset), 0.6)

    @parameterized.parameters("left", "right", "round_left", "round_right", "round_straight")
    def test_a_turn_ends_in_the_lane_of_the_other_road(self, name):
        layout = LAYOUTS[name]
        (begin, end), = layout.junctions
        xy, heading, _ = layout.route.pose(end + 30.0)
        turned = float(heading) - SITE.heading
        wanted = {"left": np.pi / 2, "right": -np.pi / 2, "straight": 0.0}[name.split("_")[-1]]
        self.assertLess(abs(turned - wanted), 0.15)
        lanes = [lane for lane in layout.lanes if lane.left != "NONE"]
        gaps = [np.hypot(*(lane.centre - xy).T).min() for lane in lanes]
        self.assertLess(min(gaps), 1.1)  # points of lanes are 2 m apart

    def test_crossings_are_junctions_of_the_map(self):
        for name in ("crossing", "left", "right"):
            layout = LAYOUTS[name]
            roads = roads_of(map_lines(layout))
            (begin, end), = layout.junctions
            xy, heading, _ = layout.route.pose((begin + end) / 2)
            found = places(roads, xy, float(heading), reach=3.0)
            self.assertTrue(any(roads.junction(place.lane) for place in found), name)

    def test_crosswalk_and_stop_line_come_before_the_crossing(self):
        layout = LAYOUTS["crossing"]
        roads = roads_of(map_lines(layout))
        (walk,), (line,) = roads.crosswalks, roads.stop_lines
        walk_s, line_s = (float(layout.route.locate(p.mean(0))[0]) for p in (walk, line))
        self.assertLess(line_s, walk_s)
        self.assertLess(walk_s, layout.junctions[0][0])
        self.assertAlmostEqual(line_s, 60.0, delta=0.01)

    def test_neighbours_of_the_lane_are_described(self):
        two = LAYOUTS["two_lanes"]
        self.assertEqual([lane.direction for lane in two.beside], [1, -1])
        merge = LAYOUTS["merge"]
        self.assertEqual(merge.lane_end, 180.0)
        self.assertTrue(all(lane.direction == 1 for lane in merge.beside))
        self.assertEqual(two.edges[0], -Profile().width / 2 - Profile().shoulder)

    @parameterized.parameters(*LAYOUTS)
    def test_drivable_areas_hold_the_road(self, name):
        layout = LAYOUTS[name]
        areas = drivable_areas(layout)
        self.assertTrue(all(len(area) >= 4 and np.isfinite(area).all() for area in areas))

    def test_marks_tell_directions_apart(self):
        first = LAYOUTS["plain"].lanes[0]
        self.assertEqual((first.left, first.right), ("DASHED_YELLOW", "SOLID_WHITE"))
        lane, second = LAYOUTS["two_lanes"].lanes[:2]
        self.assertEqual((lane.left, second.right), ("DASHED_WHITE", "DASHED_WHITE"))
        self.assertEqual(second.left, "SOLID_YELLOW")

    def test_oncoming_lanes_point_the_other_way(self):
        own, oncoming = LAYOUTS["plain"].lanes[:2]
        a, b = (lane.centre[1] - lane.centre[0] for lane in (own, oncoming))
        self.assertLess(float(a @ b), 0.0)
