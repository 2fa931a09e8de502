"""What stands beside the road: trees, reflector posts, chevron boards, poles of traffic lights."""

import numpy as np

from alpamayo_jax.sim.ground import CROSSING_HALF
from alpamayo_jax.sim.road import LEFT_SHOULDER, Road
from alpamayo_jax.sim.scenario import Scenario
from alpamayo_jax.sim.solids import part

CROSSING_AHEAD = 3.0 + CROSSING_HALF  # metres from the stop line to the middle of the crossing
LIGHT_AHEAD = 16.0  # metres from the stop line to the traffic light
HEAD_HEIGHT = 5.2  # metres, middle of the traffic light
_SHARP = 0.018  # 1/m, curvature from which a curve has chevron boards
_WHITE, _BLACK, _GREY, _BARK = (225, 225, 225), (30, 30, 30), (70, 74, 78), (82, 64, 48)
_BOARD = (240, 190, 30)


def scenery(scenario: Scenario) -> list[tuple]:
    """Rows for `make_solids`; drawn from `scenario.look`, and none of it stands on the road."""
    road, rng = scenario.road, np.random.default_rng([scenario.look, 6])
    rows = _trees(scenario, rng) + _boards(road)
    gap = _junction(scenario)
    for s in np.arange(road.s[0] + 5.0, road.s[-1], 25.0):
        for d in (road.edges[0] - road.shoulder - 0.4, road.edges[2] + LEFT_SHOULDER + 0.4):
            place = _place(road, s, d)
            if not gap[0] < s < gap[1] and _clear(road, place, abs(d) - 0.3):
                rows.append(part(place, (0, 0, 0.5), (0.14, 0.14, 1.0), _WHITE))
                rows.append(part(place, (0, 0, 0.82), (0.16, 0.16, 0.2), _BLACK))
    if scenario.signal is not None:
        rows += _signal_poles(road, scenario.signal.s)
    return rows


def signal_place(road: Road, line: float) -> tuple[float, float, float]:
    """x, y, heading below the head of a traffic light whose stop line is at s = `line`."""
    return _place(road, line + LIGHT_AHEAD, 0.0)


def _place(road: Road, s: float, d: float) -> tuple[float, float, float]:
    (x, y), heading, _ = road.pose(s, d)
    return float(x), float(y), float(heading)


def _clear(road: Road, place: tuple[float, float, float], distance: float) -> bool:
    return bool(road.nearest(np.array(place[:2])) > distance)


def _junction(scenario: Scenario) -> tuple[float, float]:
    """Stretch of s that is kept free for the crossing road."""
    if scenario.signal is None:
        return 0.0, 0.0
    return scenario.signal.s - 2.0, scenario.signal.s + 18.0


def _trees(scenario: Scenario, rng: np.random.Generator) -> list[tuple]:
    road, gap, rows = scenario.road, _junction(scenario), []
    s = float(road.s[0]) + 5.0
    while s < road.s[-1] - 5.0:
        for side in (-1, 1):
            edge = road.edges[0] - road.shoulder if side < 0 else road.edges[2] + LEFT_SHOULDER
            d = edge + side * rng.uniform(3.0, 16.0)
            height, girth = rng.uniform(4.0, 9.0), rng.uniform(0.5, 0.8)
            green = rng.uniform(0.75, 1.2)
            place = _place(road, s + rng.uniform(0.0, 12.0), d)
            wanted = rng.random() < 0.75 and not gap[0] - 14.0 < s < gap[1]
            if wanted and _clear(road, place, road.edges[2] + 3.5 + girth * height / 2):
                size = (girth * height, girth * height, 0.75 * height)
                leaf = green * np.array([62.0, 92.0, 44.0])
                rows.append(part(place, (0, 0, 0.2 * height), (0.35, 0.35, 0.4 * height), _BARK))
                rows.append(part(place, (0, 0, 0.62 * height), size, leaf, ball=True))
        s += rng.uniform(10.0, 28.0)
    return rows


def _boards(road: Road) -> list[tuple]:
    """Yellow boards on the outside of sharp curves, turned towards who comes along the lane."""
    rows = []
    for s in np.arange(road.s[0], road.s[-1], 7.0):
        kappa = float(np.interp(s, road.s, road.kappa))
        if abs(kappa) < _SHARP:
            continue
        right, _, left = road.edges
        d = right - road.shoulder - 1.0 if kappa > 0 else left + LEFT_SHOULDER + 1.0
        place = _place(road, s, d)
        if _clear(road, place, abs(d) - 0.3):
            facing = (*place[:2], float(road.pose(s - 14.0)[1]))
            rows.append(part(facing, (0, 0, 1.35), (0.08, 1.5, 0.9), _BOARD))
            rows.append(part(facing, (-0.03, 0, 1.35), (0.08, 0.4, 0.9), _BLACK))
            rows.append(part(facing, (0.02, 0, 0.45), (0.1, 0.1, 0.9), _GREY))
    return rows


def _signal_poles(road: Road, line: float) -> list[tuple]:
    place, side = signal_place(road, line), road.edges[0] - 2.2
    return [
        part(place, (0.3, side, 3.1), (0.25, 0.25, 6.2), _GREY),
        part(place, (0.3, side / 2, 6.0), (0.16, -side + 0.3, 0.16), _GREY),
        part(place, (0.1, 0, HEAD_HEIGHT), (0.12, 1.25, 2.7), (14, 14, 15)),
    ]
