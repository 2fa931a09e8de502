"""Quality of trajectories (equation 11 of the paper): imitation, collision, jerk, and comfort.

A trajectory that is not valid gets the worst score of each, which counts in the total but not in
the means that are logged.
"""

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.metrics import dynamics
from alpamayo_jax.rl.rewards.base import Episodes, Scores
from alpamayo_jax.rl.rewards.scene import collides


class Imitation:
    """Mean planar distance to the recorded trajectory, at most `high`."""

    name, unit, low, cost = "ade", "m", 0.0, True

    def __init__(self, max_ade: float):
        """Larger distances than `max_ade` metres count as that."""
        self.high = max_ade

    def __call__(self, episodes: Episodes) -> Scores:
        """Against each window's target."""
        wanted = np.stack([s.target.ego_future_xyz for s in episodes.situations])[:, None]
        apart = np.linalg.norm((episodes.xyz - wanted)[..., :2], axis=-1).mean(-1)
        apart = np.minimum(apart, self.high)
        return _worst_where_malformed(apart, self.high, episodes)


class Collision:
    """Whether the ego's box overlaps a recorded road user's at the same time.

    Nobody is hit in a window without annotation, which does not count in the mean.
    """

    name, unit, low, high, cost = "collision", "", 0.0, 1.0, True

    def __call__(self, episodes: Episodes) -> Scores:
        """Against each window's scene."""
        hit = np.zeros(episodes.shape, np.float32)
        known = np.zeros(episodes.shape, bool)
        for b, situation in enumerate(episodes.situations):
            if situation.scene is not None:
                hit[b] = collides(situation.scene, episodes.xyz[b], episodes.rot[b])
                hit[b] = np.where(episodes.trajectory_valid[b], hit[b], self.high)
                known[b] = episodes.trajectory_valid[b]
        return Scores(hit, np.ones(episodes.shape, bool), known)


class Jerk:
    """Mean magnitude of the jerk, at most `high`."""

    name, unit, low, high, cost = "jerk", "m/s^3", 0.0, 10.0, True

    def __call__(self, episodes: Episodes) -> Scores:
        """Of the trajectories alone."""
        jerk = np.minimum(_motion(episodes.xyz, episodes.rot)[0], self.high)
        return _worst_where_malformed(jerk, self.high, episodes)


class Comfort:
    """Share of the six comfort checks that a trajectory passes."""

    name, unit, low, high, cost = "comfort", "", 0.0, 1.0, False

    def __call__(self, episodes: Episodes) -> Scores:
        """Of the trajectories alone."""
        return _worst_where_malformed(_motion(episodes.xyz, episodes.rot)[1], self.low, episodes)


@jax.jit
def _motion(xyz, rot):
    # The last three only come from repeating the end of each derivative.
    jerk = jnp.abs(dynamics.dynamics(xyz, rot).jerk[..., :-3]).mean(-1)
    return jerk, dynamics.comfort(xyz, rot)


def _worst_where_malformed(values: np.ndarray, worst: float, episodes: Episodes) -> Scores:
    valid = episodes.trajectory_valid
    values = np.where(valid, values, worst).astype(np.float32)
    return Scores(values, np.ones(episodes.shape, bool), valid.copy())
