"""Pictures of the controlled drives show their cause."""

import numpy as np
import pytest

from alpamayo_jax.sim import controlled
from alpamayo_jax.sim.controlled_moments import DECISIONS, Cause, Moment
from alpamayo_jax.types import InputError

FRAME = 16  # at t0


def frame_of(cause, look=0, frame=FRAME, speed=7.0):
    decision = DECISIONS[cause]
    reach = 2.4 if cause in (Cause.LEFT, Cause.RIGHT) else 2.0
    moment = Moment(cause, cause, decision.manoeuvre, speed, reach * speed + 1.0, look)
    return controlled.clip_of(moment, "clip").cameras[0].read(frame).astype(int)


def pixels(image, colour):
    """Where a colour of the eight corners of the colour cube is by far the strongest."""
    strong = image.max(-1) > 90
    on = np.stack([image[..., i] > 0.6 * image.max(-1) for i in range(3)], -1)
    return strong & (on == np.array(colour, bool)).all(-1)


@pytest.mark.parametrize("cause, colour", [(Cause.RED, (1, 0, 0)), (Cause.GREEN, (0, 1, 0))])
def test_lights_have_their_colour_above_the_road(cause, colour):
    found = pixels(frame_of(cause), colour)
    assert found[:32].sum() > 60
    assert pixels(frame_of(Cause.CLEAR), colour)[:32].sum() == 0


def changed(cause, look=0):
    """Columns where the lower half of a picture is not that of a clear road."""
    off = np.abs(frame_of(cause, look) - frame_of(Cause.CLEAR, look)).max(-1) > 40
    return np.nonzero(off[28:])[1]


def test_vehicles_stand_where_they_are_said_to():
    left, right, ahead = (changed(c).mean() for c in (Cause.LEFT, Cause.RIGHT, Cause.STOPPED))
    assert left < 28 < ahead < 36 < right


@pytest.mark.parametrize("look", range(4))
def test_people_are_seen(look):
    assert len(changed(Cause.PERSON, look)) > 20


def test_what_stands_comes_nearer():
    far, near = frame_of(Cause.RED, frame=0), frame_of(Cause.RED)
    assert pixels(far, (1, 0, 0)).sum() < pixels(near, (1, 0, 0)).sum()


def test_looks_differ():
    assert np.abs(frame_of(Cause.CLEAR, 0) - frame_of(Cause.CLEAR, 1)).max() > 3


@pytest.mark.parametrize("frame", [-1, 81])
def test_a_frame_outside_the_clip_is_refused(frame):
    with pytest.raises(InputError, match=f"frames 0 to 80, asked for {frame}"):
        frame_of(Cause.CLEAR, frame=frame)
