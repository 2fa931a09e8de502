import dataclasses

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ActionSpaceConfig, ConfigError, TrajectoryTokenConfig
from alpamayo_jax.rl.rewards import trajectory

TOKENS = TrajectoryTokenConfig(traj_token_start_idx=100)
ACTION = ActionSpaceConfig()
START, END = 4112, 4114

_reward_of = jax.jit(trajectory.trajectory_reward, static_argnums=3)


@jax.jit
def _reward_of_ids(ids, history_xyz, history_rot, gt_xyz):
    return trajectory.reward_from_ids(
        ids, history_xyz, history_rot, gt_xyz, TOKENS, ACTION, START, END
    )


def _straight(speed=8.0, batch=(), offset=0.0):
    """A calm drive and its rotations, shifted sideways by `offset` metres."""
    t = np.arange(1, 65) * 0.1
    xyz = np.stack([speed * t, np.full(64, offset), 0 * t], -1).astype(np.float32)
    rot = np.broadcast_to(np.eye(3, dtype=np.float32), (64, 3, 3))
    return np.broadcast_to(xyz, (*batch, 64, 3)), np.broadcast_to(rot, (*batch, 64, 3, 3))


def _history(batch=()):
    t = np.arange(-15, 1) * 0.1
    xyz = np.stack([8.0 * t, 0 * t, 0 * t], -1).astype(np.float32)
    rot = np.broadcast_to(np.eye(3, dtype=np.float32), (16, 3, 3))
    return np.broadcast_to(xyz, (*batch, 16, 3)), np.broadcast_to(rot, (*batch, 16, 3, 3))


class PlainRewardTest(parameterized.TestCase):
    @parameterized.product(batch=((), (2, 1)), offset=(0.0, 1.5, 2.9))
    def test_falls_with_distance(self, batch, offset):
        gt, _ = _straight(batch=batch)
        got = _reward_of(*_straight(batch=batch, offset=offset), gt)
        assert got.reward.shape == batch
        np.testing.assert_allclose(got.ade, offset, atol=1e-5)
        np.testing.assert_allclose(got.comfort, 1.0)
        np.testing.assert_allclose(got.reward, -0.4 * offset / 3, atol=1e-5)
        assert not got.malformed.any()

    @parameterized.parameters(3.0, 50.0)
    def test_a_far_trajectory_fails(self, offset):
        got = _reward_of(*_straight(offset=offset), _straight()[0])
        assert got.reward == -1.0

    def test_discomfort_costs(self):
        xyz, rot = _straight()
        rough = xyz.copy()
        rough[::2, 0] += 0.3  # jerks forward and back
        got = _reward_of(rough, rot, xyz)
        assert got.comfort < 1
        want = -0.4 * got.ade / 3 + 0.1 * (got.comfort - 1)
        np.testing.assert_allclose(got.reward, want, atol=1e-6)

    def test_height_does_not_count(self):
        xyz, rot = _straight()
        got = _reward_of(xyz + np.float32([0, 0, 5]), rot, xyz)
        np.testing.assert_allclose([got.ade, got.reward], 0, atol=1e-6)

    def test_other_shapes_are_refused(self):
        xyz, rot = _straight(batch=(2,))
        with pytest.raises(AssertionError):
            trajectory.trajectory_reward(xyz, rot, xyz[0])


class ReasoningTest(parameterized.TestCase):
    def _reward(self, score, weights=trajectory.WITH_REASONING, offset=0.6):
        score = jnp.asarray(score)
        batch = score.shape
        return _reward_of(
            *_straight(batch=batch, offset=offset), _straight(batch=batch)[0], weights, score
        ).reward

    def test_better_reasoning_pays(self):
        got = self._reward(np.float32([-0.39, -0.2, 0.0]))
        np.testing.assert_allclose(got, -0.2 * 0.6 / 3 + 0.3 * np.array([-0.39, -0.2, 0]) / 0.4,
                                   atol=1e-5)
        assert (np.diff(got) > 0).all()

    def test_bad_or_missing_reasoning_fails(self):
        np.testing.assert_array_equal(self._reward(np.float32([-0.4, -0.7, -1.0])), -1.0)

    def test_good_reasoning_does_not_rescue_a_far_trajectory(self):
        assert self._reward(np.float32(0.0), offset=4.0) == -1.0

    def test_the_released_sign_is_a_negative_weight(self):
        released = dataclasses.replace(trajectory.WITH_REASONING, reasoning=-0.3)
        got = self._reward(np.float32([-0.39, 0.0]), released)
        np.testing.assert_allclose(got, -0.04 + np.array([0.3 * 0.39 / 0.4, 0.0]), atol=1e-5)

    def test_weight_and_score_belong_together(self):
        with pytest.raises(ConfigError, match="without reasoning scores"):
            trajectory.trajectory_reward(
                *_straight(), _straight()[0], trajectory.WITH_REASONING
            )
        with pytest.raises(ConfigError, match="with reasoning scores"):
            self._reward(np.float32(0.0), trajectory.PLAIN)

    def test_limits_must_be_positive(self):
        with pytest.raises(ConfigError, match="max_ade"):
            trajectory.RewardWeights(max_ade=0.0)


class GeneratedTest(parameterized.TestCase):
    def _ids(self, *rows):
        return np.array([row + [-1] * (140 - len(row)) for row in rows], np.int32)

    def _good(self):
        # The bin nearest to zero acceleration and curvature, in units of 20 / 2999.
        accel = round((-ACTION.accel_mean / ACTION.accel_std + 10) / 20 * 2999)
        kappa = round((-ACTION.curvature_mean / ACTION.curvature_std + 10) / 20 * 2999)
        return [7, 9, START] + [100 + accel, 100 + kappa] * 64 + [END]

    def _reward(self, ids):
        batch = ids.shape[:-1]
        return _reward_of_ids(ids, *_history(batch), _straight(batch=batch)[0])

    def test_whole_trajectory(self):
        got = self._reward(self._ids(self._good()))
        assert not got.malformed[0]
        np.testing.assert_allclose(got.ade, [0], atol=0.15)  # half a bin of acceleration
        np.testing.assert_allclose(got.reward, [0], atol=0.02)

    def test_malformed_ones_are_flagged_and_scored_as_released(self):
        good = self._good()
        rows = {
            "empty": [7, START, END],
            "short": good[:-3] + [END],
            "long": good[:-1] + [101, END],
            "text": good[:10] + [5] + good[11:],
            "no end": good[:-1],
            "no start": good[3:],
        }
        got = self._reward(self._ids(*rows.values(), good))
        np.testing.assert_array_equal(got.malformed, [True] * len(rows) + [False])
        by_name = dict(zip(rows, np.asarray(got.reward)))
        assert by_name["empty"] == -1.0  # bin 0 everywhere: a full brake into reverse
        for name in ("long", "no end", "no start"):
            np.testing.assert_allclose(by_name[name], got.reward[-1], atol=1e-6, err_msg=name)

    def test_batch_dimensions(self):
        ids = self._ids(self._good(), [7, START, END]).reshape(2, 1, -1)
        got = self._reward(ids)
        assert got.reward.shape == (2, 1)
        np.testing.assert_array_equal(got.malformed, [[False], [True]])

    def test_texts_become_padded_ids(self):
        got = trajectory.ids_of_texts(["ab", "", "c"], lambda text: [ord(c) for c in text])
        np.testing.assert_array_equal(got, [[97, 98], [-1, -1], [99, -1]])
        assert trajectory.ids_of_texts([], list).shape == (0, 0)
