"""The recorded drives in closed loop: the recorded ego does nothing wrong, others do."""

import numpy as np
import pytest

from alpamayo_jax.closed_loop import runner, summary
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.data.clip_folder import find_clips, read_clip
from alpamayo_jax.sim.recorded import scene_from_clip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes(real_clips_dir):
    folder = real_clips_dir / "av2"
    if not folder.is_dir():
        pytest.skip(f"no clips with drivable areas at {folder}")
    return [scene_from_clip(read_clip(path)) for path in find_clips(folder)]


def test_the_recorded_poses_touch_nothing_and_stay_on_the_road(scenes):
    from alpamayo_jax.closed_loop.measure import find_borders, measure
    from alpamayo_jax.sim.closed_loop import Rollout
    from alpamayo_jax.sim.scenes import stack

    stacked = stack([scene.arrays for scene in scenes])
    shape = stacked.ego_speed.shape
    exact = Rollout(
        num_ticks=stacked.num_ticks, warmup=np.full(shape[0], 17), ego_pose=stacked.ego_pose,
        ego_speed=stacked.ego_speed, agent_pose=stacked.agent_pose,
        agent_present=stacked.agent_present, plan=np.zeros((*shape, 64, 3), np.float32),
        planned=np.zeros(shape, bool), solved=np.ones(shape, bool),
    )  # fmt: skip
    for steps in measure(stacked, find_borders([s.arrays for s in scenes]), exact):
        assert not np.asarray(steps["collision_any"]).any()
        assert not np.asarray(steps["offroad"]).any()
        assert np.asarray(steps["dist_to_gt_location"]).max() < 1e-3


def test_driving_the_recording_has_no_incident(scenes):
    made = runner.run(scenes, POLICIES["recorded"])
    for strict in (False, True):
        found = summary.scores(made, strict=strict)
        assert not found.rollouts["offroad_or_collision"].any()
        assert found.alpasim_score == found.alpasim_score_at_fault == np.inf
        assert found.scene_score == 1.0
    assert found.rollouts["progress"].min() > 0.97
    assert np.asarray(made.rollout.solved).all()


def test_constant_velocity_is_worse(scenes):
    made = runner.run(scenes, POLICIES["constant_velocity"])
    assert summary.scores(made).scene_score < 0.9
