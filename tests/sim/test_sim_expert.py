"""The expert's reasons one at a time, and its moves to the side."""

import dataclasses

import numpy as np
from absl.testing import parameterized

from alpamayo_jax.sim.expert import drive
from alpamayo_jax.sim.layouts import Profile, Site, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.paths import build_path, curve, straight
from alpamayo_jax.sim.rules import CAUSES, Limits, equilibrium_gap, stopping_distance
from alpamayo_jax.sim.seen import FRONT, HALF, REAR, others_of
from alpamayo_jax.sim.sideways import Line, Swerve
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import Actor, Kind, Shift, Sign, Signal, SpeedChange, World

STYLE = Style(set_speed=11.0)
STEPS = 201


def layout(**profile):
    return open_road([(600.0, 0.0)], Profile(**profile), Site((5.0, -3.0), 0.7))


ROAD = layout()


def driven(world, style=STYLE, speed=11.0, steps=STEPS):
    return drive(world, tuple(move(a, steps) for a in world.actors), style, steps, speed)


def why(run):
    return {CAUSES[cause] for cause in run.cause}


def vehicle(s, d=0.0, path=ROAD.route, **plan):
    return Actor(Kind.CAR, path, s, d, **plan)


def walker(s, starts, side=-1.0, speed=1.4):
    x, y, heading = ROAD.route.place(s)
    path = straight((x, y, heading - side * np.pi / 2), 30.0, 30.0)
    return Actor(Kind.PEDESTRIAN, path, -6.0, lwh=(0.5, 0.6, 1.7),
                 changes=(SpeedChange(starts, speed, 2.0),))  # fmt: skip


class SpeedTest(parameterized.TestCase):
    def test_alone_it_keeps_its_speed_and_its_lane(self):
        run = driven(World(ROAD), speed=4.0)
        self.assertAlmostEqual(float(run.v[-1]), 11.0, delta=0.4)
        self.assertLess(np.abs(run.d).max(), 1e-3)
        self.assertEqual(why(run), {"free"})

    def test_controls_give_the_poses_back(self):
        run = driven(World(open_road([(40.0, 0.0)] + curve(0.05, 1.2, 10.0) + [(300.0, 0.0)],
                                     Profile(), Site())))  # fmt: skip
        v = run.v[:-1] + 0.1 * run.a[:-1]
        np.testing.assert_allclose(v, run.v[1:], atol=1e-9)
        turned = 0.1 * run.kappa[:-1] * run.v[:-1] + 0.005 * run.kappa[:-1] * run.a[:-1]
        np.testing.assert_allclose(np.diff(run.heading), turned, atol=1e-9)
        self.assertIn("curve", why(run))
        self.assertLess((run.v**2 * np.abs(run.kappa)).max(), 1.25 * STYLE.lateral)

    def test_behind_a_steady_lead_it_settles(self):
        run = driven(World(ROAD, (vehicle(60.0, speed=7.0),)), steps=401)
        self.assertAlmostEqual(float(run.v[-1]), 7.0, delta=0.2)
        gap = 60.0 + 7.0 * 40.0 - 2.3 - run.s[-1] - FRONT
        self.assertAlmostEqual(gap, equilibrium_gap(7.0, STYLE), delta=1.5)
        self.assertEqual(set(run.actor[run.cause == CAUSES.index("lead")]), {0})

    def test_behind_a_standing_car_it_stops(self):
        run = driven(World(ROAD, (vehicle(90.0),)))
        self.assertEqual(float(run.v[-1]), 0.0)
        self.assertBetween(90.0 - 2.3 - run.s[-1] - FRONT, 1.5, 5.0)

    @parameterized.parameters((3.6, False), (0.0, True))
    def test_only_who_is_in_the_path_is_followed(self, d, follows):
        run = driven(World(ROAD, (vehicle(50.0, d, speed=6.0),)))
        self.assertEqual("lead" in why(run), follows)

    def test_a_stop_sign_is_left_after_a_while(self):
        sign = Sign("stop", 80.5, -6.0, 80.0)
        run = driven(World(ROAD, signs=(sign,)))
        stood = np.flatnonzero(run.v < 0.05)
        self.assertBetween(len(stood), 8, 40)
        self.assertBetween(80.0 - run.s[stood[0]] - FRONT, 0.3, 2.5)
        self.assertGreater(run.v[-1], 5.0)

    def test_a_yellow_light_too_near_is_passed(self):
        far, near = (
            driven(World(ROAD, signal=Signal(s, ((-1.0, "green"), (2.0, "yellow"), (4.5, "red")))))
            for s in (75.0, 35.0)
        )
        self.assertLess(far.v.min(), 0.05)
        self.assertGreater(near.v.min(), 9.0)

    def test_it_reacts_to_a_light_with_its_delay(self):
        signal = Signal(FRONT + 1.0, ((-1.0, "red"), (4.0, "green")))
        starts = [
            float(run.t[np.argmax(run.v > 0)])
            for reaction in (0.5, 1.0)
            for run in [driven(World(ROAD, signal=signal), dataclasses.replace(
                STYLE, reaction=reaction), 0.0)]
        ]  # fmt: skip
        self.assertAlmostEqual(starts[1] - starts[0], 0.5, delta=0.11)
        self.assertGreater(starts[0], 4.4)

    @parameterized.parameters(-1.0, 1.0)
    def test_a_pedestrian_who_crosses_is_let_pass(self, side):
        run = driven(World(ROAD, (walker(75.0, 2.0, side),)))
        self.assertIn("vru", why(run))
        other = others_of(World(ROAD, (walker(75.0, 2.0, side),)),
                          (move(walker(75.0, 2.0, side), STEPS),))[0]  # fmt: skip
        inside = np.abs(other.d) < HALF + 0.3
        passes = (run.s + FRONT > 75.0) & (run.s - REAR < 75.0)
        self.assertFalse((inside & passes).any())

    def test_a_pedestrian_who_stands_is_passed(self):
        run = driven(World(ROAD, (walker(75.0, 99.0),)))
        self.assertEqual(why(run), {"free"})

    def test_a_pedestrian_who_crosses_long_before_is_no_reason(self):
        run = driven(World(ROAD, (walker(190.0, 0.5),)))
        self.assertGreater(run.v.min(), 10.0)

    def test_who_signals_is_let_in(self):
        world = World(layout(same=1))
        shift = Shift(4.0, 0.0, 3.0)
        contender = vehicle(20.0, 3.5, world.layout.route, speed=8.0, shifts=(shift,))
        run = driven(World(world.layout, (contender,)))
        (first, *_), = np.nonzero(run.cause == CAUSES.index("cut_in"))
        self.assertBetween(run.t[first], 3.0 + STYLE.reaction - 0.05, 5.0)
        stays = dataclasses.replace(contender, shifts=())
        self.assertEqual(why(driven(World(world.layout, (stays,)))), {"free"})

    def test_limits_can_be_braked_to(self):
        s = np.arange(0.0, 100.0, 0.25)
        limits = Limits(s, np.where(s > 60.0, 5.0, 20.0), 1.5)
        self.assertAlmostEqual(limits.at(70.0), 5.0)
        self.assertAlmostEqual(limits.at(40.0) ** 2, 25.0 + 2 * 1.5 * 20.0, delta=1.0)
        self.assertLess(limits.accel(50.0, 12.0), -1.0)

    def test_stopping_distance_grows_with_the_square_of_speed(self):
        self.assertAlmostEqual(stopping_distance(12.0, STYLE), 4.0 * stopping_distance(6.0, STYLE))


class AsideTest(parameterized.TestCase):
    def test_a_car_half_in_the_lane_is_passed_within_the_lane(self):
        run = driven(World(ROAD, (vehicle(90.0, -2.15),)))
        out, back = run.moves
        self.assertEqual((out.kind, out.side, out.leaves, out.actor), ("nudge", "left", False, 0))
        self.assertEqual((back.kind, back.side), ("return", "right"))
        self.assertLess(abs(run.d[-1]), 0.05)

    def test_a_car_in_the_lane_is_passed_through_the_other_lane(self):
        run = driven(World(ROAD, (vehicle(90.0, -1.1),)))
        self.assertTrue(run.moves[0].leaves)
        beside = np.abs(run.s - 90.0) < 2.0
        self.assertGreater((run.d[beside] - HALF - (-1.1 + 0.925)).min(), 0.5)

    def test_but_not_while_somebody_comes(self):
        coming = vehicle(90.0 + 9.0 * 8.0, 3.5, direction=-1, speed=9.0)
        run = driven(World(ROAD, (vehicle(90.0, -1.1), coming)))
        self.assertIn("blocked", why(run))
        self.assertEqual(set(run.blocker), {-1, 1})
        moved = np.flatnonzero(run.d > 1.0)[0]
        met = np.flatnonzero(run.s > 90.0 + 72.0 - 9.0 * run.t)[0]
        self.assertGreater(moved, met - 5)

    def test_a_car_that_stands_in_the_middle_is_a_lead(self):
        run = driven(World(ROAD, (vehicle(90.0, 0.2),)))
        self.assertEqual(run.moves, ())

    def test_overtaking_needs_a_lane_a_reason_and_the_will(self):
        two = layout(same=1)
        slow = vehicle(50.0, 0.0, two.route, speed=5.0)
        keen = dataclasses.replace(STYLE, overtakes=True)
        self.assertEqual(driven(World(two, (slow,)), keen).moves[0].kind, "lane_change")
        self.assertEqual(driven(World(two, (slow,))).moves, ())
        self.assertEqual(driven(World(two), keen).moves, ())
        quick = dataclasses.replace(slow, speed=10.8)
        self.assertEqual(driven(World(two, (quick,)), keen).moves, ())
        beside = vehicle(0.0, 3.5, two.route, speed=11.0)
        later = driven(World(two, (slow, beside)), keen)
        self.assertIn(1, later.blocker)


class SwerveTest(parameterized.TestCase):
    def test_it_goes_where_it_shall_without_a_jump(self):
        swerve = Swerve(0.0, 1.0, 0.0).towards(10.0, 3.0, 30.0)
        s = np.arange(9.0, 45.0, 0.01)
        d, slope, bend = np.array([swerve.at(x) for x in s]).T
        self.assertAlmostEqual(d[0], 0.0)
        self.assertAlmostEqual(d[-1], 3.0)
        self.assertLess(np.abs(np.diff(bend)).max(), 1e-3)
        np.testing.assert_allclose(np.gradient(d, 0.01)[2:-2], slope[2:-2], atol=1e-3)
        self.assertTrue((np.diff(d) > -1e-9).all())

    def test_a_new_move_begins_where_the_old_one_is(self):
        one = Swerve(0.0, 1.0, 0.0).towards(0.0, 3.0, 30.0)
        two = one.towards(14.0, -1.0, 20.0)
        np.testing.assert_allclose(two.at(14.0), one.at(14.0), atol=1e-9)
        self.assertAlmostEqual(two.at(40.0)[0], -1.0)

    def test_a_line_is_the_path(self):
        path = build_path([(30.0, 0.0)] + curve(0.05, 1.2, 12.0))
        line = Line(path)
        for s in (-3.3, 0.0, 31.7, 44.0):
            (x, y), heading, kappa = path.pose(s)
            np.testing.assert_allclose(line.at(s), (x, y, heading, kappa), atol=1e-9)
        np.testing.assert_allclose(line.at(1e6), line.at(float(path.s[-1])))


class SeenTest(parameterized.TestCase):
    def test_coordinates_of_the_route(self):
        other = others_of(World(ROAD, (vehicle(40.0, 3.5, direction=-1, speed=8.0),)),
                          (move(vehicle(40.0, 3.5, direction=-1, speed=8.0), 11),))[0]  # fmt: skip
        np.testing.assert_allclose(other.s[[0, -1]], [40.0, 32.0], atol=1e-6)
        np.testing.assert_allclose(other.speed, -8.0, atol=1e-6)
        np.testing.assert_allclose(other.gone[-1], 8.0)
        self.assertIsNone(other.meeting)

    def test_where_a_path_crosses(self):
        person = walker(75.0, 0.0)
        (other,) = others_of(World(ROAD, (person,)), (move(person, 101),))
        self.assertBetween(other.meeting.begin, 3.5, 5.0)
        self.assertBetween(other.meeting.end, 7.0, 8.5)
        self.assertBetween(other.meeting.s[0], 74.0, 75.0)
        self.assertBetween(other.meeting.s[1], 75.0, 76.0)
