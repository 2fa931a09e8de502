"""Pictures of the controlled drives show their cause."""

import numpy as np
import pytest

from alpamayo_jax.ops.camera import camera_from_ego, project
from alpamayo_jax.sim import camera, controlled
from alpamayo_jax.sim.controlled_moments import DECISIONS, Cause, Moment
from alpamayo_jax.sim.controlled_picture import LENS, Box, PictureReader
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


LAMPS = {Cause.STOPPED: (1, 0, 0), Cause.RIGHT: (1, 1, 0), Cause.LEFT: (1, 1, 1)}


@pytest.mark.parametrize("cause", LAMPS)
@pytest.mark.parametrize("look", range(3))
def test_lamps_tell_vehicles_apart(cause, look):
    image, clear = frame_of(cause, look), frame_of(Cause.CLEAR, look)
    lit = (np.abs(image - clear).max(-1) > 20) & (image.max(-1) > 225)
    assert lit[28:].sum() > 20
    seen = np.median(image[lit], 0)
    np.testing.assert_array_equal(seen > 0.55 * seen.max(), LAMPS[cause])


def read(boxes, pose=(0.0, 0.0, 0.0)):
    return PictureReader(np.array([pose]), boxes, None, 0.0, seed=0)(0).astype(int)


def still(x, y, yaw=0.0, **changes):
    place = (np.array([float(v)]) for v in (x, y, yaw))
    return Box("VEHICLE", *place, **dict(dict(lwh=(4.0, 1.8, 1.5), paint=(250, 0, 250)), **changes))


def test_the_nearest_is_in_front_in_any_order():
    near, far = still(18, 0.4), still(30, -0.4, lwh=(4.0, 1.8, 2.5), paint=(0, 250, 250))
    np.testing.assert_array_equal(read([near, far]), read([far, near]))
    assert pixels(read([near, far]), (1, 0, 1)).sum() == pixels(read([near]), (1, 0, 1)).sum()
    assert 0 < pixels(read([near, far]), (0, 1, 1)).sum() < pixels(read([far]), (0, 1, 1)).sum()


@pytest.mark.parametrize(
    "x, y, yaw, pose",
    [(20, 0, 0, (0, 0, 0)), (24, -1.5, 0.6, (0, 0, 0)), (40, 6, 2.0, (20, 3, 0.1))],
)
def test_a_box_covers_what_its_corners_project_to(x, y, yaw, pose):
    found = np.abs(read([still(x, y, yaw)], pose) - read([], pose)).max(-1) > 40
    local = np.array([[a, b, c] for a in (-2, 2) for b in (-0.9, 0.9) for c in (0, 1.05)])
    angle, shift = yaw - pose[2], np.array([x - pose[0], y - pose[1]])
    middle = turned(shift, -pose[2])
    corners = np.concatenate([turned(local[:, :2], angle) + middle, local[:, 2:]], 1)
    uv, valid = project(
        camera_from_ego(corners, camera.extrinsics(LENS)),
        camera.intrinsics(LENS, *PictureReader.size),
    )
    assert valid.all()
    rows, columns = np.nonzero(found)
    np.testing.assert_allclose(columns.min(), uv[:, 0].min(), atol=1)
    np.testing.assert_allclose(columns.max(), uv[:, 0].max(), atol=1)
    assert rows.max() == pytest.approx(uv[:, 1].max(), abs=1)


def turned(points, angle):
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


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
