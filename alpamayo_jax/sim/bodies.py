"""What road users look like, as parts: cars, people, cyclists, cones, barriers.

Object frame: x forward, y left, z up, origin on the ground below the middle of its box.
"""

import dataclasses

import numpy as np

from alpamayo_jax.sim.parts import COLOUR, GLOW, part, placed, table
from alpamayo_jax.sim.world import Actor, Kind

BRAKE, AMBER = (255.0, 36.0, 24.0), (255.0, 160.0, 20.0)
_TAIL_OFF, _AMBER_OFF = (120.0, 10.0, 10.0), (150.0, 84.0, 20.0)
_GLASS, _TYRE, _SHADOW = (30, 36, 44), (18, 18, 19), (26, 26, 28)
_SKIN, _TROUSERS = (222, 176, 142), (44, 48, 70)
_STRIDE = 0.75  # metres of a step

Lamp = tuple[float, float, float]  # x, y, z in the object frame


@dataclasses.dataclass(frozen=True, eq=False)
class Body:
    """An actor's parts.

    Attributes:
      rows: float64 [P, COLUMNS], at rest.
      brakes, left, right: numbers of the rows that are its lamps.
      legs: numbers of the rows that swing as it walks, or pedals.
    """

    rows: np.ndarray
    brakes: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    right: tuple[int, ...] = ()
    legs: tuple[int, ...] = ()


def body_of(actor: Actor) -> Body:
    """The parts of an actor."""
    if actor.kind.vehicle:
        return _vehicle(actor)
    if actor.kind is Kind.PEDESTRIAN:
        return _person(actor)
    if actor.kind is Kind.CYCLIST:
        return _cyclist(actor)
    return _cone(actor) if actor.kind is Kind.CONE else _barrier(actor)


def posed(
    body: Body, place: tuple[float, float, float], gone: float, braking: bool, blinks: int
) -> tuple[np.ndarray, list[tuple[np.ndarray, tuple[float, float, float]]]]:
    """The rows of a body in the world, and its lit lamps as (centre [3], colour).

    Args:
      body: its parts.
      place: x, y, heading.
      gone: metres it has moved, for its legs.
      braking: whether its brake lamps are on.
      blinks: 1 where its left signal is lit, -1 its right one, else 0.
    """
    rows = placed(body.rows, place)
    lit = [(k, BRAKE) for k in body.brakes] if braking else []
    lit += [(k, AMBER) for k in (body.left if blinks > 0 else body.right)] if blinks else []
    for k, colour in lit:
        rows[k, COLOUR], rows[k, GLOW] = colour, 1.0
    swing = 0.22 * np.sin(np.pi * gone / _STRIDE)
    for sign, k in zip((1.0, -1.0), body.legs):
        rows[k, 0] += sign * swing * np.cos(place[2])
        rows[k, 1] += sign * swing * np.sin(place[2])
    return rows, [(rows[k, :3], colour) for k, colour in lit]


def _vehicle(actor: Actor) -> Body:
    length, width, height = actor.lwh
    paint = tuple(255.0 * np.asarray(actor.colour))
    if actor.kind in (Kind.TRUCK, Kind.BUS):
        rows, belt = _truck(length, width, height, paint), 1.15
    else:
        rows, belt = _car(length, width, height, paint, actor.kind is Kind.VAN)
    first = len(rows)
    for side in (-1, 1):
        lamp = side * (width / 2 - 0.24)
        rows.append(part((-length / 2, lamp, belt - 0.16), (0.06, 0.44, 0.26), _TAIL_OFF))
    for side in (-1, 1):
        outer = side * (width / 2 - 0.06)
        for end in (-length / 2, length / 2):
            place = (end, outer, belt - (0.38 if end < 0 else 0.05))
            rows.append(part(place, (0.08, 0.2, 0.14), _AMBER_OFF))
        rows.append(part((length / 2, side * (width / 2 - 0.24), belt - 0.2), (0.06, 0.4, 0.2),
                         (250, 248, 225), glow=True))  # fmt: skip
    return Body(
        rows=table(rows),
        brakes=(first, first + 1),
        right=(first + 2, first + 3),
        left=(first + 5, first + 6),
    )


def _wheels(length: float, width: float, radius: float) -> list[list[float]]:
    return [
        part((end * length, side * (width / 2 - 0.1), radius),
             (2 * radius, 0.26, 2 * radius), _TYRE, ball=True)
        for side in (-1, 1)
        for end in (-0.31, 0.31)
    ]  # fmt: skip


def _car(length, width, height, paint, van: bool) -> tuple[list[list[float]], float]:
    belt = 0.3 + (0.5 if van else 0.42) * height  # where the glass begins
    glass, back = height - 0.08 - belt, -0.02 * length if van else -0.08 * length
    cabin = 0.86 if van else 0.62
    rows = [
        part((0, 0, 0.02), (length + 0.5, width + 0.4, 0.02), _SHADOW),
        part((0, 0, (0.3 + belt) / 2), (length, width, belt - 0.3), paint),
        part((back, 0, belt + glass / 2), (cabin * length, 0.86 * width, glass), _GLASS),
        part((back, 0, height - 0.04), ((cabin - 0.06) * length, 0.84 * width, 0.08), paint),
        part((-length / 2, 0, 0.55), (0.04, 0.5, 0.14), (225, 225, 215)),
    ]
    return rows + _wheels(length, width, 0.33), belt


def _truck(length, width, height, paint) -> list[list[float]]:
    cab = 1.9
    rows = [
        part((0, 0, 0.02), (length + 0.5, width + 0.4, 0.02), _SHADOW),
        part((-cab / 2, 0, (height + 0.95) / 2), (length - cab, width, height - 0.95),
             (205, 205, 200)),
        part((0, 0, 0.75), (length, 0.92 * width, 0.5), (52, 54, 58)),
        part((length / 2 - cab / 2, 0, 0.5 + 0.4 * height), (cab, 0.94 * width, 0.76 * height),
             paint),
        part((length / 2 - 0.25, 0, 0.62 * height), (0.6, 0.88 * width, 0.24 * height), _GLASS),
    ]  # fmt: skip
    return rows + _wheels(length, width, 0.45)


def _person(actor: Actor) -> Body:
    height, shirt = actor.lwh[2], tuple(255.0 * np.asarray(actor.colour))
    hip, neck = 0.5 * height, 0.84 * height
    rows = [
        part((0, 0, 0.015), (0.55, 0.55, 0.02), _SHADOW),
        part((0, 0.1, hip / 2), (0.2, 0.18, hip), _TROUSERS),
        part((0, -0.1, hip / 2), (0.2, 0.18, hip), _TROUSERS),
        part((0, 0, (hip + neck) / 2), (0.3, 0.52, neck - hip), shirt),
        part((0, 0.31, (hip + neck) / 2 - 0.05), (0.16, 0.12, 0.9 * (neck - hip)), shirt),
        part((0, -0.31, (hip + neck) / 2 - 0.05), (0.16, 0.12, 0.9 * (neck - hip)), shirt),
        part((0, 0, 0.92 * height), (0.27, 0.25, 0.17 * height), _SKIN, ball=True),
        part((-0.03, 0, 0.97 * height), (0.27, 0.26, 0.09 * height), (58, 42, 32), ball=True),
    ]
    return Body(table(rows), legs=(1, 2))


def _cyclist(actor: Actor) -> Body:
    length, _, height = actor.lwh
    shirt = tuple(255.0 * np.asarray(actor.colour))
    axle = length / 2 - 0.35
    rows = [
        part((0, 0, 0.015), (length, 0.5, 0.02), _SHADOW),
        part((0.05, 0.11, 0.55), (0.16, 0.14, 0.7), _TROUSERS),
        part((0.05, -0.11, 0.55), (0.16, 0.14, 0.7), _TROUSERS),
        part((axle, 0, 0.35), (0.7, 0.07, 0.7), _TYRE, ball=True),
        part((-axle, 0, 0.35), (0.7, 0.07, 0.7), _TYRE, ball=True),
        part((0, 0, 0.62), (2 * axle, 0.07, 0.12), (190, 40, 40)),
        part((axle - 0.12, 0, 0.98), (0.1, 0.55, 0.07), (40, 40, 42)),
        part((-0.05, 0, 0.66 * height), (0.42, 0.42, 0.34 * height), shirt),
        part((0.2, 0, 0.64 * height), (0.4, 0.4, 0.12), shirt),
        part((0.12, 0, 0.92 * height), (0.26, 0.24, 0.16 * height), _SKIN, ball=True),
        part((0.1, 0, 0.965 * height), (0.32, 0.28, 0.1 * height), (235, 235, 235), ball=True),
    ]
    return Body(table(rows), legs=(1, 2))


def _cone(actor: Actor) -> Body:
    width, height = actor.lwh[0], actor.lwh[2]
    orange, white = (250, 96, 20), (240, 240, 238)
    rows = [part((0, 0, 0.03), (width, width, 0.06), (40, 34, 32))]
    for low, high, share, colour in (
        (0.06, 0.36, 0.78, orange), (0.36, 0.58, 0.58, white), (0.58, 0.82, 0.42, orange),
        (0.82, 1.0, 0.24, orange),
    ):  # fmt: skip
        size = (share * width, share * width, (high - low) * height)
        rows.append(part((0, 0, (low + high) / 2 * height), size, colour))
    return Body(table(rows))


def _barrier(actor: Actor) -> Body:
    depth, width, height = actor.lwh
    rows = [part((0, side * 0.42 * width, 0.3 * height), (depth, 0.12, 0.6 * height), (70, 70, 72))
            for side in (-1, 1)]  # fmt: skip
    count = max(int(width / 0.4), 2)
    for i in range(count):
        colour = (224, 40, 32) if i % 2 == 0 else (240, 240, 236)
        y = (i + 0.5) / count * width - width / 2
        rows.append(part((0, y, 0.78 * height), (0.06, width / count, 0.42 * height), colour))
    return Body(table(rows))
