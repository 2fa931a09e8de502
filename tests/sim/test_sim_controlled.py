"""Controlled drives: the truth is right, and it is spoilt in the shares that were asked for."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.intent import intent_of, parse_intent
from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import make_source
from alpamayo_jax.data.windows import observe, target, window_times
from alpamayo_jax.sim import controlled
from alpamayo_jax.sim.controlled import Cause, ControlledSource, Manoeuvre, Moment

EGO_LENGTH, EGO_WIDTH, EGO_CENTRE = 4.9, 1.9, 1.4
TIMES = 0.1 * np.arange(1, 65)
HAZARDS = (Cause.RED, Cause.STOPPED, Cause.PERSON, Cause.LEFT, Cause.RIGHT)


def moment_of(cause, driven=None, speed=7.0, look=3):
    right = controlled.DECISIONS[cause].manoeuvre
    reach = 2.4 if cause in (Cause.LEFT, Cause.RIGHT) else 2.0
    return Moment(cause, cause, driven or right, speed, reach * speed + 1.0, look)


def meets(moment):
    """Whether circles along both boxes' middles touch: coarser than boxes, without their code."""
    x, y, heading = controlled.drive(moment.driven, moment.speed, TIMES).T
    ego = spine(x + EGO_CENTRE * np.cos(heading), y + EGO_CENTRE * np.sin(heading), heading, EGO_LENGTH)
    for box in controlled.boxes(moment, TIMES):
        other = spine(box.x, box.y, box.yaw, box.lwh[0])
        gap = np.linalg.norm(ego[:, :, None] - other[:, None], axis=-1).min((1, 2))
        if (gap < (EGO_WIDTH + box.lwh[1]) / 2).any():
            return True
    return False


def spine(x, y, yaw, length):
    along = np.linspace(-0.5, 0.5, 21) * length * 0.8
    points = np.stack([x, y], -1)[:, None] + along[:, None] * np.stack(
        [np.cos(yaw), np.sin(yaw)], -1)[:, None]  # fmt: skip
    return points


@pytest.mark.parametrize("cause", list(Cause))
@pytest.mark.parametrize("speed", controlled.SPEEDS)
@pytest.mark.parametrize("look", [0, 1, 2])
def test_the_right_decision_meets_nobody(cause, speed, look):
    assert not meets(moment_of(cause, speed=speed, look=look))


@pytest.mark.parametrize("cause", HAZARDS)
@pytest.mark.parametrize("speed", controlled.SPEEDS)
@pytest.mark.parametrize("look", [0, 1, 2])
def test_who_drives_on_meets_somebody(cause, speed, look):
    assert meets(moment_of(cause, Manoeuvre.KEEP, speed, look))


@pytest.mark.parametrize("manoeuvre", list(Manoeuvre))
def test_poses_are_smooth_and_begin_at_the_origin(manoeuvre):
    times = 0.1 * np.arange(-16, 65)
    x, y, heading = controlled.drive(manoeuvre, 7.0, times).T
    at = int(np.argmin(np.abs(times)))
    np.testing.assert_allclose([x[at], y[at], heading[at]], 0, atol=1e-12)
    np.testing.assert_allclose(x[:at], 7.0 * times[:at])
    assert (np.diff(x) >= -1e-12).all() and np.abs(np.diff(heading)).max() < 0.05
    course = np.arctan2(np.diff(y), np.maximum(np.diff(x), 1e-9))
    moving = np.diff(x) > 0.05
    np.testing.assert_allclose(course[moving], ((heading[1:] + heading[:-1]) / 2)[moving], atol=0.01)


def test_manoeuvres_end_where_they_should():
    def last(manoeuvre):
        return controlled.drive(manoeuvre, 8.0, np.array([6.4]))[0]

    assert last(Manoeuvre.STOP)[0] == pytest.approx(16.0)
    assert last(Manoeuvre.LEFT)[1] == pytest.approx(controlled.NUDGE)
    assert last(Manoeuvre.RIGHT)[1] == pytest.approx(-controlled.NUDGE)
    assert last(Manoeuvre.KEEP)[0] == pytest.approx(51.2)


@pytest.mark.parametrize("cause", list(Cause))
def test_labels_pass_the_checks_and_say_what_their_trace_says(cause):
    label = controlled.label_of(moment_of(cause), "clip")
    assert check_label(label) == []
    said, meant = parse_intent(label.trace), intent_of(label)
    assert said.longitudinal == (meant.longitudinal or said.longitudinal)
    assert said.speed == meant.speed
    assert said.side == meant.side
    assert (said.lateral is None) == (meant.lateral in (None, Lateral.KEEP_LANE))


def test_stops_differ_by_their_cause():
    found = [controlled.DECISIONS[c].longitudinal for c in (Cause.RED, Cause.STOPPED, Cause.PERSON)]
    assert found == [Longitudinal.STOP, Longitudinal.FOLLOW_LEAD, Longitudinal.YIELD]


def test_shares_are_met_and_independent():
    drawn = [controlled.draw(5, i, 0.4, 0.3) for i in range(3000)]
    wrong = np.array([not m.reasons_right for m in drawn])
    contrary = np.array([not m.acts_as_said for m in drawn])
    assert wrong.mean() == pytest.approx(0.4, abs=0.03)
    assert contrary.mean() == pytest.approx(0.3, abs=0.03)
    assert contrary[wrong].mean() == pytest.approx(contrary[~wrong].mean(), abs=0.04)
    for cause in Cause:
        assert np.mean([m.cause is cause for m in drawn]) == pytest.approx(1 / 7, abs=0.02)


def test_the_cause_does_not_depend_on_the_shares():
    for i in range(50):
        clean, spoilt = controlled.draw(1, i), controlled.draw(1, i, 1.0, 1.0)
        assert (clean.cause, clean.speed, clean.distance) == (spoilt.cause, spoilt.speed, spoilt.distance)
        assert clean.reasons_right and clean.acts_as_said
        assert not spoilt.reasons_right and not spoilt.acts_as_said


def test_a_clip_is_one_window_that_shows_what_was_driven():
    moment = dataclasses.replace(moment_of(Cause.RED), said=Cause.CLEAR, driven=Manoeuvre.LEFT)
    clip = controlled.clip_of(moment, "one")
    assert window_times(clip, num_frames=1) == pytest.approx([controlled.T0])
    future = target(clip, controlled.T0)
    assert future.reasoning == controlled.DECISIONS[Cause.CLEAR].trace
    assert future.ego_future_xyz[-1, 1] == pytest.approx(controlled.NUDGE, abs=1e-4)
    seen = observe(clip, controlled.T0, 1)
    assert seen.cameras[0].images.shape == (1, 64, 64, 3)
    assert [event.value for event in clip.events] == ["red"]
    assert set(clip.agents.category) == {"VEHICLE"} and len(clip.agents.t) == len(clip.ego.t)


def test_a_clear_road_has_nobody():
    clip = controlled.clip_of(moment_of(Cause.CLEAR), "one")
    assert len(clip.agents.t) == 0 and clip.events == ()


def test_the_last_clips_of_a_source_are_right():
    source = ControlledSource(5, seed=2, wrong_reasoning=1.0, wrong_trajectory=1.0, num_clean=3)
    moments = [source.moment(i) for i in range(len(source))]
    assert [m.reasons_right for m in moments] == [False] * 5 + [True] * 3
    assert [m.acts_as_said for m in moments] == [False] * 5 + [True] * 3
    assert source.label(0).trace == moments[0].decision.trace
    assert source.clip(0).reasoning[0].text != moments[0].decision.trace
    with pytest.raises(IndexError, match="clip 8 is not in a source of 8"):
        source.clip(8)


def test_the_same_source_gives_the_same_clips():
    first, second = (ControlledSource(4, seed=9).clip(3) for _ in range(2))
    assert first.clip_id == second.clip_id
    np.testing.assert_array_equal(first.ego.xyz, second.ego.xyz)
    np.testing.assert_array_equal(first.cameras[0].read(16), second.cameras[0].read(16))


def test_it_is_a_source_of_the_recipe_with_labels():
    source = make_source("controlled", num_clips=2, seed=0)
    assert source.clip(1).clip_id == source.clip_name(1)
    assert source.label(1, controlled.T0).clip == source.clip_name(1)


@pytest.mark.parametrize(
    "options, found",
    [
        (dict(num_clips=0), "num_clips >= 1"),
        (dict(num_clips=1, num_clean=-1), "num_clean >= 0"),
        (dict(num_clips=1, wrong_reasoning=1.5), "wrong_reasoning is a share from 0 to 1, got 1.5"),
        (dict(num_clips=1, wrong_trajectory=-0.1), "wrong_trajectory is a share"),
    ],
)
def test_refuses(options, found):
    with pytest.raises(ConfigError, match=found):
        ControlledSource(seed=0, **options)
