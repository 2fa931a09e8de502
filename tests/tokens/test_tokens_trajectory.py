import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from alpamayo_jax.config import TrajectoryTokenConfig
from alpamayo_jax.presets import preset
from alpamayo_jax.tokens import trajectory

BATCH_DIMS = ((), (2, 1))
CFG = TrajectoryTokenConfig()
FIRST = CFG.traj_token_start_idx
START, END, PAD = 155_681, 155_683, 151_643

# Short trajectories, so that a test can spell out its ids.
SHORT = dataclasses.replace(CFG, tokens_per_future_traj=4)


def inspect(ids, cfg=SHORT):
    return trajectory.inspect_future(jnp.asarray(ids, jnp.int32), cfg, START, END)


class BinsTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_actions_survive_within_half_a_bin(self, batch_dims):
        actions = np.random.default_rng(0).uniform(-10, 10, (*batch_dims, 64, 2))
        actions = actions.astype(np.float32)
        bins = jax.jit(trajectory.encode_future, static_argnums=1)(actions, CFG)
        self.assertEqual(bins.shape, (*batch_dims, 128))
        self.assertEqual(bins.dtype, jnp.int32)
        back = jax.jit(trajectory.decode_future, static_argnums=1)(bins, CFG)
        np.testing.assert_allclose(back, actions, atol=20 / 2999 / 2 + 1e-5)

    def test_every_bin_survives(self):
        bins = jnp.arange(3072).reshape(24, 128) % CFG.num_future_bins
        again = trajectory.encode_future(trajectory.decode_future(bins, CFG), CFG)
        np.testing.assert_array_equal(again, bins)

    def test_order_is_waypoint_then_acceleration_and_curvature(self):
        actions = np.float32([[-10.0, 10.0], [0.001, 99.0]])
        np.testing.assert_array_equal(
            trajectory.encode_future(actions, SHORT), [0, 2999, 1500, 2999]
        )

    def test_bin_zero_is_ten_standard_deviations_below(self):
        np.testing.assert_array_equal(
            trajectory.decode_future(jnp.zeros(4, jnp.int32), SHORT), np.full((2, 2), -10.0)
        )

    def test_wrong_sizes_are_refused(self):
        with self.assertRaises(AssertionError):
            trajectory.encode_future(np.zeros((63, 2), np.float32), CFG)
        with self.assertRaises(AssertionError):
            trajectory.decode_future(np.zeros(126, np.int32), CFG)


class ExtractTest(parameterized.TestCase):
    @parameterized.product(batch_dims=BATCH_DIMS)
    def test_a_whole_trajectory(self, batch_dims):
        bins = np.random.default_rng(0).integers(0, 3000, (*batch_dims, 128))
        edge = lambda i: np.full((*batch_dims, 1), i)  # noqa: E731
        text = np.full((*batch_dims, 3), 42)
        ids = np.concatenate([text, edge(START), bins + FIRST, edge(END), edge(PAD)], axis=-1)
        extract = jax.jit(trajectory.extract_future, static_argnums=(1, 2, 3))
        got, valid = extract(ids, CFG, START, END)
        np.testing.assert_array_equal(got, bins)
        self.assertEqual(valid.shape, batch_dims)
        self.assertTrue(valid.all())

    @parameterized.named_parameters(
        ("whole", [7, START, FIRST, FIRST + 5, FIRST + 6, FIRST + 2999, END, PAD],
         [0, 5, 6, 2999], 4, 0, True),
        ("empty", [START, END], [0, 0, 0, 0], 0, 0, False),
        ("short", [START, FIRST + 8, FIRST + 9, END, FIRST + 1], [8, 9, 0, 0], 2, 0, False),
        ("surplus", [START, *range(FIRST, FIRST + 6), END], [0, 1, 2, 3], 6, 0, False),
        ("text shifts the rest", [START, FIRST + 8, 42, FIRST + 9, FIRST + 7, END],
         [8, 0, 9, 7], 4, 1, False),
        ("history bins clamp", [START, FIRST + 3500, FIRST + 1, FIRST + 2, FIRST + 3, END],
         [2999, 1, 2, 3], 4, 1, False),
        ("last start counts", [START, FIRST + 9, START, *range(FIRST + 1, FIRST + 5), END],
         [1, 2, 3, 4], 4, 0, True),
        ("first end counts", [START, *range(FIRST + 1, FIRST + 5), END, FIRST + 9, END],
         [1, 2, 3, 4], 4, 0, True),
        ("end before start", [END, START, FIRST + 1, FIRST + 2], [0, 0, 0, 0], 0, 0, False),
    )
    def test_released_rule(self, ids, bins, num_ids, num_foreign, valid):
        found = inspect(ids)
        np.testing.assert_array_equal(found.bins, bins)
        self.assertEqual(int(found.num_ids), num_ids)
        self.assertEqual(int(found.num_foreign), num_foreign)
        self.assertTrue(found.has_start and found.has_end)
        self.assertEqual(bool(found.valid), valid)

    def test_without_an_end_everything_after_the_start_counts(self):
        found = inspect([START, FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 4, PAD])
        np.testing.assert_array_equal(found.bins, [1, 2, 3, 4])
        self.assertEqual(int(found.num_ids), 5)
        self.assertFalse(found.has_end)
        self.assertFalse(found.valid)

    def test_without_a_start_the_first_id_counts(self):
        found = inspect([FIRST + 1, FIRST + 2, FIRST + 3, FIRST + 4, END])
        np.testing.assert_array_equal(found.bins, [1, 2, 3, 4])
        self.assertFalse(found.has_start)
        self.assertFalse(found.valid)

    def test_padding_of_minus_one_is_foreign(self):
        found = inspect([START, FIRST + 1, -1, -1])
        np.testing.assert_array_equal(found.bins, [1, 0, 0, 0])
        self.assertEqual(int(found.num_foreign), 2)

    def test_rows_are_independent(self):
        rows = [[START, FIRST + 1, FIRST + 2, END, PAD], [FIRST + 3, START, FIRST + 4, 5, 6]]
        together = inspect(rows)
        for i, row in enumerate(rows):
            for field, alone in zip(together, inspect(row)):
                np.testing.assert_array_equal(field[i], alone)


class FuseTest(parameterized.TestCase):
    HISTORY, FUTURE = 155_684, 155_685

    def fuse(self, ids, history, future=None, cfg=CFG, jit=True):
        fuse = trajectory.fuse
        if jit:
            fuse = jax.jit(fuse, static_argnums=(1, 2, 4))
        where = () if future is None else (self.FUTURE, jnp.asarray(future))
        return fuse(jnp.asarray(ids), cfg, self.HISTORY, jnp.asarray(history), *where)

    @parameterized.parameters(True, False)
    def test_placeholders_become_ids_in_order(self, jit):
        history, future = self.HISTORY, self.FUTURE
        ids = [[1, history, history, 2, future], [history, 3, 4, 5, future]]
        got = self.fuse(ids, [[10, 11], [12, 13]], [[20], [21]], jit=jit)
        start = CFG.history_start_idx
        np.testing.assert_array_equal(
            got,
            [[1, start + 10, start + 11, 2, FIRST + 20], [start + 12, 3, 4, 5, FIRST + 21]],
        )
        self.assertEqual(got.dtype, jnp.int32)

    def test_released_ids(self):
        self.assertEqual(CFG.history_start_idx, 154_669)
        ids = np.full((2, 48), self.HISTORY)
        bins = np.random.default_rng(0).integers(0, 1000, (2, 48))
        np.testing.assert_array_equal(self.fuse(ids, bins), bins + 154_669)

    def test_future_placeholders_stay_without_bins(self):
        got = self.fuse([[self.HISTORY, self.FUTURE]], [[0]])
        self.assertEqual(int(got[0, 1]), self.FUTURE)

    def test_surplus_placeholders_stay(self):
        got = self.fuse([[self.HISTORY] * 3], [[4, 5]])
        start = CFG.history_start_idx
        np.testing.assert_array_equal(got, [[start + 4, start + 5, self.HISTORY]])

    def test_vocabulary_of_the_tiny_preset(self):
        cfg = preset("tiny").trajectory_tokens
        got = self.fuse([[self.HISTORY, self.FUTURE]], [[3]], [[4]], cfg=cfg)
        start = cfg.traj_token_start_idx
        np.testing.assert_array_equal(got, [[start + 3000 + 3, start + 4]])

    def test_half_of_the_future_is_refused(self):
        with self.assertRaisesRegex(ValueError, "both"):
            trajectory.fuse(jnp.zeros((1, 2), int), CFG, 1, jnp.zeros((1, 2), int), 5)

    def test_another_batch_is_refused(self):
        with self.assertRaises(AssertionError):
            self.fuse([[self.HISTORY]], [[1], [2]])
