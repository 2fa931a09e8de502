"""Families about who crosses the ego's path, or could."""

import dataclasses

import numpy as np

from alpamayo_jax.sim.longtail import base
from alpamayo_jax.sim.longtail.base import Draft
from alpamayo_jax.sim.longtail.controls import beside_road, crossing
from alpamayo_jax.sim.layouts import open_road
from alpamayo_jax.sim.seen import FRONT
from alpamayo_jax.sim.world import Actor, Layout, Signal, SpeedChange, World

_KERB = 0.7  # metres from the edge of the asphalt to someone who waits there


def _kerb(layout: Layout, side: float) -> float:
    """Metres from the route to someone who waits on `side` (1: left)."""
    return _KERB + (layout.edges[1] if side > 0 else -layout.edges[0])


def _walker(
    rng: np.random.Generator, layout: Layout, s: float, side: float, starts: float | None
) -> Actor:
    """Someone at the kerb who starts to cross at a time, or never."""
    path = base.across(layout, s, side)
    changes = ()
    if starts is not None:
        changes = (SpeedChange(starts, rng.uniform(1.25, 1.6), 2.0),)
    return base.person(rng, path, -_kerb(layout, side), 0.0, speed=0.0, changes=changes)


def pedestrian_crosses(rng: np.random.Generator, seconds: float) -> Draft:
    """Someone steps onto a crosswalk in front of the ego."""
    style = base.draw_style(rng, 8.0, 12.5)
    walk = FRONT + style.set_speed * rng.uniform(5.5, max(0.42 * seconds, 5.6))
    pieces = base.long_enough(base.gentle(rng, style.set_speed, walk - 20.0), style, seconds)
    layout = open_road(pieces, base.draw_profile(rng), base.draw_site(rng), walk)
    nominal = base.alone(layout, style, style.set_speed, seconds)
    starts = base.arrival(nominal, walk - FRONT) - rng.uniform(4.5, 5.6)
    walker = _walker(rng, layout, walk, base.sense(rng), max(starts, 0.5))
    signs = (beside_road(layout, "crosswalk", walk - 2.5),)
    world = World(layout, (walker,), signs=signs)
    return Draft(
        world, dataclasses.replace(world, actors=()), style, style.set_speed,
        "a pedestrian crosses", ((walk - 22.0, walk + 8.0),),
    )  # fmt: skip


def cyclist_crosses(rng: np.random.Generator, seconds: float) -> Draft:
    """Someone on a bicycle comes across the road."""
    style = base.draw_style(rng, 8.0, 12.5)
    place = FRONT + style.set_speed * rng.uniform(5.5, max(0.42 * seconds, 5.6))
    pieces = base.long_enough(base.gentle(rng, style.set_speed, place - 20.0), style, seconds)
    layout = open_road(pieces, base.draw_profile(rng), base.draw_site(rng))
    nominal = base.alone(layout, style, style.set_speed, seconds)
    meets = base.arrival(nominal, place - FRONT) + rng.uniform(-0.5, 0.5)
    side, speed = base.sense(rng), rng.uniform(2.6, 3.8)
    path = base.across(layout, place, side, reach=60.0)
    rider = base.cyclist(rng, path, -speed * meets, 0.0, speed=speed)
    if rider.s < path.s[0] + 2.0:
        late = (rider.s - float(path.s[0]) - 2.0) / -speed
        rider = dataclasses.replace(
            rider, s=float(path.s[0]) + 2.0, speed=0.0,
            changes=(SpeedChange(max(late - speed / 3.0, 0.1), speed, 1.5),),
        )  # fmt: skip
    world = World(layout, (rider,))
    return Draft(
        world, dataclasses.replace(world, actors=()), style, style.set_speed,
        "a cyclist crosses", ((place - 25.0, place + 12.0),),
    )  # fmt: skip


def pedestrian_waits(rng: np.random.Generator, seconds: float) -> Draft:
    """Someone waits to cross while the ego has a green light."""
    style = base.draw_style(rng, 8.0, 12.5)
    line = FRONT + style.set_speed * rng.uniform(5.0, max(0.4 * seconds, 5.1))
    layout = crossing(rng, style, seconds, line, crosswalk=True)
    walk = float(layout.route.locate(layout.crosswalks[0].mean(0))[0])
    nominal = base.alone(layout, style, style.set_speed, seconds)
    starts = base.arrival(nominal, walk - FRONT) - rng.uniform(4.5, 5.6)
    side, seed = base.sense(rng), int(rng.integers(2**31))
    waits, walks = (
        _walker(np.random.default_rng(seed), layout, walk, side, at)
        for at in (None, max(starts, 0.5))
    )
    world = World(layout, (waits,), signal=Signal(line, ((-10.0, "green"),)))
    return Draft(
        world, dataclasses.replace(world, actors=(walks,)), style, style.set_speed,
        "the pedestrian waits at the kerb", ((line - 14.0, line + 32.0),), traffic=False,
    )  # fmt: skip


def runs_light(rng: np.random.Generator, seconds: float) -> Draft:
    """A car comes across a crossing although the ego's light is green."""
    style = base.draw_style(rng, 9.0, 13.0)
    line = FRONT + style.set_speed * rng.uniform(4.5, max(0.4 * seconds, 4.6))
    layout = crossing(rng, style, seconds, line, crosswalk=bool(rng.random() < 0.3))
    path, width = layout.strips[0].path, layout.width
    # The crossing road's path is its lane to the left; the other lane lies to the left of that.
    direction = 1 if rng.random() < 0.5 else -1
    d = 0.0 if direction > 0 else width
    x, _, _ = path.pose(np.arange(-30.0, 30.0, 0.25), d)
    place = float(np.arange(-30.0, 30.0, 0.25)[int(np.argmin(layout.route.distance(x)))])
    at = float(layout.route.locate(path.pose(place, d)[0])[0])
    nominal = base.alone(layout, style, style.set_speed, seconds)
    meets = base.arrival(nominal, at - FRONT / 2) + rng.uniform(-0.2, 0.6)
    speed = rng.uniform(8.0, 10.5)
    other = base.car(rng, path, place - direction * speed * meets, d,
                     direction=direction, speed=speed)  # fmt: skip
    world = World(layout, (other,), signal=Signal(line, ((-10.0, "green"),)))
    return Draft(
        world, dataclasses.replace(world, actors=()), style, style.set_speed,
        "a car runs the red light", ((line - 14.0, line + 32.0),), traffic=False,
    )  # fmt: skip
