"""What stands beside the road and never moves: trees, posts, signs, boards, poles of lights."""

import numpy as np

from alpamayo_jax.sim.parts import part, placed, table
from alpamayo_jax.sim.world import Layout, Sign, World

LIGHT_AHEAD = 16.0  # metres from the stop line to the traffic light
HEAD_HEIGHT = 5.2  # metres, middle of the traffic light
LENSES = {
    "red": (0.75, (255.0, 40.0, 30.0)),
    "yellow": (0.0, (255.0, 200.0, 40.0)),
    "green": (-0.75, (60.0, 255.0, 130.0)),
}  # height above the middle of the head, metres, and colour
_SHARP = 0.018  # 1/m, curvature from which a curve has chevron boards
_WHITE, _BLACK, _GREY, _BARK = (235, 235, 235), (24, 24, 24), (88, 92, 96), (82, 64, 48)
_YELLOW, _RED, _ORANGE = (246, 198, 30), (206, 24, 30), (250, 120, 20)

Place = tuple[float, float, float]


def roadside(world: World) -> np.ndarray:
    """Rows of `parts`, in the world; drawn from `world.look`, and none of it on the road."""
    layout, rng = world.layout, np.random.default_rng([world.look, 6])
    found = _trees(layout, rng) + _boards(layout) + _posts(layout)
    found += [placed(_sign(sign), layout.route.place(sign.s, sign.d)) for sign in world.signs]
    if world.signal is not None:
        found.append(placed(_poles(layout), signal_place(world)))
    for island in _islands(layout):
        found.append(island)
    return np.concatenate(found) if found else table([])


def signal_place(world: World) -> Place:
    """x, y, heading below the head of the traffic light."""
    return world.layout.route.place(world.signal.s + LIGHT_AHEAD)


def lamps(colour: str) -> np.ndarray:
    """The lenses of a traffic light that shows `colour`, in the frame of `signal_place`."""
    rows = []
    for name, (height, shine) in LENSES.items():
        lit = name == colour
        rows.append(part((-0.05, 0.0, HEAD_HEIGHT + height), (0.3, 0.62, 0.62),
                         shine if lit else (38, 36, 34), glow=lit, ball=True))  # fmt: skip
    return table(rows)


def clearance(layout: Layout, xy: np.ndarray) -> np.ndarray:
    """Metres [...] from points xy [..., 2] to the asphalt; negative on it."""
    best = np.full(xy.shape[:-1], np.inf)
    for strip in layout.strips:
        s, d = strip.path.locate(xy)
        for (low, high), (right, left) in strip.asphalt:
            beside = np.maximum(right - d, d - left)
            ahead = np.maximum(low - s, s - high)
            best = np.minimum(best, np.where(ahead > 0.1, np.maximum(beside, ahead), beside))
    return best


def _trees(layout: Layout, rng: np.random.Generator) -> list[np.ndarray]:
    route = layout.route
    places, sizes = [], []
    s = float(route.s[0]) + 5.0
    while s < route.s[-1] - 5.0:
        for side in (0, 1):
            d = layout.edges[side] + (2 * side - 1) * rng.uniform(3.0, 16.0)
            size = rng.uniform(4.0, 9.0), rng.uniform(0.5, 0.8), rng.uniform(0.75, 1.2)
            if rng.random() < 0.75:
                places.append(route.place(s + rng.uniform(0.0, 12.0), d))
                sizes.append(size)
            else:
                rng.uniform()
        s += rng.uniform(10.0, 28.0)
    if not places:
        return []
    free = clearance(layout, np.array(places)[:, :2])
    rows = []
    for place, (height, girth, green), room in zip(places, sizes, free):
        if room < 1.6 + girth * height / 2:
            continue
        size = (girth * height, girth * height, 0.75 * height)
        leaf = tuple(green * np.array([62.0, 92.0, 44.0]))
        tree = [
            part((0, 0, 0.2 * height), (0.35, 0.35, 0.4 * height), _BARK),
            part((0, 0, 0.62 * height), size, leaf, ball=True),
        ]
        rows.append(placed(table(tree), place))
    return rows


def _posts(layout: Layout) -> list[np.ndarray]:
    route = layout.route
    at = np.arange(route.s[0] + 5.0, route.s[-1], 25.0)
    places = [route.place(float(s), d) for s in at
              for d in (layout.edges[0] - 0.4, layout.edges[1] + 0.4)]  # fmt: skip
    free = clearance(layout, np.array(places)[:, :2])
    post = table([
        part((0, 0, 0.5), (0.14, 0.14, 1.0), _WHITE),
        part((0, 0, 0.82), (0.16, 0.16, 0.2), _BLACK),
    ])  # fmt: skip
    return [placed(post, place) for place, room in zip(places, free) if room > 0.25]


def _boards(layout: Layout) -> list[np.ndarray]:
    """Yellow boards on the outside of sharp curves, turned towards who comes along the lane."""
    route, places = layout.route, []
    for s in np.arange(route.s[0], route.s[-1], 7.0):
        kappa = float(np.interp(s, route.s, route.kappa))
        if abs(kappa) < _SHARP or any(a - 8.0 < s < b + 8.0 for a, b in layout.junctions):
            continue
        d = layout.edges[0] - 1.0 if kappa > 0 else layout.edges[1] + 1.0
        x, y, _ = route.place(float(s), d)
        places.append((x, y, float(route.pose(s - 14.0)[1])))
    if not places:
        return []
    free = clearance(layout, np.array(places)[:, :2])
    board = table([
        part((0, 0, 1.35), (0.08, 1.5, 0.9), _YELLOW),
        part((-0.03, 0, 1.35), (0.08, 0.4, 0.9), _BLACK),
        part((0.02, 0, 0.45), (0.1, 0.1, 0.9), _GREY),
    ])  # fmt: skip
    return [placed(board, place) for place, room in zip(places, free) if room > 0.4]


def _sign(sign: Sign) -> np.ndarray:
    """A sign that faces who comes along the route."""
    high, big = 2.3, 0.95
    pole = part((0.06, 0, high / 2), (0.09, 0.09, high), _GREY)

    def plate(depth: float, size: float, colour, outline: str) -> list[float]:
        return part((-depth, 0, high), (0.05, size, size), colour, outline=outline)

    rows = {
        "stop": [
            plate(0.0, big, _WHITE, "octagon"),
            plate(0.04, 0.88 * big, _RED, "octagon"),
            part((-0.08, 0, high), (0.05, 0.62 * big, 0.2 * big), _WHITE),
        ],
        "yield": [
            plate(0.0, 1.1 * big, _RED, "down"),
            plate(0.04, 0.66 * big, _WHITE, "down"),
        ],
        "bump": [
            plate(0.0, 1.1 * big, _BLACK, "diamond"),
            plate(0.04, big, _YELLOW, "diamond"),
            part((-0.08, 0, high - 0.06), (0.05, 0.5 * big, 0.22 * big), _BLACK, ball=True),
        ],
        "construction": [
            plate(0.0, 1.15 * big, _BLACK, "diamond"),
            plate(0.04, 1.05 * big, _ORANGE, "diamond"),
            part((-0.08, 0, high), (0.05, 0.1 * big, 0.5 * big), _BLACK),
        ],
        "crosswalk": [
            plate(0.0, big, (28, 80, 200), "none"),
            plate(0.04, 0.8 * big, _WHITE, "up"),
            part((-0.08, 0, high - 0.08), (0.05, 0.12 * big, 0.4 * big), _BLACK),
            part((-0.08, 0, high + 0.17), (0.05, 0.16 * big, 0.16 * big), _BLACK, ball=True),
        ],
    }  # fmt: skip
    return table([pole, *rows[sign.kind]])


def _poles(layout: Layout) -> np.ndarray:
    side = layout.edges[0] - 0.6
    return table([
        part((0.3, side, 3.1), (0.25, 0.25, 6.2), _GREY),
        part((0.3, side / 2, 6.0), (0.16, -side + 0.3, 0.16), _GREY),
        part((0.1, 0, HEAD_HEIGHT), (0.12, 1.25, 2.7), (14, 14, 15)),
    ])  # fmt: skip


def _islands(layout: Layout) -> list[np.ndarray]:
    """A green mound inside every ring."""
    mounds = []
    for strip in layout.strips:
        path = strip.path
        if not path.closed:
            continue
        centre = (path.xy.max(0) + path.xy.min(0)) / 2
        inner = 2.0 * (float(path.s[-1]) / (2 * np.pi) - max(d[1] for _, d in strip.asphalt))
        size = (inner - 1.0, inner - 1.0, 2.4)
        rows = [part((0, 0, 0), size, (84, 118, 56), ball=True)]
        rows.append(part((0, 0, 0.1), (inner + 0.3, inner + 0.3, 0.24), (150, 147, 140), ball=True))
        mounds.append(placed(table(rows), (float(centre[0]), float(centre[1]), 0.0)))
    return mounds
