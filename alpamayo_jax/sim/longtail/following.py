"""Families about who is ahead, comes into the lane, or is in the lane beside."""

import dataclasses

import numpy as np

from alpamayo_jax.sim.longtail import base
from alpamayo_jax.sim.longtail.base import Draft
from alpamayo_jax.sim.layouts import merging_road, open_road
from alpamayo_jax.sim.rules import equilibrium_gap
from alpamayo_jax.sim.seen import FRONT
from alpamayo_jax.sim.world import Shift, SpeedChange, World


def lead_slows(rng: np.random.Generator, seconds: float) -> Draft:
    """The car ahead brakes to a lower speed, and goes on later."""
    return _lead(rng, seconds, stops=False)


def lead_stops(rng: np.random.Generator, seconds: float) -> Draft:
    """The car ahead brakes to a halt, and goes on later."""
    return _lead(rng, seconds, stops=True)


def _lead(rng: np.random.Generator, seconds: float, stops: bool) -> Draft:
    style = base.draw_style(rng, *((8.0, 15.0) if stops else (10.0, 19.0)))
    speed = style.set_speed * rng.uniform(0.75, 0.93)
    event = rng.uniform(2.0, max(0.6 * seconds, 2.1))
    low = 0.0 if stops else speed * rng.uniform(0.3, 0.6)
    rate = rng.uniform(1.6, 2.5) if stops else rng.uniform(1.2, 2.2)
    recover = event + (speed - low) / rate + rng.uniform(2.5, 6.0)
    changes = (
        SpeedChange(event, low, rate),
        SpeedChange(recover, speed * rng.uniform(0.9, 1.05), rng.uniform(1.0, 1.6)),
    )
    pieces = base.long_enough(base.gentle(rng, style.set_speed), style, seconds)
    layout = open_road(pieces, base.draw_profile(rng), base.draw_site(rng))
    lead = base.car(rng, layout.route, 0.0, rng.uniform(-0.2, 0.2), speed=speed, changes=changes)
    place = FRONT + equilibrium_gap(speed, style) + lead.lwh[0] / 2
    world = World(layout, (dataclasses.replace(lead, s=place),))
    words = "the car ahead brakes to a stop" if stops else "the car ahead brakes"
    return Draft(world, dataclasses.replace(world, actors=()), style, speed, words)


def cut_in(rng: np.random.Generator, seconds: float) -> Draft:
    """A slower car of the lane beside signals, and moves in front of the ego."""
    style = base.draw_style(rng, 10.0, 17.0)
    profile = base.draw_profile(rng, same=1)
    pieces = base.long_enough(base.gentle(rng, style.set_speed), style, seconds)
    layout = open_road(pieces, profile, base.draw_site(rng))
    speed = style.set_speed * rng.uniform(0.9, 1.0)
    other = speed * rng.uniform(0.68, 0.82)
    begins = rng.uniform(2.5, max(0.45 * seconds, 2.6))
    gap = (2.2 + 0.45 * style.set_speed) * rng.uniform(0.9, 1.3)
    contender = base.car(
        rng, layout.route, 0.0, profile.width,
        speed=other, shifts=(Shift(begins, rng.uniform(-0.15, 0.15), rng.uniform(2.6, 3.6)),),
    )  # fmt: skip
    nominal = base.alone(layout, style, speed, seconds)
    ego = float(np.interp(begins, nominal.t, nominal.s))
    place = ego + FRONT + gap + contender.lwh[0] / 2 - other * begins
    contender = dataclasses.replace(contender, s=place)
    world = World(layout, (contender,))
    return Draft(
        world, dataclasses.replace(world, actors=()), style, speed,
        "the car on the left cuts in", traffic=False,
    )  # fmt: skip


def lane_change(rng: np.random.Generator, seconds: float) -> Draft:
    """A slow car ahead, and a free lane beside."""
    return _overtake(rng, seconds, blockers=0)


def lane_change_blocked(rng: np.random.Generator, seconds: float) -> Draft:
    """A slow car ahead, and a lane beside that is taken for a while."""
    return _overtake(rng, seconds, blockers=int(rng.integers(1, 4)))


def _overtake(rng: np.random.Generator, seconds: float, blockers: int) -> Draft:
    style = base.draw_style(rng, 11.0, 17.0, overtakes=True)
    profile = base.draw_profile(rng, same=1)
    pieces = base.long_enough(base.gentle(rng, 1.4 * style.set_speed), style, seconds)
    layout = open_road(pieces, profile, base.draw_site(rng))
    slow = style.set_speed * rng.uniform(0.48, 0.62)
    speed = style.set_speed * rng.uniform(0.85, 0.98)
    meets = rng.uniform(2.0, max(0.35 * seconds, 2.1))
    reach = 15.0 + 2.6 * speed
    lead = base.car(rng, layout.route, 0.0, rng.uniform(-0.15, 0.15), speed=slow)
    place = FRONT + reach + (speed - slow) * meets + lead.lwh[0] / 2
    actors = [dataclasses.replace(lead, s=place)]
    # The first is beside the ego when it would like to move over; the others follow.
    s = speed * meets + rng.uniform(3.0, 8.0)
    for _ in range(blockers):
        fast = slow * rng.uniform(1.5, 1.8)
        start = s - fast * meets
        actors.append(base.car(rng, layout.route, start, profile.width, speed=fast))
        s -= rng.uniform(11.0, 16.0)
    world = World(layout, tuple(actors))
    without = dataclasses.replace(world, actors=world.actors[:1] if blockers else ())
    words = "the lane on the left is blocked" if blockers else "the car ahead is slow"
    return Draft(world, without, style, speed, words, traffic=False)


def merge(rng: np.random.Generator, seconds: float) -> Draft:
    """A ramp that ends beside a road with traffic on it."""
    style = base.draw_style(rng, 11.0, 15.0)
    profile = base.draw_profile(rng, same=2, oncoming=0)
    speed = style.set_speed * rng.uniform(0.85, 1.0)
    joins = speed * rng.uniform(2.5, max(0.35 * seconds, 2.6)) + 25.0
    ends = joins + rng.uniform(110.0, 150.0)
    layout = merging_road(
        profile, base.draw_site(rng), joins, ends, style.set_speed * seconds + base.VIEW
    )
    nominal = base.alone(layout, style, speed, seconds)
    begins = base.arrival(nominal, joins - 12.0)
    here = float(np.interp(begins, nominal.t, nominal.s))
    actors = []
    s = here + rng.uniform(-3.0, 6.0)
    for _ in range(int(rng.integers(1, 3))):
        fast = style.set_speed * rng.uniform(0.9, 1.02)
        actors.append((s - fast * begins, fast))
        s -= rng.uniform(15.0, 22.0)
    main = layout.strips[1].path
    offset = joins  # s of the road's own path counts from where the ramp joins it
    cars = tuple(base.car(rng, main, s - offset, 0.0, speed=fast) for s, fast in actors)
    world = World(layout, cars)
    return Draft(
        world, dataclasses.replace(world, actors=()), style, speed,
        "a car is in the lane to merge into", traffic=False,
    )  # fmt: skip
