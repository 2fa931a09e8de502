"""Solids: boxes and ellipsoids, some cut to the outline of a sign, as rows of one table.

Columns: centre x, y, z; yaw; size x, y, z (full extents, metres); red, green, blue (0 to 255);
glow (1: full colour whatever the light); shape (`BOX` or `ROUND`); outline, one of `OUTLINES`.
"""

import numpy as np

BOX, ROUND = 0.0, 1.0
OUTLINES = ("none", "octagon", "diamond", "disc", "down", "up")
COLUMNS = 13
CENTRE, YAW, SIZE, COLOUR = slice(0, 3), 3, slice(4, 7), slice(7, 10)
GLOW, SHAPE, OUTLINE = 10, 11, 12

Offset = tuple[float, float, float]


def part(
    offset: Offset,
    size: Offset,
    colour: Offset,
    *,
    glow: bool = False,
    ball: bool = False,
    outline: str = "none",
) -> list[float]:
    """A row: a solid at `offset` in the frame of its object."""
    return [*offset, 0.0, *size, *colour, float(glow), ROUND if ball else BOX,
            float(OUTLINES.index(outline))]  # fmt: skip


def table(rows: list[list[float]]) -> np.ndarray:
    """float64 [N, COLUMNS]."""
    return np.array(rows, np.float64).reshape(-1, COLUMNS)


def placed(rows: np.ndarray, place: tuple[float, float, float]) -> np.ndarray:
    """The rows of an object that stands at place (x, y, heading), in the world."""
    x, y, heading = place
    cos, sin = np.cos(heading), np.sin(heading)
    out = rows.copy()
    out[:, 0] = x + cos * rows[:, 0] - sin * rows[:, 1]
    out[:, 1] = y + sin * rows[:, 0] + cos * rows[:, 1]
    out[:, YAW] += heading
    return out
