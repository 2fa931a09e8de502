"""Agents that replay, and agents that react."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.sim import traffic
from alpamayo_jax.sim.scenes import AgentKind, make_arrays, stack

TICKS = 80
T = np.arange(TICKS) * 0.1


def scene(x, y=0.0, kinds=(AgentKind.VEHICLE,), present=None, lanes=()):
    """Agents along x: rows of positions [A, T]; the ego stands far away."""
    x = np.atleast_2d(x)
    pose = np.zeros((len(x), TICKS, 3))
    pose[..., 0], pose[..., 1] = x, y
    there = np.ones((len(x), TICKS), bool) if present is None else present
    size = np.tile([4.5, 1.9, 1.5], (len(x), 1))
    return make_arrays(
        np.tile([-500.0, 0.0, 0.0], (TICKS, 1)), np.zeros(TICKS), np.array([[-500.0, 0], [0, 0]]),
        10.0, agent_pose=pose, agent_present=there, agent_size=size,
        agent_kind=list(kinds), lane_centres=lanes,
        lane_polygons=[np.zeros((3, 2)) for _ in lanes],
    )  # fmt: skip


def play(made, ego, paths="find"):
    """Agents' poses [A, T, 3] and presence with the ego at `ego` [T, 4]."""
    stacked = stack([made])
    found = traffic.find_paths(made)
    roads = jax.tree.map(lambda x: x[None], found) if paths == "find" else None
    state = traffic.begin(stacked, 0)
    step = jax.jit(lambda state, tick, ego: traffic.advance(stacked, roads, state, tick, ego))
    poses, present = [state.pose[0]], [state.present[0]]
    for tick in range(TICKS - 1):
        state = step(state, jnp.int32(tick), jnp.asarray(ego[tick + 1][None], jnp.float32))
        poses.append(state.pose[0])
        present.append(state.present[0])
    return np.stack(poses, 1), np.stack(present, 1)


FAR = np.tile([-500.0, 0.0, 0.0, 0.0], (TICKS, 1))
AHEAD = np.tile([40.0, 0.0, 0.0, 0.0], (TICKS, 1))


class IdmTest(parameterized.TestCase):
    def test_a_free_road(self):
        accel = traffic.idm_accel(jnp.array([0.0, 10.0, 15.0]), 10.0, jnp.inf, 0.0)
        np.testing.assert_allclose(accel[:2], [traffic.IDM.accel, 0.0], atol=1e-6)
        self.assertLess(float(accel[2]), 0)

    def test_equilibrium_gap(self):
        speed = 10.0
        gap = traffic.IDM.gap + speed * traffic.IDM.headway
        accel = traffic.idm_accel(speed, jnp.inf, gap, speed)
        np.testing.assert_allclose(accel, 0.0, atol=1e-5)

    @parameterized.parameters((5.0, 0.0), (1.0, 0.0), (0.0, 5.0))
    def test_it_never_brakes_harder_than_it_may(self, gap, lead):
        accel = float(traffic.idm_accel(20.0, 20.0, gap, lead))
        self.assertBetween(accel, -traffic.IDM.hardest, 0.0)

    def test_the_gap_is_to_the_first_in_the_way(self):
        points = jnp.stack([jnp.arange(40) * 1.0, jnp.zeros(40)], -1)
        others = jnp.array([[30.0, 0.0, 0.0], [12.0, 0.5, 0.0], [5.0, 4.0, 0.0]])
        sizes = jnp.tile(jnp.array([4.0, 2.0, 1.5]), (3, 1))
        gap, who = traffic.gap_ahead(
            points, jnp.zeros(40), jnp.float32(2.0), others, sizes, jnp.ones(3, bool)
        )
        self.assertEqual((float(gap), int(who)), (11.0, 1))
        none = jnp.zeros(3, bool)
        gap, _ = traffic.gap_ahead(points, jnp.zeros(40), jnp.float32(2.0), others, sizes, none)
        self.assertEqual(float(gap), np.inf)


class PathTest(parameterized.TestCase):
    def test_who_drives_reacts(self):
        kinds = (AgentKind.VEHICLE, AgentKind.CYCLIST, AgentKind.PEDESTRIAN, AgentKind.VEHICLE)
        x = np.stack([8 * T, 20 + 4 * T, 50 + T, 0 * T + 90])
        found = traffic.find_paths(scene(x, kinds=kinds))
        self.assertEqual(found.reacts.tolist(), [True, True, False, False])
        np.testing.assert_allclose(found.track[0], 8 * T, atol=0.05)

    def test_who_backs_up_replays(self):
        self.assertFalse(traffic.find_paths(scene(50 - 3 * T)).reacts[0])

    def test_a_path_goes_on_along_lanes(self):
        lane = np.array([[-10.0, 1.0], [100.0, 1.0]])
        found = traffic.find_paths(scene(8 * T, lanes=[lane]))
        self.assertTrue(found.goes_on[0])
        np.testing.assert_allclose(found.line[0, -1], [100.0, 0.0], atol=0.1)  # keeps its side
        other = traffic.find_paths(scene(8 * T, lanes=[lane[::-1]]))
        self.assertFalse(other.goes_on[0])


class PlayTest(parameterized.TestCase):
    def test_replay_is_the_recording(self):
        made = scene(8 * T)
        poses, present = play(made, AHEAD, paths=None)
        np.testing.assert_array_equal(poses, made.agent_pose)
        self.assertTrue(present.all())

    def test_on_a_free_road_it_drives_as_recorded(self):
        x = 8 * T + 4 * np.sin(T)
        made = scene(x)
        poses, _ = play(made, FAR)
        self.assertLess(np.abs(poses[0, :, 0] - x).max(), 0.6)

    def test_it_stops_behind_an_ego_in_its_way(self):
        poses, _ = play(scene(8 * T), AHEAD)
        front, rear = poses[0, :, 0] + 2.25, 40.0 - 1.3
        self.assertLess(front.max(), rear)
        self.assertGreater(front[-1], rear - 6.0)
        self.assertGreaterEqual(np.diff(front).min(), -1e-4)

    def test_it_goes_on_when_the_way_is_free_again(self):
        ego = AHEAD.copy()
        ego[45:, 1] = 30.0
        poses, _ = play(scene(8 * T), ego)
        blocked, _ = play(scene(8 * T), AHEAD)
        self.assertGreater(poses[0, -1, 0], blocked[0, -1, 0] + 2.0)

    def test_an_agent_waits_for_an_agent(self):
        x = np.stack([8 * T, np.full(TICKS, 40.0)])
        poses, _ = play(scene(x, kinds=(AgentKind.VEHICLE,) * 2), FAR)
        self.assertLess(poses[0, -1, 0] + 4.5, 40.0)

    def test_who_comes_late_is_still_there_after_its_recording(self):
        present = np.ones((1, TICKS), bool)
        present[:, 60:] = False
        x = 8 * np.minimum(T, T[59])
        _, there = play(scene(x, present=present), AHEAD)
        self.assertTrue(there[0].all())
        _, there = play(scene(x, present=present), FAR)
        self.assertFalse(there[0, 65:].any())
