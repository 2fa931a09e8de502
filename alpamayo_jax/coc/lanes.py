"""Lanes, crosswalks and stop lines of a map, whatever way its source draws them.

Three ways are known: a pair of boundaries `lane_left:*` and `lane_right:*` of one id, a centre line
`LANE_SURFACE_*:polyline` (a lane proper where a polygon has its id, else a way through a junction),
and a `lane_centre`. A crosswalk is a pair of `ped_crossing_edge1` and `ped_crossing_edge2`.
"""

import dataclasses
import functools

import numpy as np

from alpamayo_jax.clip import MapLines

_POINTS = 20  # of each boundary of a pair
_WIDTH = 3.5  # metres of a lane that is given by its centre alone
_STEEP = np.sin(np.deg2rad(30.0))  # lanes that cross less steeply run together
_BRANCH = np.deg2rad(45.0)
_ALIGNED = np.deg2rad(35.0)  # a lane that the ego is in points about its way


@dataclasses.dataclass(frozen=True)
class Lane:
    """A lane: its name, centre line [N, 2], width in metres, and whether it only links others.

    Links are all that goes through a junction, but also where a lane merely goes on.
    """

    name: str
    centre: np.ndarray
    width: float
    link: bool


@dataclasses.dataclass(frozen=True)
class Roads:
    """What a map says: lanes, crosswalks as quadrilaterals [4, 2], stop lines [N, 2]."""

    lanes: tuple[Lane, ...] = ()
    crosswalks: tuple[np.ndarray, ...] = ()
    stop_lines: tuple[np.ndarray, ...] = ()

    @functools.cached_property
    def segments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(starts [S, 2], ends [S, 2], number of the lane [S]) of all centre lines."""
        starts = [lane.centre[:-1] for lane in self.lanes]
        ends = [lane.centre[1:] for lane in self.lanes]
        numbers = [np.full(len(start), i) for i, start in enumerate(starts)]
        if not starts:
            return np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int)
        return np.concatenate(starts), np.concatenate(ends), np.concatenate(numbers)

    @functools.cached_property
    def _junctions(self) -> dict[int, bool]:
        return {}

    def junction(self, lane: int) -> bool:
        """Whether that lane goes through a junction.

        It is a link that a lane of another way crosses, or that shares an end with one that turns.
        """
        if lane not in self._junctions:
            link = self.lanes[lane].link
            self._junctions[lane] = link and (self._crossed(lane) or self._branches(lane))
        return self._junctions[lane]

    def _branches(self, lane: int) -> bool:
        own = self.lanes[lane].centre[[0, -1]]
        for other in self.lanes:
            ends = other.centre[[0, -1]]
            if other.link and (np.linalg.norm(ends - own, axis=-1) < 1.0).any():
                first, last = other.centre[1] - other.centre[0], other.centre[-1] - other.centre[-2]
                size = max(float(np.linalg.norm(first) * np.linalg.norm(last)), 1e-9)
                if float(first @ last) < np.cos(_BRANCH) * size:
                    return True
        return False

    def _crossed(self, lane: int) -> bool:
        start, end, number = self.segments
        own = number == lane
        a, b = start[own][:, None], end[own][:, None]
        low, high = self.lanes[lane].centre.min(0), self.lanes[lane].centre.max(0)
        near = (np.maximum(start, end) >= low).all(-1) & (np.minimum(start, end) <= high).all(-1)
        c, d = start[near & ~own], end[near & ~own]
        along, other = b - a, d - c

        def cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
            return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

        denominator = cross(along, other)
        size = np.linalg.norm(along, axis=-1) * np.linalg.norm(other, axis=-1)
        steep = np.abs(denominator) > _STEEP * size
        safe = np.where(steep, denominator, 1.0)
        at, there = cross(c - a, other) / safe, cross(c - a, along) / safe
        return bool((steep & (at >= 0) & (at <= 1) & (there >= 0) & (there <= 1)).any())


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a point is in a lane: the lane's number, offset to the left of its centre, heading."""

    lane: int
    offset: float
    heading: float


def roads_of(lines: MapLines | None) -> Roads:
    """The lanes, crosswalks and stop lines of a map; empty of none."""
    if lines is None:
        return Roads()
    groups: dict[str, dict[str, np.ndarray]] = {}
    for i, kind in enumerate(lines.kind):
        points = lines.points[lines.offsets[i] : lines.offsets[i + 1], :2]
        if len(points) > 1:
            name = f"line {i}" if lines.ids is None else str(lines.ids[i])
            groups.setdefault(name, {})[str(kind)] = points
    lanes, crosswalks, stops = [], [], []
    for name, own in groups.items():
        lane = _lane(name, own)
        if lane is not None:
            lanes.append(lane)
        edges = [own.get(f"ped_crossing_edge{i}") for i in (1, 2)]
        if edges[0] is not None and edges[1] is not None:
            first, second = edges[0][[0, -1]], edges[1][[0, -1]]
            if ((first[1] - first[0]) * (second[1] - second[0])).sum() > 0:
                second = second[::-1]
            crosswalks.append(np.concatenate([first, second]))
        stops += [points for kind, points in own.items() if kind.lower().startswith("stop_line")]
    return Roads(tuple(lanes), tuple(crosswalks), tuple(stops))


def _lane(name: str, own: dict[str, np.ndarray]) -> Lane | None:
    sides = {}
    for side in ("lane_left", "lane_right"):
        for kind, points in own.items():
            if kind.startswith(side):
                sides[side] = (points, kind.partition(":")[2])
    if len(sides) == 2:
        (left, left_mark), (right, right_mark) = sides["lane_left"], sides["lane_right"]
        left, right = _even(left), _even(right)
        width = float(np.median(np.linalg.norm(left - right, axis=-1)))
        return Lane(name, (left + right) / 2, width, left_mark == right_mark == "NONE")
    for kind, points in own.items():
        if kind.startswith("LANE_SURFACE") and kind.endswith("polyline"):
            return Lane(name, points, _WIDTH, kind.replace("polyline", "polygon") not in own)
        if kind == "lane_centre":
            return Lane(name, points, _WIDTH, False)
    return None


def _even(points: np.ndarray) -> np.ndarray:
    """`_POINTS` points at equal distances along a line."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=-1))])
    at = np.linspace(0.0, length[-1], _POINTS)
    return np.stack([np.interp(at, length, points[:, i]) for i in range(2)], -1)


def places(roads: Roads, xy: np.ndarray, heading: float, reach: float = 6.0) -> list[Place]:
    """The lanes beside a point [2] that point its way, the nearest first, each once.

    Args:
      roads: of the map.
      xy: world.
      heading: radians.
      reach: metres from a centre line.
    """
    start, end, number = roads.segments
    if not len(start):
        return []
    near = np.minimum(np.abs(start - xy).max(-1), np.abs(end - xy).max(-1)) < reach + 60.0
    start, end, number = start[near], end[near], number[near]
    along = end - start
    length = np.maximum(np.linalg.norm(along, axis=-1), 1e-9)
    unit = along / length[:, None]
    delta = xy - start
    at = (delta * unit).sum(-1)
    miss = np.maximum(np.maximum(-at, at - length), 0.0)
    offset = unit[:, 0] * delta[:, 1] - unit[:, 1] * delta[:, 0]
    angle = np.arctan2(unit[:, 1], unit[:, 0])
    apart = np.abs(np.arctan2(np.sin(angle - heading), np.cos(angle - heading)))
    good = (miss < 0.5) & (np.abs(offset) < reach) & (apart < _ALIGNED)
    found: dict[int, Place] = {}
    # A lane that points another way is the wrong one sooner than one a little farther off.
    for i in np.flatnonzero(good)[np.argsort((np.abs(offset) + 3.0 * apart)[good])]:
        lane = int(number[i])
        found.setdefault(lane, Place(lane, float(offset[i]), float(angle[i])))
    return list(found.values())
