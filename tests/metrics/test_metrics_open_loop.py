from absl.testing import parameterized
import jax
import numpy as np
import pytest

from alpamayo_jax.metrics import open_loop


def _case(batch=(2,), sets=2, samples=4, waypoints=64, seed=0):
    rng = np.random.default_rng(seed)
    gt = np.cumsum(rng.normal(1, 0.2, (*batch, waypoints, 3)), -2)
    noise = rng.normal(0, 0.3, (*batch, sets, samples, waypoints, 3))
    pred = gt[..., None, None, :, :] + np.cumsum(noise, -2)

    def rotations(shape):
        return np.linalg.qr(rng.normal(size=(*shape, 3, 3)))[0]

    arrays = pred, rotations(pred.shape[:-1]), gt, rotations(gt.shape[:-1])
    return tuple(a.astype(np.float32) for a in arrays)


class AdeTest(parameterized.TestCase):
    def test_hand_made_distances(self):
        gt = np.zeros((4, 3), np.float32)
        pred = np.zeros((1, 2, 4, 3), np.float32)
        pred[0, 0, :, 0] = [1, 1, 1, 9]  # mean 3
        pred[0, 1, :, 1] = [4, 2, 1, 1]  # mean 2: the best over the whole horizon
        pred[..., 2] = 7.0  # the height does not count
        got = open_loop.min_ade(pred, gt, horizons_s=(0.1, 0.2))
        np.testing.assert_allclose(got["min_ade"], [2])
        np.testing.assert_allclose(got["min_ade/by_t=0.1"], [4])  # of the same sample
        np.testing.assert_allclose(got["min_ade/by_t=0.2"], [3])
        first = open_loop.ade(pred, gt, horizons_s=(0.3,))
        np.testing.assert_allclose([first["ade"], first["ade/by_t=0.3"]], [[3], [1]])
        likely = open_loop.ade(pred, gt, log_probs=np.array([[-3.0, -1.0]]), horizons_s=())
        np.testing.assert_allclose(likely["ade"], [2])

    def test_spatial_variant_counts_the_height(self):
        gt = np.zeros((2, 3), np.float32)
        pred = np.broadcast_to(np.float32([0, 3, 4]), (1, 1, 2, 3))
        np.testing.assert_allclose(open_loop.sample_ade(pred, gt), [[3]])
        np.testing.assert_allclose(open_loop.sample_ade(pred, gt, planar=False), [[5]])

    @parameterized.parameters(((),), ((2, 1),))
    def test_minimum_is_not_above_any_sample(self, batch):
        pred, _, gt, _ = _case(batch)
        best = jax.jit(lambda *a: open_loop.min_ade(*a))(pred, gt)["min_ade"]
        each = open_loop.sample_ade(pred, gt)
        assert best.shape == (*batch, 2)
        np.testing.assert_allclose(best, each.min(-1), rtol=1e-6)
        assert (best <= open_loop.ade(pred, gt)["ade"]).all()

    def test_more_samples_never_hurt(self):
        pred, _, gt, _ = _case(samples=6)
        values = [open_loop.min_ade(pred[:, :, :k], gt)["min_ade"] for k in range(1, 7)]
        assert (np.diff(np.stack(values), axis=0) <= 0).all()

    def test_the_recorded_future_itself_has_no_error(self):
        _, _, gt, gt_rot = _case()
        pred, rot = gt[:, None, None], gt_rot[:, None, None]
        for name, value in open_loop.released_metrics(pred, rot, gt, gt_rot).items():
            np.testing.assert_allclose(value, 0, atol=1e-6, err_msg=name)

    def test_a_horizon_beyond_the_trajectory_is_refused(self):
        pred, _, gt, _ = _case(waypoints=20)
        with pytest.raises(ValueError, match="3.0 s is 30 waypoints; trajectories have 20"):
            open_loop.min_ade(pred, gt, horizons_s=(3.0,))

    def test_another_number_of_waypoints_is_refused(self):
        pred, _, gt, _ = _case()
        with pytest.raises(AssertionError):
            open_loop.sample_ade(pred, gt[:, :1])


class CornerTest(parameterized.TestCase):
    def test_order_of_the_corners(self):
        corners = open_loop.box_corners(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
        bottom = [[-2, -1.5, -1], [2, -1.5, -1], [2, 1.5, -1], [-2, 1.5, -1]]
        np.testing.assert_allclose(corners[:4], bottom)
        np.testing.assert_allclose(corners[4:], np.array(bottom) * [1, 1, -1])

    def test_corners_turn_and_move_with_the_pose(self):
        turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
        corners = open_loop.box_corners(np.float32([10, 20, 0]), turn)
        np.testing.assert_allclose(corners[1], [10 + 1.5, 20 + 2, -1])

    def test_a_shift_is_the_corner_distance(self):
        _, _, gt, gt_rot = _case()
        pred, rot = gt[:, None, None] + np.float32([3, 4, 0]), gt_rot[:, None, None]
        for metric in (open_loop.corner_distance, open_loop.corner_distance_best_sample):
            np.testing.assert_allclose(metric(pred, rot, gt, gt_rot), 5, rtol=1e-5)

    @parameterized.parameters(((),), ((2, 1),))
    def test_released_distance_flatters(self, batch):
        case = _case(batch)
        mixed = open_loop.corner_distance(*case)
        best = open_loop.corner_distance_best_sample(*case)
        assert mixed.shape == best.shape == (*batch, 2)
        assert (mixed < best).all()

    def test_released_distance_mixes_samples(self):
        gt = np.zeros((2, 3), np.float32)
        rot = np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3))
        pred = np.zeros((1, 2, 2, 3), np.float32)
        pred[0, 0, 0, 0] = pred[0, 1, 1, 0] = 1.0  # each sample is right at one waypoint
        rots = np.broadcast_to(rot, (1, 2, 2, 3, 3))
        np.testing.assert_allclose(open_loop.corner_distance(pred, rots, gt, rot), [0])
        np.testing.assert_allclose(
            open_loop.corner_distance_best_sample(pred, rots, gt, rot), [0.5]
        )


class CollectionTest(parameterized.TestCase):
    def test_over_sets(self):
        got = open_loop.over_sets({"a": np.array([[1.0, 3.0], [2.0, 2.0]])})
        np.testing.assert_allclose(got["a"], [2, 2])
        np.testing.assert_allclose(got["a_std"], [1, 0])  # population
        assert list(open_loop.over_sets({"a": np.ones((2, 1))})) == ["a"]

    def test_released_names(self):
        names = set(open_loop.released_metrics(*_case(sets=1)))
        by_t = {f"min_ade/by_t={t}" for t in ("0.5", "1.0", "3.0", "5.0")}
        assert names == by_t | {"min_ade", "ade", "ade/by_t=3.0", "corner_distance"}
        more = set(open_loop.released_metrics(*_case(sets=2)))
        spread = {f"{n}_std" for n in names if not n.startswith("ade")}
        assert more == names | spread

    def test_further_metrics(self):
        gt = np.zeros((2, 3), np.float32)
        pred = np.zeros((1, 2, 2, 3), np.float32)
        pred[0, 0, :, 0] = [1, 5]
        pred[0, 1, :, 0] = [2, 3]
        rot = np.broadcast_to(np.eye(3, dtype=np.float32), (2, 3, 3))
        rots = np.broadcast_to(rot, (1, 2, 2, 3, 3))
        got = jax.jit(open_loop.further_metrics)(pred, rots, gt, rot, np.array([[-2.0, -1.0]]))
        want = {
            "mean_ade": 2.75,
            "fde": 5,
            "min_fde": 3,
            "miss_rate": 1,
            "corner_distance_best_sample": 2.5,
            "ade_most_likely": 2.5,
            "fde_most_likely": 3,
        }
        assert {k: round(float(v), 4) for k, v in got.items()} == want
        assert "ade_most_likely" not in open_loop.further_metrics(pred, rots, gt, rot)
