"""The map of a procedural world as polylines, the way recorded maps come."""

import numpy as np

from alpamayo_jax.clip import MapLines
from alpamayo_jax.sim.world import Layout

_SPACING = 2.0  # metres between points


def map_lines(layout: Layout) -> MapLines:
    """Lanes, crosswalks, stop lines and drivable areas of a layout.

    A lane is a pair of boundaries `lane_left:MARK` and `lane_right:MARK` and a `lane_centre`, a
    crosswalk a pair of `ped_crossing_edge1` and `ped_crossing_edge2`; lines of one thing share an
    id.
    """
    lines: list[tuple[str, str, np.ndarray]] = []
    for i, lane in enumerate(layout.lanes):
        normal = _normals(lane.centre) * lane.width / 2
        name = f"lane {i}"
        lines += [
            (f"lane_left:{lane.left}", name, lane.centre + normal),
            (f"lane_right:{lane.right}", name, lane.centre - normal),
            ("lane_centre", name, lane.centre),
        ]
    for i, quad in enumerate(layout.crosswalks):
        lines.append(("ped_crossing_edge1", f"crosswalk {i}", quad[:2]))
        lines.append(("ped_crossing_edge2", f"crosswalk {i}", quad[[3, 2]]))
    for i, line in enumerate(layout.stop_lines):
        lines.append(("stop_line", f"stop line {i}", line))
    for i, area in enumerate(drivable_areas(layout)):
        lines.append(("drivable_area", f"area {i}", area))
    offsets = np.cumsum([0] + [len(points) for _, _, points in lines])
    return MapLines(
        points=np.pad(np.concatenate([points for _, _, points in lines]), ((0, 0), (0, 1))),
        offsets=offsets.astype(np.int64),
        kind=np.array([kind for kind, _, _ in lines]),
        ids=np.array([name for _, name, _ in lines]),
    )


def drivable_areas(layout: Layout) -> list[np.ndarray]:
    """The asphalt as polygons [P, 2]; a ring is cut into four."""
    areas = []
    for strip in layout.strips:
        for (begin, end), (right, left) in strip.asphalt:
            parts = 4 if strip.path.closed else 1
            cuts = np.linspace(begin, end, parts + 1)
            for low, high in zip(cuts, cuts[1:]):
                one = strip.path.points(low, high, right, _SPACING)
                other = strip.path.points(low, high, left, _SPACING)
                areas.append(np.concatenate([one, other[::-1]]))
    return areas


def _normals(line: np.ndarray) -> np.ndarray:
    """Unit vectors [P, 2] to the left of a line at its points."""
    step = np.gradient(line, axis=0)
    normal = np.stack([-step[:, 1], step[:, 0]], -1)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
