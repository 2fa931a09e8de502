"""Distance, collision, jerk and comfort against motions worked out by hand."""

import numpy as np
from reward_episodes import episodes, poses, ramp, situation

from alpamayo_jax.metrics import dynamics
from alpamayo_jax.rl.rewards.driving import Collision, Comfort, Imitation, Jerk
from alpamayo_jax.rl.rewards.format import Format


def test_distance_is_planar_and_bounded():
    near, far = poses(8.0), poses(8.0)
    near[0][:, 1] += 1.5
    near[0][:, 2] += 7.0
    far[0][:, 0] += 100.0
    scores = Imitation(5.0)(episodes([situation()], [["", "", ""]], [[poses(8.0), near, far]]))
    np.testing.assert_allclose(scores.values, [[0.0, 1.5, 5.0]], atol=1e-5)
    assert scores.measured.all() and scores.valid.all()


def test_each_window_has_its_own_target():
    slow = situation(motion=poses(4.0))
    made = episodes([situation(), slow], [[""], [""]], [[poses(4.0)], [poses(4.0)]])
    got = Imitation(100.0)(made).values
    np.testing.assert_allclose(got, [[0.4 * 32.5], [0.0]], rtol=1e-5)


def test_what_is_malformed_is_as_bad_as_can_be_and_not_in_the_mean():
    window = situation(boxes=[[500, 0, 0, 4, 2]])
    made = episodes([window], [["", ""]], valid=[[True, False]])
    for reward, worst in (
        (Imitation(5.0), 5.0), (Collision(), 1.0), (Jerk(), Jerk.high), (Comfort(), 0.0)
    ):  # fmt: skip
        scores = reward(made)
        assert scores.values[0, 1] == worst != scores.values[0, 0]
        np.testing.assert_array_equal(scores.measured, [[True, False]])
        assert scores.valid.all()


def test_collisions():
    ahead, beside = [[30.0, 0.0, 0.0, 4.5, 1.9]], [[30.0, 3.0, 0.0, 4.5, 1.9]]
    stopping = poses(ramp(8.0, 0.0, 0.0, 4.0))
    made = episodes(
        [situation(boxes=ahead), situation(boxes=beside), situation(boxes=[])],
        [["", ""]] * 3, [[poses(8.0), stopping]] * 3,
    )  # fmt: skip
    scores = Collision()(made)
    np.testing.assert_array_equal(scores.values, [[1, 0], [0, 0], [0, 0]])
    assert scores.measured.all()


def test_without_annotation_nobody_is_hit_and_nothing_is_measured():
    scores = Collision()(episodes([situation()], [["", ""]], valid=[[True, False]]))
    np.testing.assert_array_equal(scores.values, [[0, 0]])
    assert scores.valid.all() and not scores.measured.any()


def test_jerk_of_a_parabola():
    # Speed t^2 / 2 has jerk 1 m/s^3.
    t = 0.1 * np.arange(1, 65)
    motion = poses(t**2 / 2)
    got = Jerk()(episodes([situation()], [["", ""]], [[motion, poses(8.0)]])).values[0]
    np.testing.assert_allclose(got[0], 1.0, rtol=0.05)
    np.testing.assert_allclose(got[1], 0.0, atol=2e-2)
    rough = poses(8.0 + 3.0 * (np.arange(64) % 2))
    assert Jerk()(episodes([situation()], [[""]], [[rough]])).values[0, 0] == Jerk.high


def test_comfort_is_the_share_of_checks():
    # 3.1 m/s^2 is too much along, and so are both jerks where it ends.
    rough = poses(ramp(4.0, 24.0))
    made = episodes([situation()], [["", ""]], [[poses(8.0), rough]])
    want = np.asarray(dynamics.comfort(made.xyz, made.rot))
    np.testing.assert_array_equal(Comfort()(made).values, want)
    np.testing.assert_allclose(want, [[1.0, 3 / 6]], rtol=1e-6)


def test_format():
    made = episodes(
        [situation()], [["a", "", "  ", "d", "e"]],
        valid=[[True, True, True, False, True]], ended=[[True, True, True, True, False]],
    )  # fmt: skip
    scores = Format()(made)
    np.testing.assert_array_equal(scores.values, [[1, 0, 0, 0, 0]])
    assert scores.valid.all() and scores.measured.all()


def test_components_are_the_recorded_quantities(reference_dir):
    """Distance and comfort of the recorded predictions, each case a window, each mode a sample."""
    with np.load(reference_dir / "rewards.npz", allow_pickle=False) as recorded:
        xyz, rot, wanted, ade = (
            recorded[name] for name in ("pred_xyz", "pred_rot", "fut_xyz", "ade")
        )
        checks = np.stack([recorded[f"comfort_k{k}"] for k in range(xyz.shape[2])], 1)
    upright = np.broadcast_to(np.eye(3, dtype=np.float32), (*wanted.shape[1:], 3))
    windows = [situation(motion=(future, upright)) for future in wanted]
    motions = [list(zip(a[0], b[0])) for a, b in zip(xyz, rot)]
    made = episodes(windows, [[""] * xyz.shape[2]] * len(xyz), motions)
    np.testing.assert_allclose(Comfort()(made).values, checks.mean(-1), atol=1e-6)
    far = float(ade.max()) + 1.0
    reach = np.maximum(1.0, np.abs(xyz[:, 0, 1]).max((-1, -2)))
    np.testing.assert_array_less(np.abs(Imitation(far)(made).values[:, 1] - ade) / reach, 1e-5)
