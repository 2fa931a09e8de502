"""The expert driver: what it does at each step, and which of all reasons decided it.

Every 0.1 s each reason to drive slower proposes an acceleration and the lowest wins, so the drive
records its cause (`rules` has the reasons, `aside` the moves to the side). It reacts only to what
can be seen at that step. The controls are integrated with the paper's unicycle (equation 5):
piecewise constant acceleration and curvature, trapezoidal positions. Ego origin: rear axle, ground.
"""

import dataclasses
import math

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.sim.aside import Aside
from alpamayo_jax.sim.motion import Motion
from alpamayo_jax.sim.rules import Speed
from alpamayo_jax.sim.seen import others_of
from alpamayo_jax.sim.sideways import Line, Move, Swerve
from alpamayo_jax.sim.style import State, Style, Task, rows_at
from alpamayo_jax.sim.world import World

_JERK = 3.5  # m/s^3
_LANDING = 4.0  # m/s^3, twice the jerk of coming to rest
_STANDING = 0.25  # m/s^2 that a standing car must want before it starts
_HARDEST = -5.0  # m/s^2
_TIGHTEST = 0.19  # 1/m


@dataclasses.dataclass(frozen=True, eq=False)
class Drive:
    """What the ego did, on the 10 Hz grid; arrays [N], float64 but the last three.

    Attributes:
      t: seconds.
      x, y, heading: world pose of the rear axle.
      s, d: route coordinates of the rear axle.
      v: speed; a, kappa: the controls applied from this row to the next.
      cause: int32, index in `rules.CAUSES` of what set `a`.
      actor: int32, number of the actor that is the cause, or -1.
      blocker: int32, number of the actor that keeps it from moving aside, or -1.
      moves: decisions to move aside.
    """

    t: np.ndarray
    x: np.ndarray
    y: np.ndarray
    heading: np.ndarray
    s: np.ndarray
    d: np.ndarray
    v: np.ndarray
    a: np.ndarray
    kappa: np.ndarray
    cause: np.ndarray
    actor: np.ndarray
    blocker: np.ndarray
    moves: tuple[Move, ...] = ()

    @property
    def pose(self) -> np.ndarray:
        """float64 [N, 3]: x, y, heading."""
        return np.stack([self.x, self.y, self.heading], -1)


def drive(
    world: World, motions: tuple[Motion, ...], style: Style, num_steps: int, speed: float
) -> Drive:
    """Drives `num_steps` rows of the 10 Hz grid from s = 0.

    Args:
      world: where.
      motions: of its actors, at least as long.
      style: the driver.
      num_steps: rows, including the start.
      speed: at the start.
    """
    task = Task(world, style)
    others = others_of(world, motions)
    table, line = [other.rows() for other in others], Line(world.layout.route)
    longitudinal, lateral = Speed(task), Aside(task)
    x, y, heading, _ = line.at(0.0)
    x, y = x - style.offset * math.sin(heading), y + style.offset * math.cos(heading)
    s, d, v, a = 0.0, style.offset, speed, 0.0
    swerve = Swerve(0.0, 1.0, 0.0)
    rows, why = np.zeros((num_steps, 9)), np.full((num_steps, 3), -1, np.int32)
    for k in range(num_steps):
        state = State(k, k * GRID_DT, s, d, v, swerve, rows_at(others, table, k, s))
        state.swerve = swerve = lateral.update(state)
        state.passes = lateral.passes
        proposals = longitudinal.proposals(state, lateral.waits, lateral.merging)
        cause = min(
            (i for i, proposal in enumerate(proposals) if proposal is not None),
            key=lambda i: proposals[i][0],
        )
        accel, actor = proposals[cause]
        # The last bound lets acceleration and speed reach zero together.
        wanted = max(min(accel, style.accel), _HARDEST, -math.sqrt(_LANDING * v))
        if v == 0.0 and wanted < _STANDING:
            a = 0.0
        else:
            a += min(max(wanted - a, -_JERK * GRID_DT), _JERK * GRID_DT)
            if v + a * GRID_DT < 0.01 and wanted < _STANDING:
                a = -v / GRID_DT
        a = max(a, -v / GRID_DT)
        kappa = _steer(line, swerve, style.offset, s, d, heading, v)
        rows[k] = state.t, x, y, heading, s, d, v, a, kappa
        why[k] = cause, actor, lateral.blocker
        v_next = max(v + a * GRID_DT, 0.0)
        heading_next = heading + GRID_DT * kappa * v + 0.5 * GRID_DT**2 * kappa * a
        x += 0.5 * GRID_DT * (v * math.cos(heading) + v_next * math.cos(heading_next))
        y += 0.5 * GRID_DT * (v * math.sin(heading) + v_next * math.sin(heading_next))
        heading, v = heading_next, v_next
        s, d = _project(line, x, y, s + v * GRID_DT)
    return Drive(*rows.T, *why.T, moves=tuple(lateral.moves))


def _project(line: Line, x: float, y: float, s: float) -> tuple[float, float]:
    """(s, d) of a point, by Newton steps from s."""
    d = 0.0
    for _ in range(3):
        px, py, heading, kappa = line.at(s)
        cos, sin = math.cos(heading), math.sin(heading)
        along, d = (x - px) * cos + (y - py) * sin, (y - py) * cos - (x - px) * sin
        s += along / max(1.0 - kappa * d, 0.2)
    return s, d


def _steer(
    line: Line, swerve: Swerve, offset: float, s: float, d: float, heading: float, v: float
) -> float:
    """Curvature that follows the route at the wanted offset, critically damped in distance."""
    half = 0.5 * v * GRID_DT
    _, _, tangent, _ = line.at(s)
    _, _, _, curvature = line.at(s + half)
    wanted, slope, _ = swerve.at(s)
    _, _, bend = swerve.at(s + half)
    wanted += offset
    length = max(6.0, 0.9 * v)
    stretch = 1.0 - curvature * wanted
    course = tangent + math.atan2(slope, max(stretch, 0.3))
    error = math.remainder(heading - course, 2 * math.pi)
    correction = (d - wanted) / length**2 + 2.0 * math.sin(error) / length
    kappa = curvature / max(stretch, 0.3) + bend / (1.0 + slope**2) ** 1.5 - correction
    return min(max(kappa, -_TIGHTEST), _TIGHTEST)
