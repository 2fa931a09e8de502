"""Controlled moments: the truth is right, and it is spoilt in the shares that were asked for."""

import numpy as np
import pytest

from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.intent import intent_of, parse_intent
from alpamayo_jax.sim import controlled_moments as controlled
from alpamayo_jax.sim.controlled_moments import Cause, Manoeuvre, Moment

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
    middle = x + EGO_CENTRE * np.cos(heading), y + EGO_CENTRE * np.sin(heading)
    ego = spine(*middle, heading, EGO_LENGTH)
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
    middle = (heading[1:] + heading[:-1]) / 2
    np.testing.assert_allclose(course[moving], middle[moving], atol=0.01)


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
        for name in ("cause", "speed", "distance", "look"):
            assert getattr(clean, name) == getattr(spoilt, name)
        assert clean.reasons_right and clean.acts_as_said
        assert not spoilt.reasons_right and not spoilt.acts_as_said
