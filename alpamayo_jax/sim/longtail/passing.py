"""Families about what stands in the lane and is passed: cars, cyclists, cones."""

import dataclasses

import numpy as np

from alpamayo_jax.sim.longtail import base
from alpamayo_jax.sim.longtail.base import Draft
from alpamayo_jax.sim.longtail.controls import beside_road
from alpamayo_jax.sim.layouts import open_road
from alpamayo_jax.sim.seen import FRONT
from alpamayo_jax.sim.world import Actor, Kind, Layout, World


def _road(rng: np.random.Generator, seconds: float, low: float, high: float):
    """(style, layout, s of what has to be passed)."""
    style = base.draw_style(rng, low, high)
    pieces = base.long_enough(base.gentle(rng, 1.3 * style.set_speed), style, seconds)
    layout = open_road(pieces, base.draw_profile(rng, dashed=True), base.draw_site(rng))
    place = FRONT + style.set_speed * rng.uniform(5.5, max(0.45 * seconds, 5.6))
    return style, layout, place


def nudge(rng: np.random.Generator, seconds: float) -> Draft:
    """A car parked partly in the lane; the ego stays in it, or leaves it where it has to."""
    style, layout, place = _road(rng, seconds, 8.0, 12.0)
    parked = base.car(rng, layout.route, place, 0.0)
    if rng.random() < 0.5:
        inner = rng.uniform(-1.35, -1.15)  # of its side that is nearer to the ego
        parked = dataclasses.replace(parked, d=inner - parked.lwh[1] / 2)
    else:
        parked = dataclasses.replace(parked, d=rng.uniform(-1.25, -1.05))
    return _draft(style, layout, (parked,), "a parked car is in the way")


def pass_cyclist(rng: np.random.Generator, seconds: float) -> Draft:
    """A slow cyclist ahead, on the right of the lane."""
    style, layout, place = _road(rng, seconds, 8.0, 11.0)
    speed = rng.uniform(2.4, 3.3)
    rider = base.cyclist(rng, layout.route, 0.8 * place, rng.uniform(-1.35, -1.05), speed=speed)
    return _draft(style, layout, (rider,), "a slow cyclist is ahead")


def nudge_blocked(rng: np.random.Generator, seconds: float) -> Draft:
    """A car parked in the lane, and oncoming traffic that leaves no room to pass it yet."""
    style, layout, place = _road(rng, seconds, 8.0, 11.0)
    parked = base.car(rng, layout.route, place, rng.uniform(-1.2, -1.0))
    nominal = base.alone(layout, style, style.set_speed, seconds)
    meets = base.arrival(nominal, place - FRONT)
    speed, coming = rng.uniform(7.5, 9.5), []
    s = place + speed * (meets + rng.uniform(-0.5, 0.8))
    for _ in range(int(rng.integers(1, 4))):
        coming.append(base.car(rng, layout.route, s, layout.width, direction=-1, speed=speed))
        s += rng.uniform(14.0, 24.0)
    draft = _draft(style, layout, (parked, *coming), "oncoming traffic leaves no room to pass")
    return dataclasses.replace(draft, without=dataclasses.replace(draft.world, actors=(parked,)))


def construction(rng: np.random.Generator, seconds: float) -> Draft:
    """Cones that close a part of the lane, and a barrier behind them."""
    style, layout, place = _road(rng, seconds, 8.0, 12.0)
    inner = rng.uniform(-0.9, -0.1)  # d of the cones along the closed part
    edge = layout.edges[0] + 0.5
    taper, length = rng.uniform(12.0, 18.0), rng.uniform(10.0, 24.0)
    at = np.arange(0.0, taper + length + 0.1, 3.2)
    cones = [
        _cone(layout, place + s, edge + (inner - edge) * min(s / taper, 1.0)) for s in at
    ]
    behind = Actor(
        Kind.BARRIER, layout.route, place + taper + 3.0, (inner + edge) / 2 - 0.25,
        lwh=(0.45, abs(inner - edge) - 0.7, 1.05), colour=(0.9, 0.35, 0.1),
    )  # fmt: skip
    draft = _draft(style, layout, (*cones, behind), "cones close a part of the lane")
    signs = (beside_road(layout, "construction", place - 18.0),)
    return dataclasses.replace(draft, world=dataclasses.replace(draft.world, signs=signs))


def _cone(layout: Layout, s: float, d: float) -> Actor:
    return Actor(Kind.CONE, layout.route, s, d, lwh=(0.36, 0.36, 0.75), colour=(0.95, 0.4, 0.1))


def _draft(style, layout: Layout, actors: tuple[Actor, ...], words: str) -> Draft:
    low = min(actor.s for actor in actors[:1]) - 35.0
    high = max(actor.s for actor in actors if actor.direction > 0) + 35.0
    if actors[0].speed:
        high += 400.0
    world = World(layout, actors)
    return Draft(
        world, World(layout), style, style.set_speed, words, ((low, high),), traffic=False
    )
