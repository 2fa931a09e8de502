"""Rounded boxes against a slow, obvious way of computing the same."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.ops import boxes
from alpamayo_jax.ops.boxes import Contact

EGO = (5.393, 2.109)


def make(x=0.0, y=0.0, yaw=0.0, length=4.0, width=2.0):
    return boxes.box(jnp.array([x, y, yaw], jnp.float32), jnp.float32(length), jnp.float32(width))


def sampled_distance(a, b, count=60):
    """Smallest distance between points all around two outlines."""
    one, two = (np.asarray(boxes.outline(box, count)) for box in (a, b))
    return float(np.linalg.norm(one[:, None] - two, axis=-1).min())


class BoxTest(parameterized.TestCase):
    def test_a_box_is_shrunk_and_its_rim_is_half_of_half_its_shorter_side(self):
        made = make(length=4.0, width=2.0)
        np.testing.assert_allclose(made.radius, 0.49, rtol=1e-6)
        np.testing.assert_allclose(made.half + made.radius, [1.96, 0.98], rtol=1e-6)

    def test_the_longer_side_may_be_the_width(self):
        np.testing.assert_allclose(make(length=1.0, width=4.0).radius, 0.245, rtol=1e-6)

    @parameterized.parameters(((),), ((2, 1),))
    def test_batches_broadcast(self, *batch):
        shape = batch[0]
        made = boxes.box(jnp.zeros((*shape, 3)), jnp.float32(4.0), jnp.float32(2.0))
        self.assertEqual(made.radius.shape, shape)
        self.assertEqual(boxes.corners(made).shape, (*shape, 4, 2))
        self.assertEqual(boxes.distance(made, made).shape, shape)
        self.assertEqual(boxes.contact(made, made).shape, shape)

    def test_the_ego_box_sits_ahead_of_the_rear_axle(self):
        pose = jnp.array([1.0, 2.0, np.pi / 2])
        centre = boxes.centre_pose(pose, jnp.float32(-1.3), jnp.float32(5.393))
        np.testing.assert_allclose(centre, [1.0, 2.0 + 2.6965 - 1.3, np.pi / 2], atol=1e-5)

    def test_out_of_is_the_inverse_of_into(self):
        frame = make(3.0, -2.0, 0.7)
        points = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2)), jnp.float32)
        back = boxes.out_of(frame, boxes.into(frame, points))
        np.testing.assert_allclose(back, points, atol=1e-5)

    @parameterized.parameters(
        (10.0, 0.0, 0.0, 10.0 - 3.92),
        (0.0, 5.0, 0.0, 5.0 - 1.96),
        (-8.0, 0.0, 0.0, 8.0 - 3.92),
        (0.0, 5.0, np.pi / 2, 5.0 - 0.98 - 1.96),
    )  # fmt: skip
    def test_distance_of_faces(self, x, y, yaw, want):
        got = boxes.distance(make(), make(x, y, yaw))
        np.testing.assert_allclose(got, want, atol=1e-5)

    def test_distance_of_corners_is_that_of_circles(self):
        a, b = make(), make(10.0, 10.0)
        apart = np.array([10.0 - 2 * 1.47, 10.0 - 2 * 0.49])
        np.testing.assert_allclose(
            boxes.distance(a, b), np.linalg.norm(apart) - 2 * 0.49, atol=1e-5
        )

    @parameterized.parameters(*range(6))
    def test_distance_of_any_two_is_that_of_their_outlines(self, seed):
        rng = np.random.default_rng(seed)
        a = make(*rng.uniform(-1, 1, 2), rng.uniform(-3, 3), *rng.uniform(1, 6, 2))
        b = make(*rng.uniform(6, 9, 2), rng.uniform(-3, 3), *rng.uniform(1, 4, 2))
        self.assertLess(abs(float(boxes.distance(a, b)) - sampled_distance(a, b)), 0.06)
        np.testing.assert_allclose(boxes.distance(a, b), boxes.distance(b, a), atol=1e-5)

    @parameterized.parameters((0.0, 0.0, 0.3), (2.2, 0.5, 0.0), (0.0, 0.0, np.pi / 2))
    def test_boxes_that_overlap_have_no_distance(self, x, y, yaw):
        self.assertEqual(float(boxes.distance(make(), make(x, y, yaw, 1.0, 1.0))), 0.0)

    def test_a_cross_overlaps_though_no_corner_is_inside(self):
        self.assertEqual(float(boxes.distance(make(length=8, width=1), make(0, 0, 1.57, 8, 1))), 0)


class SegmentTest(parameterized.TestCase):
    @parameterized.parameters(
        ((5.0, -1.0), (5.0, 1.0), 5.0 - 1.96),
        ((-9.0, 0.0), (9.0, 0.0), 0.0),  # goes through
        ((0.0, 0.0), (0.1, 0.0), 0.0),  # lies inside
        ((-9.0, 3.0), (9.0, 3.0), 3.0 - 0.98),
        ((7.0, 0.0), (7.0, 0.0), 7.0 - 1.96),  # of no length
        ((1.96, 5.0), (9.0, -1.0), None),
    )  # fmt: skip
    def test_distance(self, begin, end, want):
        box = make()
        got = boxes.segment_distance(box, jnp.array([begin]), jnp.array([end]))
        points = np.linspace(begin, end, 400)
        outline = np.asarray(boxes.outline(box, 60))
        near = np.linalg.norm(points[:, None] - outline, axis=-1).min() if want is None else want
        np.testing.assert_allclose(got[0], near, atol=0.02)


class ContactTest(parameterized.TestCase):
    @parameterized.parameters(
        (4.5, 0.0, 0.0, Contact.FRONT),
        (-4.5, 0.0, 0.0, Contact.REAR),
        (0.0, 1.9, 0.0, Contact.LATERAL),
        (0.0, -1.9, 0.0, Contact.LATERAL),
        (0.0, 9.0, 0.0, Contact.NONE),
        (3.2, 1.5, 1.57, Contact.FRONT),
        (2.0, 1.9, 0.0, Contact.FRONT),  # beside, but as far forward as the bumper
    )
    def test_where(self, x, y, yaw, want):
        ego, other = make(0, 0, 0, *EGO), make(x, y, yaw)
        self.assertEqual(int(boxes.contact(ego, other)), want)

    @parameterized.parameters(0.0, 1.0, -2.5)
    def test_where_does_not_depend_on_the_frame(self, turn):
        rng = np.random.default_rng(3)
        n = 64
        pose = np.concatenate([rng.uniform(-5, 5, (n, 2)), rng.uniform(-3, 3, (n, 1))], -1)
        cos, sin = np.cos(turn), np.sin(turn)
        moved = pose @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        moved = moved + np.array([11.0, -4.0, turn])
        contact = jax.jit(boxes.contact)
        here = contact(
            make(0, 0, 0, *EGO), boxes.box(jnp.asarray(pose, jnp.float32), jnp.float32(4.0),
                                           jnp.float32(1.8)))  # fmt: skip
        there = contact(
            make(11.0, -4.0, turn, *EGO),
            boxes.box(jnp.asarray(moved, jnp.float32), jnp.float32(4.0), jnp.float32(1.8)),
        )
        np.testing.assert_array_equal(here, there)
        self.assertGreater(len(set(np.asarray(here).tolist())), 2)
