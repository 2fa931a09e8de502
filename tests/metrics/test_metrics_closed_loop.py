"""Definitions of the closed-loop metrics on hand-made situations."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.metrics import closed_loop as lib
from alpamayo_jax.ops import boxes


def box(x, y, yaw=0.0, length=4.0, width=2.0):
    return boxes.box(jnp.array([x, y, yaw], jnp.float32), jnp.float32(length), jnp.float32(width))


def several(*poses):
    pose = jnp.asarray(poses, jnp.float32).reshape(-1, 3)
    return boxes.box(pose, jnp.float32(4.0), jnp.float32(2.0))


class CollisionTest(parameterized.TestCase):
    def found(self, *poses, there=None, strict=False):
        others = several(*poses)
        there = jnp.ones(len(poses), bool) if there is None else jnp.array(there)
        made = lib.collisions(box(0, 0), others, there, strict=strict)
        return {name: float(value) for name, value in made.items()}

    def test_nobody(self):
        found = self.found()
        self.assertEqual(found["min_distance_to_obstacle_m"], np.inf)
        self.assertEqual(found["collision_any"], 0.0)

    @parameterized.parameters(
        ((3.8, 0, 0), "collision_front"), ((-3.8, 0, 0), "collision_rear"),
        ((0, 2.8, np.pi / 2), "collision_lateral"),
    )  # fmt: skip
    def test_one(self, pose, name):
        found = self.found(pose, (50, 0, 0))
        hit = {key for key in found if key.startswith("collision") and found[key]}
        self.assertEqual(hit, {name, "collision_any"})
        self.assertEqual(found["min_distance_to_obstacle_m"], 0.0)

    def test_who_is_absent_cannot_be_touched(self):
        found = self.found((3.8, 0, 0), (10, 0, 0), there=[False, True])
        self.assertEqual(found["collision_any"], 0.0)
        np.testing.assert_allclose(found["min_distance_to_obstacle_m"], 10 - 3.92, atol=1e-5)

    def test_strict_sees_only_the_last_of_several(self):
        poses = ((3.8, 0, 0), (-3.8, 0, 0))
        self.assertEqual(self.found(*poses)["collision_front"], 1.0)
        strict = self.found(*poses, strict=True)
        self.assertEqual((strict["collision_front"], strict["collision_rear"]), (0.0, 1.0))

    @parameterized.parameters(
        ((4.1, 0, 0), 1.0, 1.0), ((-4.1, 0, 0), 1.0, 0.0), ((4.4, 0, 0), 0.0, 0.0)
    )
    def test_close_encounters_from_behind_are_no_fault(self, pose, close, fault):
        found = self.found(pose)
        self.assertEqual(found["close_encounter_0.3m"], close)
        self.assertEqual(found["close_encounter_at_fault_0.3m"], fault)


def rectangle(x0, x1, y0, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


class BoundaryTest(parameterized.TestCase):
    def length(self, *polygons):
        segments = lib.union_boundary(list(polygons))
        return float(np.linalg.norm(segments[:, 1] - segments[:, 0], axis=-1).sum())

    def test_of_one(self):
        self.assertAlmostEqual(self.length(rectangle(0, 10, 0, 4)), 28.0, places=4)

    def test_a_shared_edge_is_inside(self):
        got = self.length(rectangle(0, 10, 0, 4), rectangle(0, 10, 4, 8))
        self.assertAlmostEqual(got, 36.0, places=4)

    def test_overlap(self):
        got = self.length(rectangle(0, 10, 0, 4), rectangle(5, 15, 1, 3))
        self.assertAlmostEqual(got, 28.0 - 2.0 + 5.0 * 2 + 2.0, places=4)

    def test_pieces_of_an_edge_become_one(self):
        self.assertEqual(lib.union_boundary([rectangle(0, 50, 0, 4)]).shape, (4, 2, 2))

    def test_of_nothing(self):
        self.assertEqual(lib.union_boundary([]).shape, (0, 2, 2))


class RoadTest(parameterized.TestCase):
    """Two lanes side by side along x, the upper one against it; edges at y = -2 and 6."""

    def found(self, x, y, yaw=0.0, strict=False, drivable=True, lanes=2):
        polygons = [rectangle(-50, 50, -2, 2), rectangle(-50, 50, 2, 6)][:lanes]
        centres = np.array([[[-50, 0], [50, 0]], [[50, 4], [-50, 4]]], np.float32)[:lanes]
        boundary = lib.union_boundary(polygons).reshape(-1, 2, 2)
        edges = np.array([[[-50, -2], [50, -2]], [[-50, 6], [50, 6]]], np.float32)
        area = np.stack([rectangle(-50, 50, -2, 6)])
        made = jax.jit(lib.on_road, static_argnames="strict")(
            box(x, y, yaw),
            (centres, np.reshape(polygons, (lanes, 4, 2)), np.ones(lanes, bool)),
            (boundary, np.ones(len(boundary), bool)),
            (edges, np.ones(2, bool)),
            (area, np.full(1, drivable)),
            strict=strict,
        )
        return {name: float(value) for name, value in made.items()}

    def test_in_a_lane(self):
        found = self.found(0, 0)
        self.assertEqual((found["offroad"], found["wrong_lane"]), (0.0, 0.0))
        np.testing.assert_allclose(found["min_distance_to_lane_boundary_m"], 2 - 0.98, atol=1e-5)

    def test_between_lanes_the_union_contains_it(self):
        found = self.found(0, 2.0)
        self.assertEqual(found["offroad"], 0.0)
        np.testing.assert_allclose(found["min_distance_to_lane_boundary_m"], 4 - 0.98, atol=1e-5)

    @parameterized.parameters(-1.5, 5.6)
    def test_over_the_edge(self, y):
        found = self.found(0, y)
        self.assertEqual(found["offroad"], 1.0)
        self.assertEqual(found["min_distance_to_lane_boundary_m"], 0.0)

    def test_beyond_the_edge_strict_misses_it(self):
        self.assertEqual(self.found(0, -8.0)["offroad"], 1.0)
        self.assertEqual(self.found(0, -8.0, strict=True)["offroad"], 0.0)

    def test_without_drivable_area_only_the_edge_counts(self):
        self.assertEqual(self.found(0, -8.0, drivable=False)["offroad"], 0.0)

    def test_off_the_lanes_but_on_the_road(self):
        self.assertEqual(self.found(0, 4.0, lanes=1)["offroad"], 0.0)

    @parameterized.parameters((0.0, 1.0), (np.pi, 0.0), (np.pi / 2, 0.0))
    def test_the_wrong_way(self, yaw, wrong):
        self.assertEqual(self.found(0, 4.0, yaw)["wrong_lane"], wrong)

    def test_strict_does_not_wrap_the_difference(self):
        right = -np.pi + 0.05  # along the upper lane, whose heading is pi
        self.assertEqual(self.found(0, 4.0, right)["wrong_lane"], 0.0)
        self.assertEqual(self.found(0, 4.0, right, strict=True)["wrong_lane"], 1.0)

    def test_without_lanes_or_edges(self):
        nothing = (np.zeros((0, 2, 2), np.float32), np.zeros(0, bool))
        lanes = (np.zeros((0, 2, 2), np.float32), np.zeros((0, 4, 2), np.float32), nothing[1])
        found = lib.on_road(box(0, 0), lanes, nothing, nothing, nothing, strict=False)
        self.assertEqual(float(found["offroad"]), 0.0)


class ProgressTest(parameterized.TestCase):
    PATH = np.stack([np.arange(50) * 1.0, np.zeros(50)], -1).astype(np.float32)

    def found(self, point, tick, path=PATH, last=49):
        made = lib.progress(jnp.array(point, jnp.float32), path, jnp.int32(tick), jnp.int32(last))
        return {name: float(value) for name, value in made.items()}

    def test_beside_the_path(self):
        found = self.found((24.5, 3.0), 30)
        np.testing.assert_allclose(found["progress"], 0.5, rtol=1e-5)
        np.testing.assert_allclose(found["progress_rel"], 24.5 / 30, rtol=1e-5)
        np.testing.assert_allclose(found["dist_to_gt_trajectory"], 3.0, rtol=1e-5)
        np.testing.assert_allclose(found["dist_to_gt_location"], np.hypot(5.5, 3.0), rtol=1e-5)
        self.assertEqual(found["gt_dist_traveled_m"], 49.0)

    def test_padding_beyond_the_last_tick_is_no_path(self):
        self.assertEqual(self.found((60.0, 0.0), 45, last=20)["gt_dist_traveled_m"], 20.0)
        self.assertEqual(self.found((60.0, 0.0), 45, last=20)["progress"], 1.0)

    def test_who_need_not_move_has_made_it(self):
        still = np.zeros((50, 2), np.float32)
        found = self.found((0.0, 0.0), 30, still)
        self.assertEqual((found["progress"], found["progress_rel"]), (1.0, 1.0))

    def test_the_first_two_steps(self):
        self.assertEqual(self.found((0.0, 0.0), 1)["progress_rel"], 1.0)


class PlanTest(parameterized.TestCase):
    def test_a_plan_that_goes_on_deviates_by_nothing(self):
        path = jnp.asarray(np.random.default_rng(0).normal(size=(65, 2)))
        self.assertEqual(float(lib.plan_deviation(path[1:], path[:-1])), 0.0)

    def test_near_points_weigh_more(self):
        before = jnp.zeros((64, 2))
        early, late = jnp.zeros((64, 2)).at[0].set(1.0), jnp.zeros((64, 2)).at[50].set(1.0)
        self.assertGreater(
            float(lib.plan_deviation(early, before)), float(lib.plan_deviation(late, before))
        )
        moved = lib.plan_deviation(before + 2.0, before)
        np.testing.assert_allclose(moved, np.sqrt(8.0), rtol=1e-5)

    def test_min_ade_is_the_best_at_each_horizon(self):
        truth = np.zeros((64, 2), np.float32)
        early, late = truth.copy(), truth.copy()
        early[:10], late[10:] = [3.0, 0.0], [0.0, 2.0]
        known = np.arange(64) < 30
        got = lib.min_ade(jnp.asarray([early, late]), truth, known)
        np.testing.assert_allclose(got["min_ade@0.5s"], 0.0)
        np.testing.assert_allclose(got["min_ade@1.0s"], 0.0)
        np.testing.assert_allclose(got["min_ade@2.5s"], min(30 / 25, 30 / 25))
        self.assertTrue(np.isnan(got["min_ade@5.0s"]) and np.isnan(got["min_ade"]))

    @parameterized.parameters((10, True), (40, False))
    def test_open_loop_collisions_within_three_seconds(self, tick, want):
        plan = np.zeros((64, 3), np.float32)
        other = np.full((1, 64, 3), 50.0, np.float32)
        other[0, tick] = 0.0
        shape = jnp.float32(4.0), jnp.float32(2.0)
        args = boxes.box(jnp.asarray(plan), *shape), boxes.box(jnp.asarray(other), *shape)
        self.assertEqual(bool(lib.open_loop_collision(*args, np.ones((1, 64), bool))), want)
        self.assertFalse(bool(lib.open_loop_collision(*args, np.zeros((1, 64), bool))))


class ComfortTest(parameterized.TestCase):
    @parameterized.parameters((0.0, True), (1.5, True), (6.0, False))
    def test_hard_braking_is_not_comfortable(self, brake, want):
        t = np.arange(40) * 0.1
        x = 20 * t - 0.5 * brake * t**2
        pose = np.stack([x, 0 * x, 0 * x], -1).astype(np.float32)
        good = np.asarray(lib.comfortable(jnp.asarray(pose)))[2:-4]
        self.assertEqual(bool(good.all()), want)
