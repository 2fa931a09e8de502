"""Roads of the procedural world: straights and curves, crossings, turns, merges, roundabouts.

Traffic keeps to the right. The ego starts at s = 0 of its route, in the lane that the route is the
centre of; d counts to the left of it.
"""

import dataclasses
import math
from typing import Sequence

import numpy as np

from alpamayo_jax.sim.paths import Path, Pieces, build_path, curve, ring, straight
from alpamayo_jax.sim.world import Band, Beside, Lane, Layout, Span, Strip

LINE = 0.16  # metres, width of a painted line
STOP_BAR = 0.45  # metres along the road
DASH = (4.0, 9.0)  # metres of paint, and from one dash to the next
LEFT_SHOULDER = 1.0  # metres of asphalt outside the left edge line
CROSS_REACH = 120.0  # metres that a crossing road is drawn to each side
WALK = 3.2  # metres, depth of a crosswalk
BACK = 60.0  # metres of road behind the start
_SET_BACK = 5.0  # metres
_BLEND = 3.0  # metres of transition between the arcs of a roundabout
_LANE_LENGTH = 60.0  # metres, of a lane of the map
_EVER = (-math.inf, math.inf)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Lanes beside each other, as offsets from the first, which goes along the path.

    Attributes:
      width: of each lane.
      same: lanes to the left of it that go its way.
      oncoming: lanes to the left of those that come the other way.
      shoulder: metres of asphalt outside the right edge line.
      dashed: whether the line between the two directions is dashed.
    """

    width: float = 3.5
    same: int = 0
    oncoming: int = 1
    shoulder: float = 2.8
    dashed: bool = True

    @property
    def middle(self) -> float:
        """d of the line between the two directions."""
        return (self.same + 0.5) * self.width

    @property
    def left(self) -> float:
        """d of the left edge line."""
        return self.middle + self.oncoming * self.width

    @property
    def edges(self) -> Span:
        """d of the right and the left edge of the asphalt."""
        return -self.width / 2 - self.shoulder, self.left + LEFT_SHOULDER


def bands_of(profile: Profile, gaps: Sequence[Span] = (), reach: Span = _EVER) -> tuple[Band, ...]:
    """Asphalt and lines of a road; lines are left out in `gaps`, all beyond `reach`."""
    width, half = profile.width, LINE / 2
    lines = [("white", -width / 2, None), ("white", profile.left, None)]
    lines += [("white", (i + 0.5) * width, DASH) for i in range(profile.same)]
    lines += [("white", profile.middle + (i + 1) * width, DASH)
              for i in range(profile.oncoming - 1)]  # fmt: skip
    if profile.oncoming:
        dash = DASH if profile.dashed and not profile.same else None
        lines.append(("yellow", profile.middle, dash))
    bands = [Band("asphalt", profile.edges, reach)]
    for begin, end in _between(gaps, reach):
        bands += [Band(colour, (d - half, d + half), (begin, end), dash)
                  for colour, d, dash in lines]  # fmt: skip
    return tuple(bands)


def lanes_of(
    path: Path, profile: Profile, gaps: Sequence[Span] = (), reach: Span | None = None
) -> list[Lane]:
    """The lanes of a road, cut into links where it goes through `gaps`."""
    low, high = reach or (float(path.s[0]), float(path.s[-1]))
    lanes, width = [], profile.width
    pieces = [(part, False) for span in _between(gaps, (low, high)) for part in _parts(span)]
    pieces += [((max(a, low), min(b, high)), True) for a, b in gaps if b > low and a < high]
    total = 1 + profile.same + profile.oncoming
    for (begin, end), link in pieces:
        if end - begin < 1.0:
            continue
        for i in range(total):
            centre = path.points(begin, end, i * width)
            against = i > profile.same
            left, right = ("NONE", "NONE") if link else _marks(profile, i)
            if against:
                centre, left, right = centre[::-1], right, left
            lanes.append(Lane(centre, width, left, right))
    return lanes


def _parts(span: Span) -> list[Span]:
    """A stretch in parts no longer than a lane of the map."""
    cuts = np.linspace(*span, max(math.ceil((span[1] - span[0]) / _LANE_LENGTH), 1) + 1)
    return list(zip(cuts.tolist(), cuts[1:].tolist()))


def _marks(profile: Profile, i: int) -> tuple[str, str]:
    """Marks of lane i on the side of larger d and on that of smaller d."""
    total = 1 + profile.same + profile.oncoming

    def mark(edge: int) -> str:
        if edge in (0, total):
            return "SOLID_WHITE"
        if edge == profile.same + 1:
            return "DASHED_YELLOW" if profile.dashed and not profile.same else "SOLID_YELLOW"
        return "DASHED_WHITE"

    return mark(i + 1), mark(i)


def _between(gaps: Sequence[Span], reach: Span) -> list[Span]:
    """What of `reach` lies outside the gaps."""
    spans, begin = [], reach[0]
    for low, high in sorted(gaps):
        if low > begin:
            spans.append((begin, min(low, reach[1])))
        begin = max(begin, high)
    if begin < reach[1]:
        spans.append((begin, reach[1]))
    return spans


def _beside(profile: Profile, s: Span = _EVER) -> tuple[Beside, ...]:
    lanes = [Beside((i + 1) * profile.width, 1, s) for i in range(profile.same)]
    first = profile.same + 1
    lanes += [Beside((first + i) * profile.width, -1, s) for i in range(profile.oncoming)]
    return tuple(lanes)


@dataclasses.dataclass(frozen=True)
class Site:
    """Where in the world a road begins: world position and heading of s = 0."""

    origin: tuple[float, float] = (0.0, 0.0)
    heading: float = 0.0


def open_road(
    pieces: Pieces, profile: Profile, site: Site, crosswalk: float | None = None
) -> Layout:
    """A road without a junction, with a crosswalk across it where its s is given."""
    route = build_path(pieces, start=-BACK, origin=site.origin, heading=site.heading)
    walks = [] if crosswalk is None else [crosswalk]
    bands = bands_of(profile) + tuple(_walk(profile, s) for s in walks)
    return Layout(
        route=route,
        width=profile.width,
        edges=profile.edges,
        strips=(Strip(route, bands),),
        lanes=tuple(lanes_of(route, profile)),
        beside=_beside(profile),
        crosswalks=tuple(_quad(route, profile, s) for s in walks),
    )


def _walk(profile: Profile, s: float) -> Band:
    right, left = profile.edges
    return Band("white", (right, left), (s - WALK / 2, s + WALK / 2), (0.5, 1.1), across=True)


def _quad(path: Path, profile: Profile, s: float) -> np.ndarray:
    right, left = profile.edges
    corners = [(s - WALK / 2, right), (s - WALK / 2, left), (s + WALK / 2, left),
               (s + WALK / 2, right)]  # fmt: skip
    return np.array([path.pose(*corner)[0] for corner in corners])


def _bar(path: Path, profile: Profile, s: float) -> np.ndarray:
    right, left = -profile.width / 2, profile.middle
    return np.array([path.pose(s, left)[0], path.pose(s, right)[0]])


def crossing_road(
    pieces: Pieces,
    profile: Profile,
    site: Site,
    line: float,
    *,
    skew: float = 0.0,
    crosswalk: bool = False,
    turn: str = "",
    room: float = 0.0,
) -> Layout:
    """A road that another crosses, behind a stop line.

    Args:
      pieces: of the road; straight from the line to 30 m past it.
      profile: of both roads.
      site: where it begins.
      line: s of the stop line.
      skew: radians by which the crossing road is turned to the left of square.
      crosswalk: whether one lies between the line and the crossing.
      turn: "left" or "right" where the route turns off, "" where it goes on; then `pieces` are
        straight.
      room: metres of route past the turn.
    """
    main = build_path(pieces, start=-BACK, origin=site.origin, heading=site.heading)
    width = profile.width
    reach = max(CROSS_REACH, room + 40.0)
    half = (width + 1.2) / math.cos(skew)
    begin = line + STOP_BAR + 0.6 + (WALK + 0.8 if crosswalk else 0.0)
    # A right turn is tight: it begins behind the line only where the line is farther back.
    begin += _SET_BACK if turn == "right" else 0.0
    middle = begin + half
    x, y, heading = main.place(middle, profile.middle)
    other = straight((x, y, heading + math.pi / 2 + skew), reach, reach)
    # The crossing road's own lanes: its path is its middle line, so shift it to its right lane.
    cross_profile = dataclasses.replace(profile, same=0, oncoming=1)
    right_lane = straight((*other.place(0.0, -width / 2),), reach, reach)
    own_half = (profile.left + 1.2) / math.cos(skew)
    gap = (begin, middle + half)
    cross_gap = (-(profile.middle + width / 2 + profile.shoulder + 0.6), own_half - profile.middle)
    own = bands_of(profile, [gap]) + (
        Band("white", (-width / 2, profile.middle), (line, line + STOP_BAR)),
    )
    if crosswalk:
        own += (_walk(profile, line + STOP_BAR + 0.6 + WALK / 2),)
    strips = [
        Strip(right_lane, bands_of(dataclasses.replace(cross_profile, shoulder=1.0), [cross_gap])),
        Strip(main, own),
    ]
    lanes = lanes_of(main, profile, [gap]) + lanes_of(right_lane, cross_profile, [cross_gap])
    route, junctions = main, ((gap[0], gap[1]),)
    if turn:
        route, leaves, joins = _turn(main, other, profile, turn, room)
        begin = min(gap[0], leaves)
        junctions = ((begin, joins),)
        strips.append(Strip(route, (Band("asphalt", (-width / 2 - 0.8, width / 2 + 0.4),
                                         (leaves, joins)),)))  # fmt: skip
        lanes.append(Lane(route.points(begin, joins), width, "NONE", "NONE"))
    walk_at = line + STOP_BAR + 0.6 + WALK / 2
    return Layout(
        route=route,
        width=width,
        edges=profile.edges,
        strips=tuple(strips),
        lanes=tuple(lanes),
        beside=_beside(profile, (-math.inf, gap[0])) if turn else _beside(profile),
        junctions=junctions,
        crosswalks=(_quad(main, profile, walk_at),) if crosswalk else (),
        stop_lines=(_bar(main, profile, line),),
    )


def _turn(
    main: Path, other: Path, profile: Profile, side: str, room: float
) -> tuple[Path, float, float]:
    """(route, where its curve begins, where it ends) of a turn off `main` into `other`."""
    left = side == "left"
    sign = 1.0 if left else -1.0
    radius = 11.0 if left else 7.5
    target = float(other.heading[0]) + (0.0 if left else math.pi)
    x, y, heading = main.place(0.0)
    angle = abs(math.remainder(target - heading, 2.0 * math.pi))
    bend = curve(sign / radius, angle, 4.0)
    probe = build_path(bend + [(1.0, 0.0)], start=0.0)
    length = sum(piece for piece, _ in bend)
    (ex, ey), _, _ = probe.pose(length)
    # The curve must end on the lane of `other`: its line, seen from the start of the route.
    lane = other.pose(0.0, -profile.width / 2 if left else profile.width / 2)[0]
    cos, sin = math.cos(heading), math.sin(heading)
    lx = cos * (lane[0] - x) + sin * (lane[1] - y)
    ly = -sin * (lane[0] - x) + cos * (lane[1] - y)
    way = math.remainder(target - heading, 2.0 * math.pi)
    begin = lx - ex + (float(ey) - ly) / math.tan(way)
    route = build_path(
        [(begin, 0.0)] + bend + [(room, 0.0)],
        start=-BACK, origin=(x, y), heading=heading,
    )  # fmt: skip
    return route, begin, begin + length


def merging_road(
    profile: Profile, site: Site, joins: float, ends: float, length: float
) -> Layout:
    """A ramp that comes from the right, runs beside a road, and ends.

    Args:
      profile: of the road, without the ramp's lane; its `same` counts from 1.
      site: where the ramp begins.
      joins: s at which the ramp begins to run beside the road.
      ends: s at which its lane ends.
      length: of the route.
    """
    bend = curve(-0.006, 0.14, 12.0)
    bend_length = sum(piece for piece, _ in bend)
    pieces = [(joins - bend_length, 0.0)] + bend + [(length - joins, 0.0)]
    route = build_path(pieces, start=-BACK, origin=site.origin, heading=site.heading)
    width = profile.width
    x, y, heading = route.place(joins, width)
    main = straight((x, y, heading), joins + 160.0, length - joins + 60.0)
    ramp = Profile(width, 0, 0, 1.0)
    half = LINE / 2
    inner = dataclasses.replace(profile, same=profile.same - 1, shoulder=0.6)
    bands = bands_of(inner)
    # The right edge line of the road is dashed where the ramp may be left.
    edge, reach = (-width / 2 - half, -width / 2 + half), (0.0, ends - joins)
    bands = (bands[0],) + tuple(
        band for old in bands[1:]
        for band in (
            [dataclasses.replace(old, s=(-math.inf, 0.0)),
             dataclasses.replace(old, s=reach, dash=(1.5, 3.0)),
             dataclasses.replace(old, s=(reach[1], math.inf))]
            if old.d == edge else [old]
        )
    )  # fmt: skip
    strips = (
        Strip(route, (
            Band("asphalt", (-width / 2 - 1.0, width / 2 + 0.6), (-math.inf, ends + 25.0)),
            Band("white", (-width / 2 - half, -width / 2 + half), (-math.inf, ends + 20.0)),
            Band("white", (width / 2 - half, width / 2 + half), (-math.inf, joins - 25.0)),
        )),
        Strip(main, bands),
    )  # fmt: skip
    lanes = lanes_of(main, inner) + lanes_of(route, ramp, reach=(float(route.s[0]), ends))
    beside = tuple(
        dataclasses.replace(lane, s=(joins - 15.0, math.inf)) for lane in _beside(profile)
    )
    return Layout(
        route=route,
        width=width,
        edges=(-width / 2 - 1.0, profile.left + LEFT_SHOULDER),
        strips=strips,
        lanes=tuple(lanes),
        beside=beside,
        lane_end=ends,
    )


def _entry_angle(radius: float, flare: float, aside: float) -> float:
    """By how much a lane turns right to run onto a ring whose centre is `aside` to its left."""
    low, high = 0.3, 1.4
    for _ in range(20):
        angle = (low + high) / 2
        bend = curve(-1.0 / flare, angle, _BLEND) + curve(1.0 / radius, 2.0 * angle, _BLEND)
        path = build_path(bend, start=0.0)
        half_way = float(sum(p for p, _ in bend[:3]) + sum(p for p, _ in bend[3:]) / 2)
        centre = path.pose(half_way, radius)[0][1]
        low, high = (angle, high) if centre > aside else (low, angle)
    return angle


def roundabout(
    profile: Profile, site: Site, entry: float, out: str, length: float
) -> tuple[Layout, Path]:
    """A roundabout of four arms with one lane; returns also the path of its ring.

    Args:
      profile: of the arms, one lane each way.
      site: where the route begins.
      entry: s of the yield line.
      out: "right", "straight" or "left".
      length: of the route behind the roundabout.
    """
    width, radius, flare = profile.width, 15.0, 13.0
    turn = {"right": -math.pi / 2, "straight": 0.0, "left": math.pi / 2}[out]
    angle = _entry_angle(radius, flare, width / 2)
    into = curve(-1.0 / flare, angle, _BLEND)
    around = curve(1.0 / radius, 2.0 * angle + turn, _BLEND)
    into_length, around_length = (sum(p for p, _ in bend) for bend in (into, around))
    pieces = [(entry, 0.0)] + into + around + into + [(length, 0.0)]
    route = build_path(pieces, start=-BACK, origin=site.origin, heading=site.heading)
    half_way = entry + into_length + around_length / 2
    centre = route.pose(half_way, radius)[0]
    x, y, heading = route.place(entry, profile.middle)
    gap = math.hypot(*(centre - np.array([x, y])))
    outer = radius + width / 2
    spans = ((-math.inf, -outer + 0.5), (outer - 0.5, math.inf))
    profile = dataclasses.replace(profile, shoulder=1.0)
    strips, lanes = [], []
    for k in range(2):
        ahead = CROSS_REACH + length
        back = max(BACK + entry + gap, k * ahead)
        arm = straight((float(centre[0]), float(centre[1]), heading + k * math.pi / 2), 9.0, 9.0)
        axis = straight(arm.place(0.0, -width / 2), back, ahead)
        for low, high in spans:
            bands = bands_of(profile, [(-outer - 3.0, outer + 3.0)], (low, high))
            strips.append(Strip(axis, bands))
            cut = (max(low, float(axis.s[0])), min(high, float(axis.s[-1])))
            cut = (cut[0], -outer - 3.0) if low < -outer else (outer + 3.0, cut[1])
            lanes += lanes_of(axis, profile, reach=cut)
    circle = ring((float(centre[0]), float(centre[1])), radius, heading - 0.6)
    half = LINE / 2
    ring_bands = (
        Band("asphalt", (-width / 2 - 1.2, width / 2 + 0.8)),
        Band("white", (width / 2 - half, width / 2 + half)),
        Band("white", (-width / 2 - half, -width / 2 + half), dash=(1.0, 2.0)),
    )
    exits = entry + 2.0 * into_length + around_length
    corner = Band("asphalt", (-width / 2 - 0.8, width / 2 + 0.5), (entry - 4.0, exits + 4.0))
    line = Band("white", (-width / 2, width / 2), (entry, entry + 0.4), (0.5, 1.0), across=True)
    strips = [Strip(route, (corner,)), *strips, Strip(circle, ring_bands), Strip(route, (line,))]
    around_ring = np.linspace(0.0, float(circle.s[-1]), 5)
    lanes += [Lane(circle.points(a, b), width, "NONE", "NONE")
              for a, b in zip(around_ring, around_ring[1:])]  # fmt: skip
    bends = [entry, entry + into_length, exits - into_length, exits]
    lanes += [Lane(route.points(a, b), width, "NONE", "NONE") for a, b in zip(bends, bends[1:])]
    bar = np.array([route.pose(entry, width / 2)[0], route.pose(entry, -width / 2)[0]])
    layout = Layout(
        route=route,
        width=width,
        edges=profile.edges,
        strips=tuple(strips),
        lanes=tuple(lanes),
        beside=_beside(profile, (-math.inf, entry)),
        junctions=((entry, exits),),
        stop_lines=(bar,),
    )
    return layout, circle
