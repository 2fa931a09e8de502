"""How the ego moves, without the jitter of its poses, and the way it takes.

All values are in the clip's world frame: metres, seconds, radians.
"""

import dataclasses

import numpy as np
from scipy.signal import savgol_filter

from alpamayo_jax.clip import GRID_DT, AgentTable, Clip, EgoTrack

_WINDOW, _ORDER = 13, 2  # ticks and degree of the local polynomial
_ROUTE_STEP = 0.5  # metres between points of a route
_STRAIGHT_ON = 60.0  # metres that a route goes on beyond where the ego was last


@dataclasses.dataclass(frozen=True)
class EgoMotion:
    """Smoothed poses at 10 Hz: t [N], xy [N, 2], heading [N] unwrapped, speed [N], accel [N].

    Speed is along the heading, negative when backing up.
    """

    t: np.ndarray
    xy: np.ndarray
    heading: np.ndarray
    speed: np.ndarray
    accel: np.ndarray

    def index(self, t: float) -> int:
        """The tick nearest to time t."""
        return int(np.argmin(np.abs(self.t - t)))


def ego_motion(ego: EgoTrack) -> EgoMotion:
    """Local polynomials of degree 2 over 1.3 s take away jitter of some decimetres."""
    w, x, y, z = ego.quat_wxyz.T
    heading = np.unwrap(np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2)))
    xy = smooth(ego.xyz[:, :2])
    heading = smooth(heading)
    velocity = smooth(ego.xyz[:, :2], derivative=1)
    speed = velocity[:, 0] * np.cos(heading) + velocity[:, 1] * np.sin(heading)
    accel = smooth(speed, derivative=1)
    return EgoMotion(ego.t, xy, heading, speed, accel)


def smooth(value: np.ndarray, derivative: int = 0) -> np.ndarray:
    """`value` [N, ...] at 10 Hz smoothed along the first axis, or its derivative by time."""
    window = min(_WINDOW, len(value) - (len(value) + 1) % 2)
    if window <= _ORDER:
        return np.gradient(value, GRID_DT, axis=0) if derivative else np.asarray(value, float)
    return savgol_filter(
        value, window, _ORDER, deriv=derivative, delta=GRID_DT, axis=0, mode="interp"
    )


@dataclasses.dataclass(frozen=True)
class Route:
    """A line that the ego follows: xy [N, 2] every half metre, s [N] from 0, heading [N].

    Attributes:
      known: metres of it that the ego drove; the rest goes straight on.
    """

    xy: np.ndarray
    s: np.ndarray
    heading: np.ndarray
    known: float

    def project(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(s, d, heading of the route there) of points [A, 2]; d is positive to the left.

        A point behind the start has a negative s along the first direction.
        """
        start, end = self.xy[:-1], self.xy[1:]
        along = end - start
        length = np.maximum(np.linalg.norm(along, axis=-1), 1e-9)
        unit = along / length[:, None]
        delta = np.asarray(xy, float)[:, None] - start
        at = (delta * unit).sum(-1)
        inside = np.clip(at, 0.0, length)
        distance = np.linalg.norm(delta - inside[..., None] * unit, axis=-1)
        best = np.argmin(distance, -1)
        rows = np.arange(len(best))
        s = self.s[best] + np.where(best == 0, at[rows, best], inside[rows, best])
        cross = unit[best, 0] * delta[rows, best, 1] - unit[best, 1] * delta[rows, best, 0]
        return s, cross, self.heading[best]

    def at(self, s: float) -> np.ndarray:
        """The point [2] at arc length s."""
        return np.array([np.interp(s, self.s, self.xy[:, i]) for i in range(2)])

    def turned(self, begin: float, end: float) -> float:
        """Radians by which the route turns between two arc lengths, positive to the left."""
        heading = np.interp([begin, end], self.s, self.heading)
        return float(heading[1] - heading[0])


def route_from(motion: EgoMotion, t: float) -> Route:
    """The way the ego takes from time t on: where it drives, not when.

    It stands for the route, which a driver knows beforehand. Beyond it the last heading goes on.
    """
    begin = motion.index(t)
    xy = motion.xy[begin:]
    keep = [0]
    for i in range(1, len(xy)):  # a standing or creeping ego has no direction of its own
        if np.linalg.norm(xy[i] - xy[keep[-1]]) >= _ROUTE_STEP:
            keep.append(i)
    points = xy[keep]
    known = float(np.linalg.norm(np.diff(points, axis=0), axis=-1).sum())
    heading = motion.heading[begin + keep[-1]]
    ahead = np.arange(1, int(_STRAIGHT_ON / _ROUTE_STEP) + 1)[:, None] * _ROUTE_STEP
    points = np.concatenate([points, points[-1] + ahead * [np.cos(heading), np.sin(heading)]])
    step = np.diff(points, axis=0)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(step, axis=-1))])
    s = np.arange(0.0, length[-1], _ROUTE_STEP)
    even = np.stack([np.interp(s, length, points[:, i]) for i in range(2)], -1)
    direction = np.diff(even, axis=0)
    angle = np.unwrap(np.arctan2(direction[:, 1], direction[:, 0]))
    return Route(even, s, np.append(angle, angle[-1]), known)


def seen_until(clip: Clip, t: float) -> Clip:
    """The clip as it was known at time t: poses, boxes and events up to then, and the map."""
    now = t + 1e-6
    ego, agents = clip.ego, clip.agents
    poses = max(int(np.searchsorted(ego.t, now, side="right")), 2)
    if agents is not None:
        rows = agents.t <= now
        agents = AgentTable(
            *(getattr(agents, f.name)[rows] for f in dataclasses.fields(AgentTable))
        )
    return dataclasses.replace(
        clip,
        ego=EgoTrack(ego.t[:poses], ego.xyz[:poses], ego.quat_wxyz[:poses]),
        cameras=(),
        agents=agents,
        reasoning=(),
        events=tuple(event for event in clip.events if event.t <= now),
    )
