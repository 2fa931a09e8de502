"""Rows, aggregation and scores on hand-made steps."""

from absl.testing import parameterized
import numpy as np
import pytest

from alpamayo_jax.metrics import closed_loop_scores as lib
from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION

T = 40
FIRST = 10


def steps(scenes=1, rollouts=1, **events):
    """Uneventful steps, 1 m per tick; `events`: metric -> (scene, rollout, tick, value)."""
    shape = (scenes, rollouts, T)
    made = {name: np.zeros(shape) for name in TIME_AGGREGATION}
    made["dist_traveled_m"] = np.broadcast_to(np.arange(T, dtype=float), shape).copy()
    made["progress"] = np.broadcast_to(np.linspace(0, 1, T), shape).copy()
    made["gt_dist_traveled_m"] += 39.0
    for name, (i, k, tick, value) in events.items():
        made[name][i, k, tick] = value
        if name.startswith("collision") and name != "collision_any":
            made["collision_any"][i, k, tick] = value
    return made


def spans(scenes=1, rollouts=1):
    return np.full((scenes, rollouts), FIRST), np.full((scenes, rollouts), T - 1)


def kept(made, **options):
    first, last = spans(*made["progress"].shape[:2])
    rows = lib.rows_kept(lib.add_derived(made, first), first, last, **options)
    return [np.flatnonzero(row).tolist() for row in rows.reshape(-1, T)]


class RowsTest(parameterized.TestCase):
    def test_the_warm_up_is_dropped(self):
        self.assertEqual(kept(steps()), [list(range(FIRST, T))])

    @parameterized.parameters("collision_front", "collision_rear", "collision_lateral", "offroad")
    def test_the_row_of_the_first_event_is_the_last(self, name):
        self.assertEqual(kept(steps(**{name: (0, 0, 20, 1.0)})), [list(range(FIRST, 21))])

    def test_an_event_in_the_warm_up_ends_nothing(self):
        self.assertEqual(kept(steps(offroad=(0, 0, 5, 1.0))), [list(range(FIRST, T))])

    @parameterized.parameters((3.99, T - 1), (4.0, 25))
    def test_four_metres_from_the_recording_end_it(self, metres, last):
        made = steps(dist_to_gt_trajectory=(0, 0, 25, metres))
        self.assertEqual(kept(made), [list(range(FIRST, last + 1))])

    def test_an_event_after_the_deviation_does_not_count(self):
        made = steps(dist_to_gt_trajectory=(0, 0, 25, 5.0), offroad=(0, 0, 30, 1.0))
        found = lib.scores(made, *spans())
        self.assertEqual(found.rollouts["offroad"][0, 0], 0.0)
        self.assertEqual(found.alpasim_score, np.inf)

    def test_a_black_image_drops_the_whole_rollout(self):
        made = steps(1, 2, img_is_black=(0, 1, 15, 1.0))
        self.assertEqual(kept(made), [list(range(FIRST, T)), []])
        found = lib.scores(made, *spans(1, 2))
        self.assertEqual(found.kept.tolist(), [[True, False]])
        self.assertEqual(found.scene_scores.tolist(), [[1.0, 0.0]])


class TimeTest(parameterized.TestCase):
    ROWS = np.array([[[5.0, np.nan, 2.0, np.inf, 3.0]]])
    ALL = np.ones((1, 1, 5), bool)

    @parameterized.parameters(
        ("max", False, 5.0), ("max", True, np.inf), ("min", False, 2.0), ("mean", False, 10 / 3),
        ("last", False, 3.0),
    )  # fmt: skip
    def test_unknown_values(self, how, strict, want):
        got = lib.over_time(self.ROWS, self.ALL, how, strict=strict)
        np.testing.assert_allclose(got, [[want]])

    def test_strict_counts_an_unknown_maximum_as_zero(self):
        rows = np.full((1, 1, 3), np.nan)
        some = np.ones((1, 1, 3), bool)
        self.assertEqual(lib.over_time(rows, some, "max", strict=True)[0, 0], 0.0)
        self.assertTrue(np.isnan(lib.over_time(rows, some, "max", strict=False)[0, 0]))

    def test_rows_that_are_not_kept_do_not_count(self):
        some = np.array([[[False, False, True, False, False]]])
        for how in ("max", "min", "mean", "last"):
            self.assertEqual(lib.over_time(self.ROWS, some, how, strict=False)[0, 0], 2.0)

    def test_no_rows_are_no_value(self):
        none = np.zeros((1, 1, 5), bool)
        self.assertTrue(np.isnan(lib.over_time(self.ROWS, none, "last", strict=False)[0, 0]))

    def test_an_unknown_way_is_an_error(self):
        with pytest.raises(ValueError, match="median"):
            lib.over_time(self.ROWS, self.ALL, "median", strict=False)


class ScoreTest(parameterized.TestCase):
    def test_kilometres_per_incident_over_all_scenes_of_a_rollout(self):
        made = steps(2, 1, collision_front=(0, 0, 20, 1.0))
        found = lib.scores(made, *spans(2))
        # 10 m until the crash of the first, 29 m of the second; one incident.
        np.testing.assert_allclose(found.alpasim_score, 0.039)
        np.testing.assert_allclose(found.alpasim_score_at_fault, 0.039)
        self.assertEqual(found.scene_scores.tolist(), [[0.0], [1.0]])
        self.assertEqual(found.mean["collision_any"], 0.5)

    def test_strict_counts_the_metres_of_the_warm_up(self):
        made = steps(1, 1, offroad=(0, 0, 20, 1.0))
        self.assertAlmostEqual(lib.scores(made, *spans()).alpasim_score, 0.010)
        self.assertAlmostEqual(lib.scores(made, *spans(), strict=True).alpasim_score, 0.020)

    def test_being_hit_from_behind_is_no_fault(self):
        found = lib.scores(steps(collision_rear=(0, 0, 30, 1.0)), *spans())
        np.testing.assert_allclose(found.alpasim_score, 0.020)
        self.assertEqual(found.alpasim_score_at_fault, np.inf)
        self.assertAlmostEqual(found.scene_scores[0, 0], min(30 / 39 / 0.8, 1.0))

    def test_one_rollout_without_incident_makes_the_mean_infinite(self):
        found = lib.scores(steps(1, 2, offroad=(0, 0, 20, 1.0)), *spans(1, 2))
        self.assertEqual(found.alpasim_score, np.inf)

    def test_deviation_is_over_rollouts(self):
        made = steps(1, 2, offroad=(0, 0, 20, 1.0))
        made["offroad"][0, 1, 30] = 1.0
        found = lib.scores(made, *spans(1, 2))
        np.testing.assert_allclose(found.alpasim_score, 0.015)
        np.testing.assert_allclose(found.alpasim_score_std, np.std([0.010, 0.020], ddof=1))

    @parameterized.parameters((0.4, 30.0, 0.5), (0.8, 30.0, 1.0), (0.1, 4.0, 1.0))
    def test_progress_counts_up_to_four_fifths_where_there_is_a_way(self, share, way, want):
        made = steps()
        made["progress"][:] = share
        made["gt_dist_traveled_m"][:] = way
        np.testing.assert_allclose(lib.scores(made, *spans()).scene_score, want)

    def test_means_are_over_scenes_then_over_rollouts(self):
        made = steps(2, 2)
        made["plan_deviation"] += np.array([[1.0, 2.0], [3.0, 6.0]])[..., None]
        found = lib.scores(made, *spans(2, 2))
        self.assertEqual(found.mean["plan_deviation"], 3.0)
        self.assertAlmostEqual(found.std["plan_deviation"], np.std([2.0, 4.0], ddof=1))

    def test_duration(self):
        found = lib.scores(steps(), *spans())
        np.testing.assert_allclose(found.mean["duration_frac_20s"], (T - 1 - FIRST) * 0.1 / 20)

    def test_a_missing_metric_is_named(self):
        made = steps()
        del made["offroad"]
        with pytest.raises(ValueError, match="'offroad'"):
            lib.scores(made, *spans())
