"""The world along the ego's route: where others are, go, and meet it."""

import dataclasses
import math

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.sim.motion import Motion
from alpamayo_jax.sim.paths import Path
from alpamayo_jax.sim.scenes import EGO_BOX
from alpamayo_jax.sim.world import Actor, World

EGO_LWH = EGO_BOX[:3]
REAR = -EGO_BOX[3]  # metres from the rear axle to the rear bumper
FRONT = EGO_BOX[0] - REAR  # metres from the rear axle to the front bumper
HALF = EGO_BOX[1] / 2  # metres to either side
_NEAR = 0.35  # metres beside the ego that nobody may cross
_SIDEWAYS = math.radians(25.0)
_LOOK = 90.0  # metres of an actor's path that are searched for a meeting
_JOINED = 6.0  # metres after which somebody who joins the route is ahead on it


@dataclasses.dataclass(frozen=True)
class Meeting:
    """Where an actor's path crosses the route.

    Attributes:
      begin, end: distances that the actor has gone, from its start, when it comes and is gone.
      s: span of the route that it takes up meanwhile.
    """

    begin: float
    end: float
    s: tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class Other:
    """One actor in coordinates of the route, arrays [N] on the 10 Hz grid.

    Attributes:
      actor, motion: who.
      s, d: of its centre; ahead, aside: half of its extent along and across the route.
      speed: along the route, negative towards the ego; across: to the left of the route.
      gone: metres it has moved since its start.
      sidling: m/s to the left of the route by which it leaves its place in its lane.
      meeting: where it crosses the route, or None.
    """

    actor: Actor
    motion: Motion
    s: np.ndarray
    d: np.ndarray
    ahead: np.ndarray
    aside: np.ndarray
    speed: np.ndarray
    across: np.ndarray
    gone: np.ndarray
    sidling: np.ndarray
    meeting: Meeting | None

    def rows(self) -> list[tuple]:
        """(present, s, d, ahead, aside, speed, across, gone, sidling, v, blinks) at each step."""
        return list(
            zip(
                self.motion.present.tolist(), self.s.tolist(), self.d.tolist(),
                self.ahead.tolist(), self.aside.tolist(), self.speed.tolist(),
                self.across.tolist(), self.gone.tolist(), self.sidling.tolist(),
                self.motion.v.tolist(), self.motion.blinks.tolist(),
            )
        )  # fmt: skip


def others_of(world: World, motions: tuple[Motion, ...]) -> tuple[Other, ...]:
    """All actors as the route sees them, in the order of `world.actors`."""
    route = world.layout.route
    return tuple(_other(route, actor, motion) for actor, motion in zip(world.actors, motions))


def _other(route: Path, actor: Actor, motion: Motion) -> Other:
    n = len(motion.s)
    if actor.path is route:
        s, d = motion.s, motion.d
    elif not motion.v.any():
        s, d = (np.full(n, float(value)) for value in route.locate(motion.xy[0]))
    else:
        s, d = route.locate(motion.xy)
    way = np.interp(s, route.s, route.heading)
    turned = motion.yaw - way
    length, width = actor.lwh[:2]
    cos, sin = np.abs(np.cos(turned)), np.abs(np.sin(turned))
    course = turned - actor.turned
    return Other(
        actor=actor,
        motion=motion,
        s=s,
        d=d,
        ahead=(cos * length + sin * width) / 2,
        aside=(sin * length + cos * width) / 2,
        speed=motion.v * np.cos(course),
        across=motion.v * np.sin(course),
        gone=np.abs(motion.s - actor.s),
        sidling=np.gradient(motion.d, GRID_DT) * np.sign(np.cos(course)) * actor.direction,
        meeting=None if actor.path is route or not motion.v.any() else _meeting(route, actor),
    )


def _meeting(route: Path, actor: Actor) -> Meeting | None:
    """The stretch of the actor's path across the route that the ego comes to first, or None."""
    gone = np.arange(0.0, _LOOK, 0.5)
    at = actor.s + actor.direction * gone
    inside = (at >= actor.path.s[0]) & (at <= actor.path.s[-1])
    gone, at = gone[inside], at[inside]
    xy, heading, _ = actor.path.pose(at, actor.shifts[-1].d if actor.shifts else actor.d)
    s, d = route.locate(xy)
    turned = heading + (0.0 if actor.direction > 0 else math.pi)
    turned = turned - np.interp(s, route.s, route.heading)
    angle = np.abs(np.arctan2(np.sin(turned), np.cos(turned)))
    sin, cos = np.abs(np.sin(turned)), np.abs(np.cos(turned))
    length, width = actor.lwh[:2]
    reach = (sin * length + cos * width) / 2 + HALF + _NEAR
    on = (np.abs(d) < reach) & (s > 0.0)
    across = on & (angle > _SIDEWAYS) & (angle < math.pi - _SIDEWAYS)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(int)))
    runs = [(b, e) for b, e in zip(edges[::2], edges[1::2]) if across[b:e].any()]
    if not runs:
        return None
    # Of several the one that the ego comes to first; who joins the route is ahead on it soon.
    begin, end = min(runs, key=lambda run: s[run[0] : run[1]].min())
    end = min(end, begin + int(2.0 * (length + _JOINED)) + 1)
    half = (sin * width + cos * length)[begin:end] / 2
    low, high = (s[begin:end] - half).min(), (s[begin:end] + half).max()
    return Meeting(float(gone[begin]), float(gone[end - 1]), (float(low), float(high)))
