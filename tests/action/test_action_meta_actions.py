"""Meta-actions: each word on a drive that means it, and properties of the rules."""

from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from alpamayo_jax.action import meta_actions as ma
from alpamayo_jax.action.meta_actions import LateralAction as Lat
from alpamayo_jax.action.meta_actions import LongitudinalAction as Lon

T = 60


def ramp(v0, accel, ticks=T):
    return v0 + accel * 0.1 * np.arange(ticks)


def turn(rate, speed=5.0, ticks=T):
    """(speed, heading, step) of an arc of `rate` rad/m."""
    heading = rate * speed * 0.1 * np.arange(ticks)
    return np.full(ticks, speed), heading, np.full(ticks, abs(speed) * 0.1)


PIECES = st.lists(
    st.tuples(st.integers(3, 25), st.sampled_from([-3.0, -1.0, -0.12, 0.0, 0.12, 1.0, 3.0])),
    min_size=1,
    max_size=5,
)
WHEEL = st.lists(
    st.tuples(st.integers(3, 25), st.sampled_from([-0.1, -0.02, 0.0, 0.02, 0.1])),
    min_size=1,
    max_size=5,
)


def piecewise(pieces, start=0.0):
    steps = np.concatenate([np.full(ticks, value) for ticks, value in pieces])
    return start + 0.1 * np.cumsum(np.append(0.0, steps))


class WordsTest(parameterized.TestCase):
    @parameterized.parameters(
        (ramp(5.0, 2.0), Lon.STRONG_ACCELERATE),
        (ramp(5.0, 0.6), Lon.GENTLE_ACCELERATE),
        (ramp(20.0, -2.0), Lon.STRONG_DECELERATE),
        (ramp(20.0, -0.6), Lon.GENTLE_DECELERATE),
        (ramp(10.0, 0.0), Lon.MAINTAIN_SPEED),
        (ramp(10.0, 0.11), Lon.MAINTAIN_SPEED),  # 0.65 m/s in 6 s
        (np.zeros(T), Lon.STOP),
        (np.full(T, -1.0), Lon.REVERSE),
    )
    def test_longitudinal(self, speed, want):
        np.testing.assert_array_equal(ma.longitudinal_actions(speed), np.full(T, want))

    @parameterized.parameters(
        (turn(0.0), Lat.GO_STRAIGHT),
        (turn(0.01), Lat.STEER_LEFT),
        (turn(-0.01), Lat.STEER_RIGHT),
        (turn(0.1), Lat.SHARP_STEER_LEFT),
        (turn(-0.1), Lat.SHARP_STEER_RIGHT),
        (turn(0.05, -2.0), Lat.REVERSE_RIGHT),
        (turn(-0.05, -2.0), Lat.REVERSE_LEFT),
        (turn(0.0, 0.0), Lat.GO_STRAIGHT),
    )
    def test_lateral(self, motion, want):
        np.testing.assert_array_equal(ma.lateral_actions(*motion), np.full(T, want))

    def test_a_stop_and_go(self):
        speed = piecewise([(30, 0.0), (40, -2.0), (30, 0.0), (40, 1.0)], start=8.0)
        names = [span.action for span in ma.spans(ma.longitudinal_actions(speed), Lon)]
        want = [Lon.MAINTAIN_SPEED, Lon.STRONG_DECELERATE, Lon.STOP, Lon.GENTLE_ACCELERATE]
        assert names == want

    def test_cuts_are_where_the_motion_changes(self):
        speed = piecewise([(30, 0.0), (40, -2.0), (40, 0.0)], start=8.0)
        begin = [span.begin for span in ma.spans(ma.longitudinal_actions(speed), Lon)]
        assert abs(begin[1] - 30) <= 4 and abs(begin[2] - 70) <= 4

    def test_too_short_a_drive_is_refused(self):
        with pytest.raises(ValueError, match="T >= 2"):
            ma.longitudinal_actions(np.zeros((3, 1)))


class MotionTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_speed_heading_and_step(self, batch):
        t = np.arange(T) * 0.1
        yaw = 0.3
        xyz = np.stack([3 * t * np.cos(yaw), 3 * t * np.sin(yaw), t], -1)
        rot = np.broadcast_to(
            [[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]], (T, 3, 3)
        )
        motion = ma.motion_of(
            np.broadcast_to(xyz, (*batch, T, 3)), np.broadcast_to(rot, (*batch, T, 3, 3))
        )
        assert motion.speed.shape == (*batch, T)
        np.testing.assert_allclose(motion.speed, 3.0)
        np.testing.assert_allclose(motion.heading, yaw)
        np.testing.assert_allclose(motion.step, 0.3)

    def test_backing_up_is_negative(self):
        xyz = np.zeros((T, 3))
        xyz[:, 0] = -0.1 * np.arange(T)
        motion = ma.motion_of(xyz, np.broadcast_to(np.eye(3), (T, 3, 3)))
        np.testing.assert_allclose(motion.speed, -1.0)


class AbsorbTest(parameterized.TestCase):
    @parameterized.parameters(
        ("aaaabbaaaa", "aaaaaaaaaa"),  # equal neighbours
        ("aaaabbcccc", "aaaaaccccc"),  # different ones: half each
        ("bbaaaaaaaa", "aaaaaaaaaa"),  # at an end
        ("aaaaaaaabb", "aaaaaaaaaa"),
        ("aaaabcbaaa", "aaaaaaaaaa"),  # shortest first
        ("bb", "bb"),  # nobody to give it to
    )
    def test_examples(self, text, want):
        numbers = np.array([[ord(c) - ord("a") for c in text]])
        got = ma.absorb_short(numbers, np.array([4, 4, 4]))
        assert "".join("abc"[i] for i in got[0]) == want


def runs_are_long_enough(labels, least):
    found = ma.spans(labels, int)
    return len(found) == 1 or all(s.end - s.begin >= least[s.action] for s in found)


@settings(max_examples=60, deadline=None)
@given(PIECES, st.floats(0.0, 15.0))
def test_longitudinal_runs_have_their_least_length(pieces, start):
    labels = ma.longitudinal_actions(piecewise(pieces, start))
    least = {kind: 12 if kind == Lon.MAINTAIN_SPEED else 8 for kind in Lon}
    assert runs_are_long_enough(labels, least)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=40, max_size=40), min_size=1, max_size=4))
def test_absorbing_is_the_same_row_by_row_ends_and_repeats(rows):
    least = np.array([3, 5, 7, 4])
    together = ma.absorb_short(np.array(rows), least)
    for row, got in zip(rows, together):
        np.testing.assert_array_equal(ma.absorb_short(np.array([row]), least)[0], got)
        assert runs_are_long_enough(got, least)
    np.testing.assert_array_equal(ma.absorb_short(together, least), together)


MIRRORED = {
    Lat.GO_STRAIGHT: Lat.GO_STRAIGHT,
    Lat.STEER_LEFT: Lat.STEER_RIGHT,
    Lat.SHARP_STEER_LEFT: Lat.SHARP_STEER_RIGHT,
    Lat.REVERSE_LEFT: Lat.REVERSE_RIGHT,
}
MIRRORED |= {b: a for a, b in MIRRORED.items()}


@settings(max_examples=60, deadline=None)
@given(WHEEL, st.sampled_from([-3.0, 0.0, 2.0, 12.0]))
def test_a_drive_in_the_mirror_steers_the_other_way(pieces, speed):
    rate = np.concatenate([np.full(ticks, value) for ticks, value in pieces])
    step = np.full(len(rate), abs(speed) * 0.1)
    heading = np.cumsum(rate * step)
    speeds = np.full(len(rate), speed)
    labels = ma.lateral_actions(speeds, heading, step)
    mirrored = ma.lateral_actions(speeds, -heading, step)
    np.testing.assert_array_equal([MIRRORED[Lat(i)] for i in labels], mirrored)


REVERSED = {
    Lon.GENTLE_ACCELERATE: Lon.GENTLE_DECELERATE,
    Lon.STRONG_ACCELERATE: Lon.STRONG_DECELERATE,
}
REVERSED |= {b: a for a, b in REVERSED.items()}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(20, 40), st.integers(20, 40), st.integers(20, 40),
    st.sampled_from([-2.5, -0.8, 0.8, 2.5]),
)  # fmt: skip
def test_backwards_in_time_speeding_up_is_slowing_down(before, during, after, accel):
    speed = piecewise([(before, 0.0), (during, accel), (after, 0.0)], start=12.0)
    forward = ma.longitudinal_actions(speed)
    backward = ma.longitudinal_actions(speed[::-1])[::-1]
    swapped = np.array([REVERSED.get(Lon(i), Lon(i)) for i in forward])
    # Hysteresis lets go later than it takes hold, so the cuts may lie a few ticks apart.
    assert (swapped != backward).sum() <= 8
    assert [s.action for s in ma.spans(swapped, Lon)] == [s.action for s in ma.spans(backward, Lon)]


@settings(max_examples=30, deadline=None)
@given(WHEEL, st.floats(-3.0, 3.0))
def test_whole_turns_of_the_compass_do_not_matter(pieces, offset):
    rate = np.concatenate([np.full(ticks, value) for ticks, value in pieces])
    step = np.full(len(rate), 0.5)
    heading = offset + np.cumsum(rate * step)
    speed = np.full(len(rate), 5.0)
    wrapped = np.arctan2(np.sin(heading), np.cos(heading))
    np.testing.assert_array_equal(
        ma.lateral_actions(speed, heading, step), ma.lateral_actions(speed, wrapped, step)
    )


def test_many_drives_at_once_are_each_alone():
    rng = np.random.default_rng(0)
    speed = np.cumsum(rng.normal(0, 0.15, (2, 3, 64)), -1) + 4.0
    heading = np.cumsum(rng.normal(0, 0.01, (2, 3, 64)), -1)
    step = np.abs(speed) * 0.1
    lon, lat = ma.longitudinal_actions(speed), ma.lateral_actions(speed, heading, step)
    assert lon.shape == lat.shape == (2, 3, 64)
    for i in np.ndindex(2, 3):
        np.testing.assert_array_equal(lon[i], ma.longitudinal_actions(speed[i]))
        np.testing.assert_array_equal(lat[i], ma.lateral_actions(speed[i], heading[i], step[i]))
