"""Procedural clips as training windows: the path from a clip to controls and baselines."""

import jax
import numpy as np
import pytest

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ActionSpaceConfig
from alpamayo_jax.data import windows
from alpamayo_jax.metrics import baselines
from alpamayo_jax.sim.scenarios import FAMILIES, play, sample_scenario
from alpamayo_jax.sim.seen import FRONT
from alpamayo_jax.sim.source import clip_of, procedural_clip

CFG = ActionSpaceConfig()


@pytest.fixture(scope="module")
def clips():
    runs = {family: play(sample_scenario(41, 0, family=family)) for family in FAMILIES}
    return {f: (played, clip_of(played, f, image_size=(64, 40))) for f, played in runs.items()}


def stacked(clip, times):
    pairs = [(windows.observe(clip, t), windows.target(clip, t)) for t in times]
    history = [np.stack([getattr(o, f"ego_history_{n}") for o, _ in pairs]) for n in ("xyz", "rot")]
    future = [np.stack([getattr(t, f"ego_future_{n}") for _, t in pairs]) for n in ("xyz", "rot")]
    return history, future


def test_windows_cover_the_clip(clips):
    for _, clip in clips.values():
        times = windows.window_times(clip, 1.0)
        assert len(times) >= 12
        observation = windows.observe(clip, times[0]).validate()
        assert observation.cameras[0].images.shape == (4, 40, 64, 3)
        np.testing.assert_allclose(observation.cameras[0].times, [-0.3, -0.2, -0.1, 0.0], atol=1e-9)
        assert windows.target(clip, times[0]).validate().reasoning


def test_motion_blends_into_still_frames_only_when_standing(clips):
    played, clip = clips["start_at_light"]
    images = windows.observe(clip, 1.6).cameras[0].images
    np.testing.assert_array_equal(images[0], images[3])
    moving = windows.observe(clips["curve"][1], 1.6).cameras[0].images
    assert np.abs(moving[0].astype(int) - moving[3]).mean() > 0.3


def test_controls_of_the_expert_are_recovered(clips):
    mean, std = unicycle.constants(CFG)
    for family in ("curve", "s_curve", "lead_slows", "speed_bump", "cut_in"):
        played, clip = clips[family]
        times = np.array([2.0, 5.0, 8.0, 11.0])
        history, future = stacked(clip, times)
        actions = np.asarray(unicycle.trajectory_to_action(*history, *future, CFG)) * std + mean
        for row, t0 in zip(actions, times):
            k = int(round(t0 * 10))
            drive = played.drive
            # The inverse smooths accelerations and is only as sharp as its regularisation.
            assert np.abs(row[:, 0] - drive.a[k : k + 64]).mean() < 0.15
            assert np.abs(row[:, 1] - drive.kappa[k : k + 64]).mean() < 2e-3


def test_controls_give_the_trajectory_back_and_are_in_bounds(clips):
    to_action = jax.jit(lambda h, f: unicycle.trajectory_to_action(*h, *f, CFG))
    to_trajectory = jax.jit(lambda a, h: unicycle.action_to_trajectory(a, *h, CFG))
    for _, clip in clips.values():
        history, future = stacked(clip, np.array([2.0, 7.0, 12.0]))
        actions = to_action(history, future)
        assert np.asarray(unicycle.is_within_bounds(actions, CFG)).all()
        again = to_trajectory(actions, history)
        error = np.linalg.norm(np.asarray(again.xyz)[..., :2] - future[0][..., :2], axis=-1)
        assert error.max() < 0.5
        assert error.mean() < 0.1


def test_reasoning_of_a_window_matches_its_future(clips):
    played, clip = clips["red_light"]
    for t0 in windows.window_times(clip, 0.5):
        text = windows.target(clip, t0).reasoning
        k = int(round(t0 * 10))
        if text.startswith(("Slow down to stop", "Prepare to stop")):
            assert played.drive.v[min(k + 64, 200)] < played.drive.v[k] + 0.5
            assert played.drive.s[k] + FRONT < played.world.signal.s
        if text.startswith("Stay stopped"):
            assert played.drive.v[k] < 1.0


def test_baselines_leave_room_for_a_policy(clips):
    errors = []
    for _, clip in clips.values():
        history, (xyz, _) = stacked(clip, np.arange(2.0, 13.0, 2.0))
        guess = np.asarray(baselines.constant_velocity(*history, CFG).xyz)
        errors.append(np.linalg.norm(guess[..., :2] - xyz[..., :2], axis=-1).mean())
    assert np.mean(errors) > 1.5
    assert np.median(errors) > 1.0


def test_short_clip_is_labelled():
    clip = procedural_clip(1, 0, seconds=2.0, cameras=())
    assert clip.reasoning[0].t == 0.0 and len(clip.ego.t) == 21
