"""Each cause where it is, and none where it is not."""

from absl.testing import parameterized
import coc_scenes as scenes
import numpy as np

from alpamayo_jax.coc.component import Kind
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion
from alpamayo_jax.coc.rules import causes
from alpamayo_jax.coc.rules.scene import EGO_FRONT, scene_at

T = scenes.times()
AT = 5.0


def scene(*others, speed=8.0, t=AT, **kwargs):
    clip = scenes.drive(np.full(161, speed), others, **kwargs)
    return scene_at(clip, t, ego_motion(clip.ego), roads_of(clip.map_lines))


def rolling(x0, v, accel=0.0, since=0.0):
    """Positions of someone at speed v who begins to change it at `since`."""
    speed = np.maximum(v + accel * np.maximum(T - since, 0.0), 0.0)
    return x0 + np.concatenate([[0.0], np.cumsum(speed[1:] * 0.1)])


class LeadTest(parameterized.TestCase):
    @parameterized.parameters(
        (rolling(60.0, 0.0), "stopped"), (rolling(25.0, 8.0), "moving"),
        (rolling(25.0, 8.0, -2.0, 3.5), "slowing"), (rolling(45.0, 4.0), "slower"),
        (rolling(40.0, 4.0, 1.5, 3.5), "accelerating"),
    )  # fmt: skip
    def test_its_motion(self, x, motion):
        found = causes.lead(scene(scenes.agent(7, T, x, 0.2)))
        assert found.component.attributes["motion"] == motion
        assert found.component.track == 7 and found.component.seen_at == AT
        gap = np.interp(AT, T, x) - 2.25 - 8.0 * AT - EGO_FRONT
        np.testing.assert_allclose(found.component.fact["gap_m"], gap, atol=0.3)

    @parameterized.parameters(
        dict(x=rolling(60.0, 0.0), y=3.5),  # beside
        dict(x=rolling(120.0, 8.0), y=0.0),  # far
        dict(x=rolling(-20.0, 8.0), y=0.0),  # behind
        dict(x=rolling(60.0, 0.0), y=0.0, yaw=np.pi),  # oncoming
        dict(x=rolling(60.0, 0.0), y=0.0, category="PEDESTRIAN"),
    )
    def test_none(self, **row):
        assert causes.lead(scene(scenes.agent(7, T, **row))) is None

    def test_the_nearest_of_two(self):
        found = causes.lead(
            scene(scenes.agent(7, T, 80.0, 0.0), scenes.agent(8, T, 65.0, 0.0, category="BUS"))
        )
        assert found.component.track == 8 and found.noun == "the bus ahead"

    def test_on_a_curve_the_lead_is_on_the_curve(self):
        kappa, ego = 0.02, None
        ego = scenes.ego_along(np.full(161, 8.0), lambda s: kappa)
        k = 75  # where the ego is 2.5 s later, 20 m on
        x, y = ego.xyz[k, :2]
        clip = scenes.drive(
            np.full(161, 8.0), [scenes.agent(7, T, x, y, yaw=kappa * 8.0 * 7.5)],
            scenes.curve_map(ego), kappa=lambda s: kappa,
        )  # fmt: skip
        found = causes.lead(scene_at(clip, AT, ego_motion(clip.ego), roads_of(clip.map_lines)))
        assert found is not None and abs(found.component.fact["gap_m"] - 14.0) < 1.0


class CrossingTest(parameterized.TestCase):
    def test_a_pedestrian_about_to_step_into_the_path(self):
        y = -8.0 + 1.4 * T  # 1 m right of the path at 5 s
        found = causes.crossing(scene(scenes.person(4, T, 55.0, y)))
        attributes = found.component.attributes
        assert (attributes["type"], attributes["motion"]) == ("pedestrian", "crossing")
        assert causes.is_vulnerable(found)

    @parameterized.parameters(
        dict(y=6.0 + 1.4 * T),  # walks away
        dict(y=-3.0),  # stands
        dict(y=-3.0, x=30.0 + 1.4 * T),  # walks along
        dict(y=-12.0 + 1.4 * (T - AT)),  # too late to matter
    )
    def test_none(self, y, x=55.0):
        assert causes.crossing(scene(scenes.person(4, T, x, y))) is None

    def test_on_a_crosswalk(self):
        crosswalk = [
            ("p", "ped_crossing_edge1", [[53, -4], [53, 4]]),
            ("p", "ped_crossing_edge2", [[57, -4], [57, 4]]),
        ]
        found = causes.crossing(
            scene(scenes.person(4, T, 55.0, -8.0 + 1.4 * T),
                  map_entries=[*scenes.lane("a", 0.0), *crosswalk])
        )  # fmt: skip
        assert found.component.attributes["pose"] == "crosswalk"
        assert "on the crosswalk" in found.clause

    def test_a_vehicle_from_the_side(self):
        found = causes.crossing(
            scene(scenes.agent(5, T, 60.0, 30.0 - 4.5 * T, yaw=-np.pi / 2), speed=6.0)
        )
        assert found.component.attributes["pose"] == "left"
        assert found.clause.startswith("the vehicle on the left is")

    def test_oncoming_traffic_matters_only_where_the_route_turns(self):
        row = scenes.agent(5, T, 100.0 - 8.0 * T, 3.5, yaw=np.pi)
        assert causes.crossing(scene(row, speed=5.0)) is None

        def turn(s):
            return 1.0 / 12.0 if 28 < s < 28 + 6.0 * np.pi else 0.0

        found = causes.crossing(scene(row, speed=5.0, kappa=turn, t=5.0))
        assert found is not None and found.component.attributes["pose"] == "oncoming"


class OthersTest(parameterized.TestCase):
    @parameterized.parameters((1.0, "left"), (-1.0, "right"))
    def test_a_vehicle_that_cuts_in(self, sign, side):
        y = sign * (3.5 - 0.8 * np.clip(T - 4.0, 0.0, 4.0))
        found = causes.cut_in(scene(scenes.agent(6, T, 10.0 + 8.0 * T, y)))
        assert found.component.attributes["motion"] == "cut_in"
        assert found.component.attributes["pose"] == side

    def test_a_neighbour_that_stays_in_its_lane_does_not(self):
        assert causes.cut_in(scene(scenes.agent(6, T, 10.0 + 8.0 * T, 3.5))) is None

    @parameterized.parameters((3.5, True), (9.0, False))
    def test_someone_who_stands_beside_the_path(self, y, there):
        found = causes.standing_person(scene(scenes.person(4, T, 58.0, y)))
        assert (found is not None) == there

    @parameterized.parameters(("right", -2.4, True), ("left", -2.4, False), ("right", -5.0, False))
    def test_an_obstacle_close_to_the_path(self, side, y, there):
        row = scenes.agent(3, T, 55.0, y, category="TRAFFIC_CONE", size=(0.4, 0.4, 0.7))
        assert (causes.obstacle(scene(row), side) is not None) == there

    def test_the_colour_of_a_light(self):
        events = [scenes.light(0.0, "red", 80.0), scenes.light(9.0, "green", 80.0)]
        found = causes.light(scene(events=events), ("red", "yellow"))
        assert found.component.kind is Kind.LIGHT
        np.testing.assert_allclose(found.component.fact["since_s"], 5.0, atol=0.06)
        assert causes.light(scene(events=events), ("green",)) is None
        assert causes.light(scene(events=events, t=9.5), ("green",)) is not None
        assert causes.light(scene(events=events, t=11.0), ("red", "green")) is None  # behind

    def test_a_stop_line_across_the_route(self):
        entries = [*scenes.lane("a", 0.0), ("s", "stop_line", [[60, -2], [60, 2]])]
        found = causes.stop_line(scene(map_entries=entries))
        np.testing.assert_allclose(found.component.fact["distance_m"], 16.2, atol=0.3)
        assert causes.stop_line(scene()) is None

    def test_a_clear_lane_is_one_where_nobody_is(self):
        assert causes.free_lane(scene()) is not None
        assert causes.free_lane(scene(scenes.agent(7, T, 60.0, 0.0))) is None
        assert causes.free_lane(scene(scenes.person(4, T, 55.0, -8.0 + 1.4 * T))) is None
        assert causes.free_lane(scene(events=[scenes.light(0.0, "red", 80.0)])) is None

    def test_who_has_passed(self):
        row = scenes.person(4, T, 20.0, -6.0 + 1.4 * T)
        clip = scenes.drive(np.zeros(161), [row])
        own, roads = ego_motion(clip.ego), roads_of(clip.map_lines)
        at = lambda t: scene_at(clip, t, own, roads)  # noqa: E731
        assert causes.crossing(at(4.0)) is not None
        gone = causes.passed(at(6.5), at(4.0))
        assert gone.component.attributes["motion"] == "passed"
        assert causes.passed(at(4.5), at(4.0)) is None


class RoadTest(parameterized.TestCase):
    @parameterized.parameters((0.03, "left", "moderate"), (-0.06, "right", "sharp"))
    def test_a_curve_that_the_map_shows(self, kappa, side, sharpness):
        def bend(s):
            return kappa if 60 < s < 85 else 0.0

        ego = scenes.ego_along(np.full(161, 8.0), bend)
        found = causes.curve(scene(kappa=bend, map_entries=scenes.curve_map(ego)), 60.0)
        attributes = found.component.attributes
        assert (attributes["side"], attributes["sharpness"]) == (side, sharpness)

    def test_a_curve_that_no_map_shows_is_not_named(self):
        def bend(s):
            return 0.05 if 60 < s < 85 else 0.0

        far = scenes.lane("a", 90.0)
        assert causes.curve(scene(kappa=bend, map_entries=far), 60.0) is None
        assert causes.curve(scene(), 60.0) is None  # straight

    def test_a_turn_at_a_junction(self):
        def turn(s):
            return 1.0 / 12.0 if 48 < s < 48 + 6.0 * np.pi else 0.0

        turning = scene(kappa=turn, speed=6.0, map_entries=scenes.junction(60.0))
        found = causes.junction_turn(turning)
        assert found.component.attributes == {"intent": "turn", "side": "left"}
        straight = scene(speed=6.0, map_entries=scenes.junction(60.0))
        assert causes.junction_turn(straight) is None
        assert causes.junction(straight, 40.0) is not None
        assert causes.junction(straight, 10.0) is None


def test_nothing_that_happens_later_changes_a_scene():
    rows = [scenes.agent(7, T, rolling(45.0, 4.0), 0.0), scenes.person(4, T, 58.0, -8.0 + 1.4 * T)]
    clip = scenes.drive(np.full(161, 8.0), rows)
    own, roads = ego_motion(clip.ego), roads_of(clip.map_lines)
    before = scene_at(clip, AT, own, roads)
    clip.agents.xyz[clip.agents.t > AT + 1e-6] += 50.0
    after = scene_at(clip, AT, own, roads)
    for name in ("s", "d", "gap", "clearance", "along", "across", "conflict_in"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    assert causes.lead(before) == causes.lead(after)
    assert causes.crossing(before) == causes.crossing(after)
