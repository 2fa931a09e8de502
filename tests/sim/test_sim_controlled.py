"""Controlled drives as clips and as a source."""

import dataclasses

import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.sources import make_source
from alpamayo_jax.data.windows import observe, target, window_times
from alpamayo_jax.sim import controlled
from alpamayo_jax.sim.camera import RIGS
from alpamayo_jax.sim.controlled import ControlledSource
from alpamayo_jax.sim.controlled_moments import DECISIONS, NUDGE, T0, Cause, Manoeuvre, Moment


def moment_of(cause):
    return Moment(cause, cause, DECISIONS[cause].manoeuvre, speed=7.0, distance=15.0, look=3)


def test_a_clip_is_one_window_that_shows_what_was_driven():
    moment = dataclasses.replace(moment_of(Cause.RED), said=Cause.CLEAR, driven=Manoeuvre.LEFT)
    clip = controlled.clip_of(moment, "one")
    assert window_times(clip, num_frames=1) == pytest.approx([T0])
    future = target(clip, T0)
    assert future.reasoning == DECISIONS[Cause.CLEAR].trace
    assert future.ego_future_xyz[-1, 1] == pytest.approx(NUDGE, abs=1e-4)
    seen = observe(clip, T0, 1)
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
    assert source.label(1, T0).clip == source.clip_name(1)


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


def test_a_rig_shows_the_same_moment_from_all_its_cameras():
    one, rig = ControlledSource(40, seed=1), ControlledSource(40, seed=1, cameras=RIGS[4])
    clip, alone = rig.clip(2), one.clip(2)
    assert [c.index for c in clip.cameras] == [spec.index for spec in RIGS[4]]
    np.testing.assert_array_equal(clip.ego.xyz, alone.ego.xyz)
    images = [c.read(16) for c in clip.cameras]
    assert {image.shape for image in images} == {(64, 64, 3)}
    # The far cause fills more of the long lens than of the wide one: another picture of a clear road.
    index = next(i for i in range(40) if rig.moment(i).cause is Cause.STOPPED)
    clear = next(i for i in range(40) if rig.moment(i).cause is Cause.CLEAR)
    shown = {
        camera.index: np.abs(
            camera.read(16).astype(int) - rig.clip(clear).camera(camera.index).read(16)
        ).max(-1) > 60
        for camera in rig.clip(index).cameras
    }  # fmt: skip
    assert shown[6].sum() > 4 * shown[1].sum() > 0
