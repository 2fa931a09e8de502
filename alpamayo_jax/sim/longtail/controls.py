"""Families about lights, signs, bumps and bends of the road."""

import dataclasses
import math

import numpy as np

from alpamayo_jax.sim import rules
from alpamayo_jax.sim.longtail import base
from alpamayo_jax.sim.longtail.base import Draft
from alpamayo_jax.sim.layouts import crossing_road, open_road, roundabout
from alpamayo_jax.sim.paths import Pieces, curve
from alpamayo_jax.sim.rules import LINE_GAP, stopping_distance
from alpamayo_jax.sim.seen import FRONT
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import Layout, Sign, Signal, World

_MAX_HEADING = 1.48  # within 85 degrees of its first heading a road cannot meet itself
_SIGN = 1.2  # metres from the edge of the road to a sign


def crossing(
    rng: np.random.Generator, style: Style, seconds: float, line: float, **options
) -> Layout:
    """A road with a crossing behind a stop line at s = `line`."""
    pieces = base.long_enough(base.straight_to(rng, line), style, seconds)
    return crossing_road(
        pieces, base.draw_profile(rng), base.draw_site(rng), line,
        skew=rng.uniform(-0.15, 0.15), **{"crosswalk": bool(rng.random() < 0.5), **options},
    )  # fmt: skip


def beside_road(layout: Layout, kind: str, s: float, line: float | None = None) -> Sign:
    """A sign on the right."""
    return Sign(kind, s, layout.edges[0] - _SIGN, line)


def red_light(rng: np.random.Generator, seconds: float) -> Draft:
    """A light that is red, or turns red, in time to stop; it may turn green again."""
    style = base.draw_style(rng)
    speed = style.set_speed * (1.0 if rng.random() < 0.5 else rng.uniform(0.7, 1.0))
    braking = stopping_distance(style.set_speed, style)
    onset = rng.uniform(1.0, 6.0)
    line = FRONT + style.set_speed * onset + braking + 1.0
    green = onset + 2.4 * braking / style.set_speed + rng.uniform(0.5, 6.0)
    phases = [(-10.0, "red"), (green, "green")]
    if rng.random() < 0.4:
        turns = max(onset * speed / style.set_speed - rng.uniform(1.2, 2.5), 0.3)
        phases = [(-10.0, "green"), (turns, "yellow"), (turns + 2.5, "red"), (green, "green")]
    return _light(rng, style, speed, seconds, line, tuple(phases), "green", "the light is red")


def start_at_light(rng: np.random.Generator, seconds: float) -> Draft:
    """The ego stands at a red light that turns green."""
    style = base.draw_style(rng)
    phases = ((-10.0, "red"), (rng.uniform(1.8, max(0.55 * seconds, 1.9)), "green"))
    words = "the light turns green"
    return _light(rng, style, 0.0, seconds, FRONT + LINE_GAP, phases, "red", words)


def green_light(rng: np.random.Generator, seconds: float) -> Draft:
    """The ego passes a crossing while its light is green."""
    style = base.draw_style(rng)
    line = style.set_speed * rng.uniform(4.0, 11.0)
    speed = style.set_speed * rng.uniform(0.8, 1.0)
    return _light(
        rng, style, speed, seconds, line, ((-10.0, "green"),), "red", "the light is green"
    )


def _light(rng, style, speed, seconds, line, phases, instead, words) -> Draft:
    layout = crossing(rng, style, seconds, line)
    world = World(layout, signal=Signal(line, phases))
    without = dataclasses.replace(world, signal=Signal(line, ((-10.0, instead),)))
    clear = ((line - 14.0, line + 32.0),)
    return Draft(world, without, style, speed, words, clear, traffic=False)


def stop_sign(rng: np.random.Generator, seconds: float) -> Draft:
    """A stop sign before a crossing."""
    style = base.draw_style(rng, 8.0, 14.0)
    line = FRONT + style.set_speed * rng.uniform(1.5, 5.0) + stopping_distance(
        style.set_speed, style
    )
    layout = crossing(rng, style, seconds, line)
    world = World(layout, signs=(beside_road(layout, "stop", line + 0.5, line),))
    return Draft(
        world, dataclasses.replace(world, signs=()), style, style.set_speed,
        "a stop sign stands at the crossing", ((line - 20.0, line + 30.0),), traffic=False,
    )  # fmt: skip


def speed_bump(rng: np.random.Generator, seconds: float) -> Draft:
    """A bump across the road, with a sign ahead of it."""
    style = base.draw_style(rng, 8.0, 13.0)
    braking = (style.set_speed**2 - rules.BUMP_SPEED**2) / (2.0 * style.brake)
    bump = FRONT + braking + style.set_speed * rng.uniform(2.5, max(0.4 * seconds, 2.6))
    pieces = base.long_enough(base.gentle(rng, style.set_speed), style, seconds)
    layout = open_road(pieces, base.draw_profile(rng), base.draw_site(rng))
    world = World(
        layout, bumps=(bump,), signs=(beside_road(layout, "bump", bump - 4.0),)
    )
    return Draft(
        world, dataclasses.replace(world, bumps=(), signs=()), style, style.set_speed,
        "a speed bump lies across the road", ((bump - 12.0, bump + 8.0),),
    )  # fmt: skip


def one_curve(rng: np.random.Generator, seconds: float) -> Draft:
    """Curves that need a lower speed, with straights between them."""
    return _curves(rng, seconds, connected=False)


def s_curve(rng: np.random.Generator, seconds: float) -> Draft:
    """Curves that swing back at once."""
    return _curves(rng, seconds, connected=True)


def _curves(rng: np.random.Generator, seconds: float, connected: bool) -> Draft:
    style = base.draw_style(rng)
    pieces = base.long_enough(_bends(rng, style, seconds, connected), style, seconds)
    profile, site = base.draw_profile(rng), base.draw_site(rng)
    layout = open_road(pieces, profile, site)
    world = World(layout)
    length = float(layout.route.s[-1])
    without = World(open_road([(length, 0.0)], profile, site))
    return Draft(world, without, style, style.set_speed, "the road bends")


def _bends(rng: np.random.Generator, style: Style, seconds: float, connected: bool) -> Pieces:
    """Straights and curves until the road is long enough; connected ones swing back at once."""
    first, heading, pieces = True, 0.0, []
    while sum(length for length, _ in pieces) < style.set_speed * seconds + base.VIEW:
        kappa = float(np.exp(rng.uniform(np.log(0.012), np.log(0.07))))
        if first:  # it asks for less than the set speed
            kappa = max(kappa, style.lateral / (0.8 * style.set_speed) ** 2)
        corner = float(np.sqrt(style.lateral / kappa))
        if first:
            braking = max(style.set_speed**2 - corner**2, 0.0) / (2 * style.brake)
            lead = style.set_speed * rng.uniform(1.0, 7.0) + braking
        else:
            lead = rng.uniform(15.0, 70.0)
        angle = min(rng.uniform(0.5, 1.4), 120.0 * kappa)
        side = base.sense(rng)
        for _ in range(2 if connected else 1):
            if abs(heading + side * angle) > _MAX_HEADING:
                side = -side
            pieces += [(lead, 0.0)] + curve(side * kappa, angle, 1.6 * corner)
            heading += side * angle
            lead, side = 1.0, -side
        first = False
    return pieces


def turn(rng: np.random.Generator, seconds: float) -> Draft:
    """The route turns off at a crossing."""
    style = base.draw_style(rng, 8.0, 12.0)
    side = "left" if rng.random() < 0.5 else "right"
    line = style.set_speed * rng.uniform(3.0, max(0.35 * seconds, 3.1))
    profile, site = base.draw_profile(rng), base.draw_site(rng)
    room = style.set_speed * seconds + base.VIEW
    options = dict(skew=rng.uniform(-0.12, 0.12), crosswalk=False)
    pieces = [(line + room, 0.0)]
    layout = crossing_road(pieces, profile, site, line, turn=side, room=room, **options)
    world = World(layout)
    without = World(crossing_road(pieces, profile, site, line, **options))
    return Draft(
        world, without, style, style.set_speed, f"the route turns {side} at the junction",
        ((line - 14.0, line + 40.0),), traffic=False,
    )  # fmt: skip


def circle(rng: np.random.Generator, seconds: float) -> Draft:
    """A roundabout in which a car has the right of way."""
    style = base.draw_style(rng, 8.0, 12.0)
    entry = style.set_speed * rng.uniform(2.5, max(0.3 * seconds, 2.6)) + 15.0
    out = ("right", "straight", "left")[int(rng.choice(3, p=[0.2, 0.45, 0.35]))]
    profile = base.draw_profile(rng, dashed=True)
    room = style.set_speed * seconds + base.VIEW
    layout, path = roundabout(profile, base.draw_site(rng), entry, out, room)
    nominal = base.alone(layout, style, style.set_speed, seconds)
    # Where the ego comes onto the ring: its path is the ring's there.
    joins = next(
        s for s in np.arange(entry, entry + 60.0, 0.5)
        if float(path.distance(layout.route.pose(s)[0])) < 0.7
    )  # fmt: skip
    comes = base.arrival(nominal, joins - FRONT) + rng.uniform(-0.6, 0.4)
    meets = float(path.locate(layout.route.pose(joins)[0])[0])
    fast = rng.uniform(5.0, 6.5)
    start = meets - fast * comes
    if start < 5.0:
        start = 5.0
        fast = min(max((meets - start) / comes, 2.5), 6.5)
    other = base.car(rng, path, start, 0.0, speed=fast)
    signs = (beside_road(layout, "yield", entry - 1.0),)
    world = World(layout, (other,), signs=signs)
    return Draft(
        world, dataclasses.replace(world, actors=()), style, style.set_speed,
        "a car comes around in the roundabout", ((entry - 20.0, math.inf),), traffic=False,
    )  # fmt: skip
