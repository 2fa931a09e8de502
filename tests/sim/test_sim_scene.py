"""Whole frames: vehicles, brake lights and the colour of the light are where they belong."""

import dataclasses
import time

import numpy as np
import pytest
from absl.testing import parameterized

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera
from alpamayo_jax.sim.actors import Signal
from alpamayo_jax.sim.scenario import run, sample_scenario, without_bystanders, without_cause
from alpamayo_jax.sim.scene import make_world, render, vehicle_states
from alpamayo_jax.sim.scenery import HEAD_HEIGHT, signal_place

LENSES = (camera.FRONT, camera.RIG[1])


def frame(played, step, spec=camera.FRONT, size=(320, 192)):
    view = camera.make_view(spec, *size)
    return view, render(view, make_world(played), played, step).astype(int)


def image_of(view, played, step, xyz):
    """Pixel of a world point at `step`."""
    drive = played.drive
    dx, dy = xyz[0] - drive.x[step], xyz[1] - drive.y[step]
    cos, sin = np.cos(drive.heading[step]), np.sin(drive.heading[step])
    ego = np.array([[cos * dx + sin * dy, cos * dy - sin * dx, xyz[2]]])
    uv, valid = project(camera_from_ego(ego, view.ego_from_camera), view.intrinsics)
    assert valid.all()
    return uv[0]


class SceneTest(parameterized.TestCase):
    @parameterized.parameters(*LENSES)
    def test_lead_is_drawn_at_its_box(self, spec):
        scenario = without_bystanders(sample_scenario(2, 0, family="lead_stops"))
        played = run(scenario)
        view, with_lead = frame(played, 60, spec)
        alone = dataclasses.replace(played, scenario=without_cause(scenario), lead=None)
        _, without = frame(alone, 60, spec)
        rows, columns = np.nonzero(np.abs(with_lead - without).max(-1) > 8)
        (actor, _, xy, yaw, _) = vehicle_states(played)[0]
        corners = [
            image_of(view, played, 60, (
                xy[60, 0] + fx * np.cos(yaw[60]) - fy * np.sin(yaw[60]),
                xy[60, 1] + fx * np.sin(yaw[60]) + fy * np.cos(yaw[60]),
                z,
            ))
            for fx in (-actor.lwh[0] / 2, actor.lwh[0] / 2)
            for fy in (-actor.lwh[1] / 2, actor.lwh[1] / 2)
            for z in (0.0, actor.lwh[2])
        ]
        low, high = np.min(corners, 0), np.max(corners, 0)
        self.assertGreater(len(rows), 12)
        self.assertBetween(columns.mean(), low[0], high[0])
        self.assertBetween(rows.mean(), low[1], high[1])
        # The contact shadow is a little wider than the box.
        self.assertGreaterEqual(columns.min(), low[0] - 4)
        self.assertLessEqual(columns.max(), high[0] + 4)
        self.assertGreaterEqual(rows.min(), low[1] - 3)

    @parameterized.product(spec=LENSES, colour=("red", "yellow", "green"))
    def test_light_shows_its_colour(self, spec, colour):
        scenario = sample_scenario(4, 0, family="start_at_light")
        signal = Signal(scenario.signal.s, ((-10.0, colour),))
        played = run(dataclasses.replace(scenario, signal=signal))
        view, image = frame(played, 5, spec)
        height = {"red": 0.75, "yellow": 0.0, "green": -0.75}[colour]
        x, y, _ = signal_place(scenario.road, signal.s)
        u, v = image_of(view, played, 5, (x, y, HEAD_HEIGHT + height))
        red, green, blue = image[int(round(v)), int(round(u))]
        if colour == "red":
            self.assertGreater(red, 180)
            self.assertLess(green, 110)
        elif colour == "green":
            self.assertGreater(green, 180)
            self.assertLess(red, 110)
        else:
            self.assertGreater(min(red, green), 150)
            self.assertLess(blue, 120)

    def test_light_is_readable_from_afar(self):
        scenario = sample_scenario(4, 0, family="green_light")
        counts = {}
        for colour in ("red", "green"):
            signal = Signal(scenario.signal.s, ((-10.0, colour),))
            played = run(dataclasses.replace(scenario, signal=signal))
            step = int(np.argmax(played.drive.s > signal.s - 60.0))
            _, image = frame(played, step, size=(160, 96))
            red, green = image[..., 0], image[..., 1]
            counts[colour] = int((red - green > 60).sum()), int((green - red > 60).sum())
        self.assertGreater(counts["red"][0], counts["green"][0])
        self.assertGreater(counts["green"][1], counts["red"][1])

    def test_brake_lights_light_up(self):
        scenario = without_bystanders(sample_scenario(2, 0, family="lead_stops"))
        played = run(scenario)
        event = scenario.lead.changes[0].t
        reds = []
        for step in (int(event * 10) - 5, int(event * 10) + 10):
            _, image = frame(played, step)
            reds.append(int(((image[..., 0] > 180) & (image[..., 1] < 120)).sum()))
        self.assertGreater(reds[1], reds[0] + 4)

    def test_a_hidden_lamp_does_not_glow(self):
        """From ahead of the lead, its brake lights are behind its own body."""
        scenario = without_bystanders(sample_scenario(2, 0, family="lead_stops"))
        played = run(scenario)
        step = int(scenario.lead.changes[0].t * 10) + 10
        drive = played.drive
        ahead = dataclasses.replace(
            drive, x=drive.x.copy(), y=drive.y.copy(), heading=drive.heading.copy()
        )
        (x, y), heading, _ = scenario.road.pose(played.lead.s[step] + 14.0)
        ahead.x[step], ahead.y[step], ahead.heading[step] = x, y, heading + np.pi
        _, image = frame(dataclasses.replace(played, drive=ahead), step)
        red = (image[..., 0] > 200) & (image[..., 1] < 110) & (image[..., 2] < 110)
        self.assertEqual(int(red.sum()), 0)

    def test_far_things_fade_into_the_air(self):
        scenario = without_bystanders(sample_scenario(2, 0, family="lead_stops"))
        spreads = []
        for distance in (15.0, 90.0):
            lead = dataclasses.replace(scenario.lead, s=distance, changes=(), speed=0.0)
            played = run(dataclasses.replace(scenario, lead=lead, seconds=2.0))
            view, image = frame(played, 0)
            u, v = image_of(view, played, 0, (*scenario.road.pose(distance - 2.4)[0], 1.2))
            patch = image[int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2]
            spreads.append(float(patch.mean()))
        self.assertGreater(spreads[1], spreads[0])

    def test_vehicle_off_the_road_is_gone(self):
        played = run(sample_scenario(6, 0, family="curve"))
        for actor, motion, xy, yaw, present in vehicle_states(played):
            road = played.scenario.road
            inside = (motion.s > road.s[0]) & (motion.s < road.s[-1])
            np.testing.assert_array_equal(present, inside)
            self.assertTrue((np.abs(yaw) <= np.pi).all())

    @parameterized.parameters(*camera.RIG)
    def test_every_camera_of_the_rig_renders(self, spec):
        played = run(sample_scenario(6, 1, family="s_curve"))
        view, image = frame(played, 40, spec, (120, 72))
        self.assertEqual(image.shape, (72, 120, 3))
        self.assertGreater(image[view.seen].std(), 10.0)
        self.assertEqual(image[~view.seen].sum(), 0)


def test_rendering_is_quick():
    played = run(sample_scenario(7, 0, family="lead_stops"))
    world, view = make_world(played), camera.make_view(camera.FRONT, 320, 192)
    render(view, world, played, 0)
    begin = time.process_time()
    for step in range(40, 60):
        render(view, world, played, step)
    per_frame = (time.process_time() - begin) / 20
    if per_frame > 0.05:
        pytest.fail(f"a 320 x 192 frame takes {1e3 * per_frame:.1f} ms, expected below 50 ms")
