"""Ego motion against motion that is known, also from jittering poses."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from alpamayo_jax.clip import EgoTrack
from alpamayo_jax.coc.timeline import WHEELBASE_M, action_lines, motion_lines, timeline
from alpamayo_jax.types import InputError


def circle(speed=8.0, rate=0.2, count=81, jitter=0.0, yaw0=0.0):
    """A drive on a circle; `rate` rad/s, positive to the left."""
    t = 3.0 + 0.1 * np.arange(count)
    yaw = yaw0 + rate * (t - t[0])
    radius = speed / rate if rate else 0.0
    if rate:
        xy = radius * np.stack([np.sin(yaw) - np.sin(yaw0), np.cos(yaw0) - np.cos(yaw)], -1)
    else:
        xy = speed * (t - t[0])[:, None] * [np.cos(yaw0), np.sin(yaw0)]
    xy = xy + jitter * np.random.default_rng(0).standard_normal(xy.shape)
    quat = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat(scalar_first=True)
    return EgoTrack(t, np.pad(xy, ((0, 0), (0, 1))), quat)


@pytest.mark.parametrize("rate", [0.2, -0.2, 0.0])
@pytest.mark.parametrize("yaw0", [0.0, 3.0])
def test_a_circle(rate, yaw0):
    motion = timeline(circle(8.0, rate, yaw0=yaw0))
    np.testing.assert_allclose(motion.speed, 8.0, atol=0.08)
    np.testing.assert_allclose(motion.acceleration[6:-6], 0.0, atol=0.08)
    np.testing.assert_allclose(motion.yaw_rate, rate, atol=1e-6)
    np.testing.assert_allclose(motion.curvature, rate / 8.0, atol=1e-3)
    wheel = np.arctan(WHEELBASE_M * rate / 8.0)
    np.testing.assert_allclose(motion.wheel_angle, wheel, atol=3e-3)


def test_braking():
    t = 0.1 * np.arange(40)
    x = 10 * t - 1.5 * t**2 / 2
    track = EgoTrack(t, np.stack([x, 0 * x, 0 * x], -1), np.tile([1.0, 0, 0, 0], (40, 1)))
    motion = timeline(track)
    np.testing.assert_allclose(motion.speed, 10 - 1.5 * t, atol=1e-6)
    np.testing.assert_allclose(motion.acceleration, -1.5, atol=1e-6)
    assert "speed, -2.0 to +1.9 s: strong decelerate" in action_lines(motion, 2.0)


def test_backwards_is_negative():
    track = circle(2.0, 0.0)
    back = EgoTrack(track.t, -track.xyz, track.quat_wxyz)
    np.testing.assert_allclose(timeline(back).speed, -2.0, atol=1e-6)


def test_jitter_of_poses_does_not_become_speed():
    motion = timeline(circle(8.0, 0.0, jitter=0.05))
    assert np.abs(motion.speed - 8.0).max() < 0.6
    assert np.abs(np.gradient(circle(8.0, 0.0, jitter=0.05).xyz[:, 0], 0.1) - 8.0).max() > 0.6


def test_what_lies_outside_the_range_changes_nothing():
    track = circle(8.0, 0.0, jitter=0.05)
    late = track.t > 5.05
    other = EgoTrack(track.t, np.where(late[:, None], 77.0, track.xyz), track.quat_wxyz)
    a, b = (timeline(ego, 3.0, 5.0) for ego in (track, other))
    assert len(a.t) == 21
    for name in ("speed", "acceleration", "yaw_rate", "curvature"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_too_few_poses():
    with pytest.raises(InputError, match="2 poses between 3.0 and 3.1"):
        timeline(circle(), 3.0, 3.1)
    assert len(timeline(circle(), 3.0, 3.2).t) == 3


def test_standing_has_no_curvature():
    track = circle(0.0, 0.0)
    motion = timeline(track)
    np.testing.assert_array_equal(motion.curvature, 0.0)
    assert "stop" in action_lines(motion, 4.0) and "-0.00" not in motion_lines(motion, 4.0)


def test_lines_are_relative_to_the_moment_and_include_it():
    lines = motion_lines(timeline(circle(8.0, 0.1)), 5.0, 0.5).splitlines()
    assert lines[0].startswith("time_s speed_mps")
    times = [float(line.split()[0]) for line in lines[1:]]
    assert 0.0 in times and times[0] == -2.0 and np.allclose(np.diff(times), 0.5)
    now = lines[1 + times.index(0.0)].split()
    assert now == ["+0.0", "8.00", "0.00", "5.7"]
