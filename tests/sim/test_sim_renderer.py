"""The renderer: what is drawn stands where the camera says, in the right colours, in front of what
it hides; frames depend on nothing but the world, the step and the pose."""

import dataclasses

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera, draw
from alpamayo_jax.sim.bodies import body_of, posed
from alpamayo_jax.sim.layouts import Profile, Site, crossing_road, open_road
from alpamayo_jax.sim.motion import move
from alpamayo_jax.sim.parts import COLUMNS, GLOW
from alpamayo_jax.sim.renderer import Rig, Stage
from alpamayo_jax.sim.roadside import clearance, roadside
from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.world import WEATHERS, Actor, Kind, Sign, Signal, SpeedChange, World

SIZE = (160, 96)
ORIGIN = np.zeros(3)
PINHOLE = camera.FRONT
FTHETA = dataclasses.replace(camera.FRONT, model="ftheta", hfov=110.0, name="wide")


def rig(*specs):
    return Rig(tuple(camera.make_view(spec, *SIZE) for spec in specs or (PINHOLE,)))


RIG = rig()


def road(**world):
    layout = open_road([(400.0, 0.0)], Profile(), Site(), **{
        name: world.pop(name) for name in ("crosswalk",) if name in world
    })  # fmt: skip
    return World(layout, **{"look": 3, **world})


def stage(world):
    return Stage(world, tuple(move(actor, 101) for actor in world.actors))


def picture(world, step=0, pose=ORIGIN, cameras=RIG):
    return stage(world).render(cameras, step, pose)[0].astype(int)


def changed(one, other, least=12):
    """bool [H, W]: pixels that differ."""
    return np.abs(one - other).max(-1) > least


def spot(point, spec=PINHOLE):
    """(row, column) of a point of the ego frame."""
    view = camera.make_view(spec, *SIZE)
    seen = camera_from_ego(np.asarray(point, float)[None], view.ego_from_camera)
    uv, valid = project(seen, view.intrinsics)
    assert valid[0]
    return int(round(uv[0, 1])), int(round(uv[0, 0]))


def car(s=25.0, d=0.0, **plan):
    path = open_road([(400.0, 0.0)], Profile(), Site()).route
    return Actor(Kind.CAR, path, s, d, colour=(0.9, 0.1, 0.1), **plan)


class GeometryTest(parameterized.TestCase):
    @parameterized.parameters((PINHOLE,), (FTHETA,))
    def test_a_car_is_where_it_is_projected(self, spec):
        cameras = rig(spec)
        empty, full = (picture(road(actors=a), cameras=cameras) for a in ((), (car(18.0, -1.0),)))
        rows, columns = np.nonzero(changed(empty, full))
        row, column = spot((18.0 - 2.3, -1.0, 0.8), spec)
        self.assertTrue(changed(empty, full)[row, column])
        self.assertLess(abs(columns.mean() - column), 4.0)
        top, _ = spot((18.0 - 2.3, -1.0, 1.5), spec)
        bottom, _ = spot((18.0 - 2.5, -1.0, 0.0), spec)
        self.assertBetween(rows.min(), top - 3, top + 3)
        self.assertBetween(rows.max(), bottom - 3, bottom + 3)

    def test_the_nearer_car_hides_the_other(self):
        near, far = car(15.0), dataclasses.replace(car(30.0), colour=(0.1, 0.1, 0.9))
        both, alone = picture(road(actors=(near, far))), picture(road(actors=(near,)))
        self.assertLess(changed(both, alone).sum(), 12)
        turned = picture(road(actors=(far, near)))
        np.testing.assert_array_equal(both, turned)

    def test_what_is_far_is_small_and_hazy(self):
        empty = picture(road())
        sizes = [changed(empty, picture(road(actors=(car(s),)))).sum() for s in (12.0, 24.0, 48.0)]
        self.assertGreater(sizes[0], 3 * sizes[1])
        self.assertGreater(sizes[1], 2.5 * sizes[2])

    def test_the_edge_line_is_white_and_the_middle_yellow(self):
        image = picture(road(weather="overcast"))
        width = Profile().width
        row, column = spot((9.0, -width / 2, 0.0))
        line, asphalt = image[row, column], image[spot((9.0, -0.6, 0.0))]
        self.assertGreater(line.min(), asphalt.max() + 60)
        rows = [spot((x, width / 2, 0.0)) for x in np.arange(6.0, 15.0, 0.25)]
        yellow = [image[r, c] for r, c in rows]
        self.assertGreater(max(int(p[0] - p[2]) for p in yellow), 60)

    def test_the_road_ends_in_grass(self):
        image = picture(road())
        grass = image[spot((14.0, -8.0, 0.0))]
        self.assertGreater(grass[1], grass[0])
        self.assertGreater(grass[1], grass[2] + 10)

    def test_a_crosswalk_has_bars(self):
        image = picture(road(crosswalk=14.0))
        row, _ = spot((14.0, 0.0, 0.0))
        left, right = spot((14.0, 3.0, 0.0))[1], spot((14.0, -3.0, 0.0))[1]
        across = image[row, left:right].mean(-1)
        self.assertGreater(across.max() - across.min(), 60)
        self.assertGreaterEqual((np.diff((across > across.mean()).astype(int)) == 1).sum(), 4)

    def test_a_bump_is_black_and_yellow(self):
        image = picture(road(bumps=(14.0,)))
        row = spot((14.0, 0.0, 0.0))[0]
        across = image[row, spot((14.0, 3.0, 0.0))[1] : spot((14.0, -3.0, 0.0))[1]]
        self.assertGreater((across[:, 0] - across[:, 2]).max(), 60)
        self.assertLess(across.mean(-1).min(), 75)

    def test_moving_the_ego_moves_the_view(self):
        world = road(actors=(car(25.0),))
        there = picture(world, pose=np.array([10.0, 0.0, 0.0]))
        near = picture(road(actors=(car(15.0),)))
        row, column = spot((15.0 - 2.3, 0.0, 0.8))
        np.testing.assert_allclose(there[row, column], near[row, column], atol=8)
        turned = picture(world, pose=np.array([0.0, 0.0, 0.2]))
        columns = np.nonzero(changed(turned, picture(road(), pose=np.array([0.0, 0.0, 0.2]))))[1]
        self.assertGreater(columns.mean(), SIZE[0] / 2 + 15)

    def test_actors_can_be_elsewhere_than_planned(self):
        world = road(actors=(car(60.0, 3.0),))
        moved = stage(world).render(RIG, 0, ORIGIN, np.array([[25.0, 0.0, 0.0]]))[0]
        np.testing.assert_array_equal(moved, picture(road(actors=(car(25.0),))))


class ReadableTest(parameterized.TestCase):
    def light(self, colour, weather="clear", ahead=20.0):
        layout = crossing_road([(300.0, 0.0)], Profile(), Site(), ahead)
        world = World(layout, signal=Signal(ahead, ((-1.0, colour),)), look=5, weather=weather)
        return picture(world)

    @parameterized.product(colour=("red", "yellow", "green"), weather=WEATHERS)
    def test_the_colour_of_a_light_can_be_told(self, colour, weather):
        image = self.light(colour, weather)
        offset = {"red": 0.75, "yellow": 0.0, "green": -0.75}[colour]
        row, column = spot((20.0 + 15.9, 0.0, 5.2 + offset))
        patch = image[max(row - 1, 0) : row + 2, column - 1 : column + 2].reshape(-1, 3)
        red, green, blue = patch[patch.max(-1).argmax()]
        told = "red" if red > green + 60 else "green" if green > red + 60 else "yellow"
        self.assertEqual(told, colour)
        self.assertLess(blue, max(red, green) - 40)

    def test_brake_lamps_shine(self):
        slowing = car(20.0, speed=8.0, changes=(SpeedChange(0.5, 0.0, 3.0),))
        seen = stage(road(actors=(slowing,)))
        on = seen.render(RIG, 12, ORIGIN, np.array([[20.0, 0.0, 0.0]]))[0].astype(int)
        off = seen.render(RIG, 0, ORIGIN, np.array([[20.0, 0.0, 0.0]]))[0].astype(int)
        row, column = spot((20.0 - 2.35, 0.68, 0.77))
        self.assertGreater(on[row, column, 0], off[row, column, 0] + 40)

    @parameterized.parameters(Kind.PEDESTRIAN, Kind.CYCLIST, Kind.CONE, Kind.TRUCK, Kind.BARRIER)
    def test_others_stand_out(self, kind):
        sizes = {Kind.PEDESTRIAN: (0.5, 0.6, 1.75), Kind.CYCLIST: (1.8, 0.6, 1.7),
                 Kind.CONE: (0.36, 0.36, 0.75), Kind.TRUCK: (7.0, 2.3, 3.0),
                 Kind.BARRIER: (0.45, 2.0, 1.05)}  # fmt: skip
        actor = dataclasses.replace(car(12.0, 1.0), kind=kind, lwh=sizes[kind])
        difference = changed(picture(road()), picture(road(actors=(actor,))))
        length, width, height = sizes[kind]
        share = 0.78 if kind is Kind.BARRIER else 0.45  # it has legs
        self.assertTrue(difference[spot((12.0 - length / 2, 1.0, share * height))])
        self.assertFalse(difference[:, SIZE[0] - 20 :].any())

    @parameterized.parameters("stop", "yield", "bump", "construction", "crosswalk")
    def test_signs_stand_beside_the_road(self, kind):
        sign = Sign(kind, 16.0, -6.0)
        difference = changed(picture(road()), picture(road(signs=(sign,))), 25)
        row, column = spot((16.0, -6.0, 2.3))
        self.assertTrue(difference[row - 1 : row + 2, column - 1 : column + 2].any())
        self.assertLess(difference.mean(), 0.03)

    def test_weathers_look_different(self):
        images = [picture(road(weather=weather)) for weather in WEATHERS]
        for i, one in enumerate(images):
            for other in images[i + 1 :]:
                self.assertGreater(np.abs(one - other).mean(), 6.0)

    def test_rain_falls_differently_in_each_frame(self):
        world = road(weather="rain")
        self.assertTrue(changed(picture(world, 0), picture(world, 1)).any())
        dry = road(weather="overcast")
        np.testing.assert_array_equal(picture(dry, 0), picture(dry, 1))


class RigTest(parameterized.TestCase):
    def test_seven_cameras_at_once(self):
        cameras = rig(*camera.RIG)
        run = play(sample_scenario(1, 0, family="cut_in"))
        images = Stage(run.world, run.motions).render(cameras, 20, run.drive.pose[20])
        self.assertEqual(images.shape, (7, SIZE[1], SIZE[0], 3))
        self.assertTrue((images.reshape(7, -1).std(1) > 5.0).all())

    def test_a_camera_of_a_rig_sees_what_it_sees_alone(self):
        specs = (PINHOLE, dataclasses.replace(FTHETA, index=2, yaw=40.0))
        run = play(sample_scenario(2, 0, family="nudge_blocked"))
        scene, pose = Stage(run.world, run.motions), run.drive.pose[50]
        both = scene.render(rig(*specs), 50, pose)
        for image, spec in zip(both, specs):
            alone = scene.render(rig(spec), 50, pose)[0]
            apart = np.abs(image.astype(int) - alone)
            self.assertLessEqual(np.quantile(apart, 0.999), 1)

    def test_the_order_of_frames_does_not_matter(self):
        run = play(sample_scenario(2, 3, family="s_curve"))
        one, other = (Stage(run.world, run.motions) for _ in range(2))
        steps = (0, 60, 120, 190)
        forward = [one.render(RIG, k, run.drive.pose[k]) for k in steps]
        backward = [other.render(RIG, k, run.drive.pose[k]) for k in steps[::-1]]
        np.testing.assert_array_equal(forward, backward[::-1])

    def test_one_compilation_serves_all_worlds(self):
        before = draw.draw._cache_size()
        for family in ("roundabout", "construction", "merge", "red_light"):
            run = play(sample_scenario(4, 1, family=family))
            Stage(run.world, run.motions).render(RIG, 30, run.drive.pose[30])
        self.assertLessEqual(draw.draw._cache_size() - before, 1)


class PartsTest(parameterized.TestCase):
    @parameterized.parameters(*FAMILIES)
    def test_nothing_fixed_stands_on_the_road(self, family):
        run = play(sample_scenario(6, 0, family=family))
        rows = roadside(run.world)
        self.assertEqual(rows.shape[1], COLUMNS)
        standing = rows[(rows[:, 2] - rows[:, 6] / 2 < 1.5) & (rows[:, 4] < 8.0)]
        room = clearance(run.world.layout, standing[:, :2])
        self.assertGreater((room - np.maximum(standing[:, 4], standing[:, 5]) / 2).min(), -0.3)

    def test_lamps_are_lit_when_they_should_be(self):
        body = body_of(car())
        place = (3.0, 4.0, 0.5)
        dark, none = posed(body, place, 0.0, False, 0)
        self.assertEqual(none, [])
        bright, lit = posed(body, place, 0.0, True, 1)
        self.assertLen(lit, 4)
        self.assertEqual(bright[:, GLOW].sum() - dark[:, GLOW].sum(), 4.0)
        left = lit[2][0][:2] - np.array(place[:2])
        self.assertGreater(-np.sin(0.5) * left[0] + np.cos(0.5) * left[1], 0.5)

    @parameterized.parameters(*Kind)
    def test_every_kind_fits_its_box(self, kind):
        actor = dataclasses.replace(car(), kind=kind, lwh=(4.0, 1.8, 1.7))
        rows = body_of(actor).rows
        self.assertGreaterEqual((rows[:, 2] - rows[:, 6] / 2).min(), -0.02)
        self.assertLessEqual((rows[:, 2] + rows[:, 6] / 2).max(), 1.95)
        self.assertLess(np.abs(rows[:, 0]).max(), 2.4)


def test_no_actor_no_lamp_no_error():
    empty = World(road().layout)
    image = Stage(empty, ()).render(RIG, 0, ORIGIN)
    assert image.dtype == np.uint8 and image.shape == (1, SIZE[1], SIZE[0], 3)


def test_every_family_is_drawn():
    means = []
    for family in FAMILIES:
        run = play(sample_scenario(8, 0, family=family))
        means.append(Stage(run.world, run.motions).render(RIG, 40, run.drive.pose[40])[0].std())
    assert min(means) > 10.0


@pytest.mark.parametrize("heading", [0.0, 1.0, 3.0])
def test_the_sun_stays_where_it_is(heading):
    world = road(actors=(car(25.0),), weather="clear")
    image = picture(world, pose=np.array([0.0, 0.0, heading]))
    assert image.max() > 120
