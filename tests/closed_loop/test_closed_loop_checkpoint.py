"""A checkpoint in the loop: what it sees where it has driven to, what becomes of its samples."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from loop_scenes import sight, straight

from alpamayo_jax.closed_loop import checkpoint as checkpoint_lib
from alpamayo_jax.closed_loop.cameras import SceneCameras
from alpamayo_jax.closed_loop.checkpoint import CheckpointPolicy
from alpamayo_jax.closed_loop.hosted import Moment
from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.policy import Policy
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.presets import preset
from alpamayo_jax.sim import camera, scenarios
from alpamayo_jax.sim.scenes import Scene
from alpamayo_jax.testing.tiny import tiny_config
from alpamayo_jax.types import InputError, Prediction

K, TICK = 3, 20
_SETTINGS = SampleSettings(num_samples=K)
_SIZE = (64, 40)


def moment(scene, tick=TICK, rollout=0, seed=5, offset=(0.0, 0.0)):
    arrays = scene.arrays
    poses = np.array(arrays.ego_pose[: tick + 1])
    poses[:, :2] += offset
    seen = jax.tree.map(np.asarray, sight(arrays, tick, offset=offset))
    agents = arrays.agent_pose[:, : tick + 1]
    return Moment(scene, rollout, tick, seed, seen, poses, agents, np.ones(agents.shape[:2], bool))


@functools.cache
def recorded():
    return Scene("recorded", straight(heading=0.7), np.zeros(2))


@functools.cache
def drawn():
    """A simulated street; its ego drives straight on through it, wherever the road goes."""
    run = scenarios.play(scenarios.sample_scenario(0, 0, seconds=6.0))
    pose = np.stack([m.pose for m in run.motions]) if run.motions else np.zeros((0, 61, 3))
    arrays = dataclasses.replace(
        straight(ticks=pose.shape[1] if len(pose) else 61),
        agent_pose=pose.astype(np.float32),
        agent_present=np.ones(pose.shape[:2], bool),
        agent_size=np.ones((len(pose), 3), np.float32),
        agent_kind=np.zeros(len(pose), np.int32),
        agent_solid=np.ones(len(pose), bool),
    )
    return Scene("drawn", arrays, np.zeros(2), world=run)


class Recorder:
    """Stands in for `sample`: K plans that go straight on, the second the most likely."""

    def __init__(self):
        self.batches = []

    def __call__(self, policy, observations, *, seed, settings):
        self.batches.append((list(observations), list(seed)))
        return [self.prediction(s) for s in seed]

    def prediction(self, seed):
        xyz = np.zeros((K, 64, 3), np.float32)
        xyz[..., 0] = np.arange(1, 65) * (1.0 + np.arange(K)[:, None])
        rot = np.tile(np.eye(3, dtype=np.float32), (K, 64, 1, 1))
        cos, sin = np.cos(0.1), np.sin(0.1)
        rot[1, -1, :2, :2] = [[cos, -sin], [sin, cos]]
        return Prediction(
            xyz=xyz, rot=rot, actions=xyz[..., :2],
            reasoning=tuple(f"{seed}-{k}" for k in range(K)),
            meta_action=("",) * K, token_ids=np.zeros((K, 1), int), token_logprobs=np.zeros((K, 1)),
            reasoning_logprob=np.array([-2.0, -1.0, -3.0]), ended=np.ones(K, bool),
        )  # fmt: skip


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(checkpoint_lib, "sample", made)
    return made


def policy_of(config=None, **options):
    policy = Policy(config=config or preset("tiny"), params={}, tokenizer=None)
    options = {"cameras": None, "batch_size": 2} | options
    return CheckpointPolicy(policy, _SETTINGS, **options)


def test_the_most_likely_sample_is_the_plan(recorder):
    (made,) = policy_of().plan([moment(recorded())])
    assert made.reasoning == "5-1" and made.plan.samples.shape == (K, 64, 2)
    np.testing.assert_allclose(made.plan.pose[:, 0], 2.0 * np.arange(1, 65))
    np.testing.assert_allclose(made.plan.pose[-1, 2], 0.1, atol=1e-6)
    np.testing.assert_allclose(made.plan.pose[0, 1:], 0.0)


def test_every_batch_has_one_size_and_every_moment_its_seed(recorder):
    made = policy_of().plan([moment(recorded(), seed=s) for s in (3, 2**40 + 1, 9)])
    assert [len(observations) for observations, _ in recorder.batches] == [2, 2]
    assert [m.reasoning for m in made] == ["3-1", f"{(2**40 + 1) % 2**32}-1", "9-1"]


def test_history_is_what_was_driven_in_the_frame_of_now():
    observation = policy_of().observe(moment(recorded())).validate()
    want = np.stack([0.8 * np.arange(-15, 1), np.zeros(16), np.zeros(16)], -1)
    np.testing.assert_allclose(observation.ego_history_xyz, want, atol=1e-4)
    level = np.tile(np.eye(3), (16, 1, 1))
    np.testing.assert_allclose(observation.ego_history_rot, level, atol=1e-6)
    assert observation.cameras == () and observation.navigation is None
    assert observation.t0 == pytest.approx(0.1 * TICK)


def test_a_route_as_text_is_for_those_who_read_it():
    config = dataclasses.replace(preset("tiny"), release="alpamayo1_5")
    observation = policy_of(config, navigation=True).observe(moment(recorded()))
    assert observation.navigation == "Continue straight"
    with pytest.raises(ConfigError, match="reads no route"):
        policy_of(navigation=True)


def test_another_number_of_waypoints_cannot_be_tracked():
    with pytest.raises(ConfigError, match="8 waypoints"):
        policy_of(tiny_config())


def test_the_cameras_of_a_recording_cannot_be_moved():
    with pytest.raises(InputError, match="'recorded'.*cameras left out"):
        SceneCameras(image_size=_SIZE).see(moment(recorded()))


@functools.cache
def _cameras():
    return SceneCameras(image_size=_SIZE, num_frames=3)


def test_frames_of_the_last_ticks_are_seen():
    (front,) = _cameras().see(moment(drawn()))
    assert front.camera_index == 1 and front.images.shape == (3, 40, 64, 3)
    assert front.images.dtype == np.uint8 and front.images.std() > 10
    np.testing.assert_allclose(front.times, (-0.2, -0.1, 0.0), atol=1e-9)
    assert (front.images[0] != front.images[2]).any()


def test_what_is_seen_depends_on_where_it_has_driven_to():
    here = _cameras().see(moment(drawn()))[0].images
    aside = _cameras().see(moment(drawn(), offset=(0.0, 3.0)))[0].images
    assert (here != aside).mean() > 0.05


def test_a_frame_that_stays_in_view_is_drawn_once(monkeypatch):
    cameras, count = _cameras(), []
    draw = cameras.draw
    monkeypatch.setattr(cameras, "draw", lambda *args: count.append(args[1]) or draw(*args))
    for tick in (30, 31, 32):
        cameras.see(moment(drawn(), tick=tick, rollout=7))
    assert count == [28, 29, 30, 31, 32]
    again = cameras.see(moment(drawn(), tick=30, rollout=7))[0].images  # another run
    np.testing.assert_array_equal(again, cameras.see(moment(drawn(), tick=30))[0].images)


def test_a_black_image_is_noticed(recorder, monkeypatch):
    cameras = SceneCameras(image_size=_SIZE, num_frames=1)
    policy = policy_of(cameras=cameras, batch_size=1)
    assert not policy.plan([moment(drawn())])[0].black
    monkeypatch.setattr(cameras, "draw", lambda *args: np.full((1, 40, 64, 3), 10, np.uint8))
    assert policy.plan([moment(drawn(), tick=40)])[0].black


def test_cameras_are_in_the_order_of_their_index():
    specs = (camera.RIG[6], camera.RIG[1])
    cameras = SceneCameras(specs, _SIZE, num_frames=1)
    assert [c.camera_index for c in cameras.see(moment(drawn()))] == [1, 6]
    assert cameras.front in (0, 1)


class RecordedDrives:
    """Stands in for `Drives`: notes what is asked for."""

    def __init__(self, policy, settings, *, reuse, most):
        self.reuse, self.most, self.calls = reuse, most, []
        self.totals = {"steps": 2}

    def __call__(self, keys, observations, seeds):
        self.calls.append((list(keys), [o.t0 for o in observations], list(seeds)))
        return [Recorder().prediction(seed) for seed in seeds]


def test_rollouts_are_streamed_apart(monkeypatch, recorder):
    monkeypatch.setattr(checkpoint_lib, "Drives", RecordedDrives)
    policy = policy_of(streaming="exact")
    moments = [moment(recorded(), rollout=r, seed=r) for r in (0, 1)]
    made = policy.plan(moments)
    drives = policy._drives
    assert drives.reuse == "exact" and drives.most >= 256 and not recorder.batches
    assert drives.calls == [([("recorded", 0), ("recorded", 1)], [2.0, 2.0], [0, 1])]
    assert [plan.reasoning for plan in made] == ["0-1", "1-1"]
    assert policy.streamed() == {"steps": 2} and policy_of().streamed() == {}
