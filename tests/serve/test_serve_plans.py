"""Predictions as timed poses in the local frame, routes as text, debug bytes, images."""

import io
import pickle

import numpy as np
from PIL import Image
import pytest
from serve_helpers import StraightPlanner, car

from alpamayo_jax.serve import images, plans, wire
from alpamayo_jax.serve.history import Pose
from alpamayo_jax.serve.plan_rules import plan_faults, reply_faults
from alpamayo_jax.serve.rehearsal import NUM_WAYPOINTS
from alpamayo_jax.tokens import routes
from alpamayo_jax.types import InputError, Observation

T0 = 1_700_000_000_000_000
START = Pose(np.array([100.0, -50.0, 3.0]), np.pi / 2)


def prediction():
    x = np.arange(-15.0, 1.0)
    history = np.stack([x, 0 * x, 0 * x], -1)
    observation = Observation((), history, np.tile(np.eye(3), (16, 1, 1)))
    return StraightPlanner().plan([observation], [0])[0]


def test_waypoints_are_turned_into_the_local_frame():
    plan = plans.trajectory(prediction(), 0, START, T0, START, T0)
    assert len(plan.poses) == 65
    assert [p.timestamp_us - T0 for p in plan.poses[:3]] == [0, 100_000, 200_000]
    first, second = plan.poses[0].pose, plan.poses[1].pose
    assert (first.vec.x, first.vec.y, first.vec.z) == (100.0, -50.0, 3.0)
    np.testing.assert_allclose((second.vec.x, second.vec.y, second.vec.z), (100, -49, 3), atol=1e-4)
    np.testing.assert_allclose((second.quat.w, second.quat.z), (np.sqrt(0.5), np.sqrt(0.5)))
    assert (second.quat.x, second.quat.y) == (0.0, 0.0)
    assert not list(plan_faults(plan, T0, T0 + 100_000, START.xyz))


def test_waypoints_before_now_are_left_out():
    now = T0 + 150_000
    current = Pose(np.array([100.0, -48.5, 3.0]), np.pi / 2)
    plan = plans.trajectory(prediction(), 0, START, T0, current, now)
    assert [p.timestamp_us - T0 for p in plan.poses[:2]] == [150_000, 200_000]
    np.testing.assert_allclose([p.pose.vec.y for p in plan.poses[:2]], [-48.5, -48.0], atol=1e-4)


def broken(**change):
    """A reply whose plan is fine but for what `change` does to pose 3."""
    reply = wire.DriveResponse(trajectory=plans.trajectory(prediction(), 0, START, T0, START, T0))
    pose = reply.trajectory.poses[3]
    for name, value in change.items():
        if name == "timestamp_us":
            pose.timestamp_us = value
        else:
            setattr(pose.pose.vec if name in "xyz" else pose.pose.quat, name, value)
    return reply


@pytest.mark.parametrize(
    "reply, rule",
    [
        (wire.DriveResponse(), "plan_not_empty"),
        (broken(x=float("nan")), "plan_finite"),
        (broken(w=0.9), "plan_quaternions"),
        (broken(timestamp_us=T0 + 200_000), "plan_times"),
        (broken(x=500.0), "plan_speed"),
    ],
)
def test_what_is_wrong_with_a_plan_is_named(reply, rule):
    assert [name for name, _ in reply_faults(reply, T0, T0 + 100_000, START.xyz)] == [rule]


def test_a_plan_must_be_where_the_vehicle_is_and_reach_far_enough():
    reply = broken()
    assert "plan_frame" in dict(reply_faults(reply, T0, T0 + 100_000, (0.0, 0.0, 0.0)))
    late = dict(reply_faults(reply, T0 - 10**6, T0 - 900_000, START.xyz))
    assert list(late) == ["plan_start"]
    del reply.trajectory.poses[15:]
    assert list(dict(reply_faults(reply, T0, T0 + 100_000, START.xyz))) == ["plan_horizon"]


def test_samples_and_the_end_of_the_rollout_are_looked_at_too():
    reply = broken()
    reply.terminate_session = True
    reply.debug_info.sampled_trajectories.add()
    found = dict(reply_faults(reply, T0, T0 + 100_000, START.xyz))
    assert set(found) == {"terminate_session", "plan_not_empty"}
    assert "sampled trajectory 0" in found["plan_not_empty"]


def test_debug_bytes_are_a_dictionary_to_their_reader():
    texts = {"reasoning_text": "Stop: the light is red \u00e9\n", "command_name": "LEFT"}
    assert pickle.loads(plans.debug_bytes(texts)) == texts


def points(xy):
    return np.array([(x, y, 0.0) for x, y in xy])


@pytest.mark.parametrize(
    "xy, command, text",
    [
        ([(10, 0), (30, 0)], "STRAIGHT", "Continue straight"),
        ([(10, 1), (21, 4)], "LEFT", "Turn left in 20m"),
        ([(10, 0), (19, -5), (38, -30)], "RIGHT", "Turn right in 20m"),
        ([(5, 5), (15, 8)], "STRAIGHT", "Continue straight"),
        ([], "STRAIGHT", None),
    ],
)
def test_routes_as_commands(xy, command, text):
    route = points(xy).reshape(-1, 3)
    assert routes.command(route) == command and routes.navigation(route) == text


@pytest.mark.parametrize("num_valid", (0, 10, NUM_WAYPOINTS))
def test_rows_of_nan_are_not_part_of_a_route(num_valid):
    route = car().route(car().begin_us, num_valid).route
    raw = np.array([(p.x, p.y, p.z) for p in route.waypoints])
    assert len(raw) == NUM_WAYPOINTS and len(routes.clean(raw)) == num_valid


@pytest.mark.parametrize("kind", ("JPEG", "PNG"))
def test_images_are_decoded(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 100, 50)).save(buffer, kind)
    image = images.decode(buffer.getvalue())
    assert image.shape == (10, 20, 3) and image.dtype == np.uint8
    np.testing.assert_allclose(image[5, 5], (200, 100, 50), atol=3)


def claiming(size):
    """A small PNG that says it is of that size."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = size[0].to_bytes(4, "big") + size[1].to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "data", (b"", b"no picture", b"\xff\xd8\xff\xe0 torn", claiming((60_000, 60_000)), b"GIF89a")
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(InputError, match="image of"):
        images.decode(data)
