"""Scenario families. Each is built around one cause of the expert's behaviour.

A family draws a `Plan`: the road, the start, and the lead or light that matters. Timing is drawn so
that the reaction falls at any time of the clip. Metres, seconds, m/s.
"""

import dataclasses

import numpy as np

from alpamayo_jax.sim import driver
from alpamayo_jax.sim.actors import Actor, Signal, SpeedChange
from alpamayo_jax.sim.road import Road, curve

FAMILIES = {
    "cruise": None,
    "curve": "curve",
    "s_curve": "curve",
    "lead_slows": "lead",
    "lead_stops": "lead",
    "red_light": "signal",
    "start_at_light": "signal",
    "green_light": "signal",
}  # family -> its cause, one of `driver.CAUSES`; None where nothing constrains the ego
_SET_SPEED = {"cruise": (6.0, 20.0), "lead_slows": (10.0, 19.0), "lead_stops": (8.0, 15.0)}
_VIEW = 170.0  # metres of road beyond the furthest point the ego can reach
_MAX_HEADING = 1.48  # within 85 degrees of its first heading a road cannot meet itself
_COLOURS = (
    (0.72, 0.73, 0.75),
    (0.16, 0.17, 0.19),
    (0.62, 0.10, 0.10),
    (0.12, 0.23, 0.50),
    (0.85, 0.85, 0.82),
    (0.33, 0.36, 0.38),
    (0.55, 0.45, 0.28),
    (0.10, 0.35, 0.28),
)

Pieces = list[tuple[float, float]]  # as `road.build_road` takes them


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a family decides: road pieces, ego speed at the start, lead and traffic light."""

    pieces: Pieces
    speed: float
    lead: Actor | None = None
    signal: Signal | None = None


def draw_style(rng: np.random.Generator, family: str) -> driver.Style:
    """Draws the expert driver of a clip."""
    return driver.Style(
        set_speed=rng.uniform(*_SET_SPEED.get(family, (8.0, 16.0))),
        accel=rng.uniform(1.1, 1.8),
        brake=rng.uniform(1.3, 1.9),
        lateral=rng.uniform(1.7, 2.3),
        time_gap=rng.uniform(1.2, 1.8),
        min_gap=rng.uniform(2.5, 4.0),
        reaction=rng.uniform(0.5, 0.9),
        offset=rng.uniform(-0.15, 0.15),
    )


def draw_plan(
    rng: np.random.Generator, family: str, style: driver.Style, seconds: float
) -> Plan:
    """Draws what happens in a clip of `family`; the road is long enough for its whole length."""
    if family == "cruise":
        plan = _cruise(rng, style)
    elif family in ("curve", "s_curve"):
        plan = _curves(rng, style, seconds, connected=family == "s_curve")
    elif family in ("lead_slows", "lead_stops"):
        plan = _lead(rng, style, seconds, stops=family == "lead_stops")
    elif family == "red_light":
        plan = _red_light(rng, style)
    elif family == "start_at_light":
        plan = _start_at_light(rng, seconds)
    else:
        plan = _green_light(rng, style)
    missing = style.set_speed * seconds + _VIEW - sum(length for length, _ in plan.pieces)
    if missing > 0.0:
        plan = dataclasses.replace(plan, pieces=plan.pieces + [(missing, 0.0)])
    return plan


def _cruise(rng: np.random.Generator, style: driver.Style) -> Plan:
    start = style.set_speed * (1.0 if rng.random() < 0.5 else rng.uniform(0.4, 0.9))
    return Plan(_gentle_road(rng, style.set_speed), start)


def _curves(
    rng: np.random.Generator, style: driver.Style, seconds: float, connected: bool
) -> Plan:
    """Straights and curves until the road is long enough; connected ones swing back at once."""
    first, heading, pieces = True, 0.0, []
    while sum(length for length, _ in pieces) < style.set_speed * seconds + _VIEW:
        kappa = float(np.exp(rng.uniform(np.log(0.012), np.log(0.078))))
        corner = float(np.sqrt(style.lateral / kappa))
        if first:
            braking = max(style.set_speed**2 - corner**2, 0.0) / (2 * style.brake)
            straight = style.set_speed * rng.uniform(1.0, 7.0) + braking
        else:
            straight = rng.uniform(15.0, 70.0)
        angle = min(rng.uniform(0.5, 1.4), 120.0 * kappa)
        sense = _sense(rng)
        for _ in range(2 if connected else 1):
            if abs(heading + sense * angle) > _MAX_HEADING:
                sense = -sense
            pieces += [(straight, 0.0)] + curve(sense * kappa, angle, 1.6 * corner)
            heading += sense * angle
            straight, sense = 1.0, -sense
        first = False
    return Plan(pieces, style.set_speed)


def _gentle_road(rng: np.random.Generator, speed: float) -> Pieces:
    """A road whose curves need no slowing from `speed`."""
    pieces, heading = [], 0.0
    for _ in range(4):
        kappa = rng.uniform(0.2, 0.9) / speed**2
        angle = min(rng.uniform(0.1, 0.6), 150.0 * kappa)
        sense = _sense(rng) if abs(heading) < 0.5 else -float(np.sign(heading))
        pieces += [(rng.uniform(20.0, 90.0), 0.0)] + curve(sense * kappa, angle, 2.0 * speed)
        heading += sense * angle
    return pieces


def _lead(rng: np.random.Generator, style: driver.Style, seconds: float, stops: bool) -> Plan:
    """Steady following, then the lead brakes to a lower speed or to a halt, and goes on later."""
    speed = style.set_speed * rng.uniform(0.75, 0.93)
    event = rng.uniform(2.0, 0.6 * seconds)
    low = 0.0 if stops else speed * rng.uniform(0.3, 0.6)
    rate = rng.uniform(1.6, 2.5) if stops else rng.uniform(1.2, 2.2)
    recover = event + (speed - low) / rate + rng.uniform(2.5, 6.0)
    changes = (
        SpeedChange(event, low, rate),
        SpeedChange(recover, speed * rng.uniform(0.9, 1.05), rng.uniform(1.0, 1.6)),
    )
    car = _car(rng)
    s = driver.FRONT + driver.equilibrium_gap(speed, style) + car["lwh"][0] / 2
    lead = Actor(s=s, d=rng.uniform(-0.2, 0.2), speed=speed, changes=changes, **car)
    return Plan(_gentle_road(rng, style.set_speed), speed, lead=lead)


def _red_light(rng: np.random.Generator, style: driver.Style) -> Plan:
    """A light that is red, or turns red, in time to stop; it may turn green again."""
    speed = style.set_speed * (1.0 if rng.random() < 0.5 else rng.uniform(0.7, 1.0))
    braking = driver.stopping_distance(style.set_speed, style)
    onset = rng.uniform(1.0, 6.0)
    line = driver.FRONT + style.set_speed * onset + braking + 1.0
    green = onset + 2.4 * braking / style.set_speed + rng.uniform(0.5, 6.0)
    phases = [(-10.0, "red"), (green, "green")]
    if rng.random() < 0.4:
        turns = max(onset * speed / style.set_speed - rng.uniform(1.2, 2.5), 0.3)
        phases = [(-10.0, "green"), (turns, "yellow"), (turns + 2.5, "red"), (green, "green")]
    return Plan(_straight_to(rng, line), speed, signal=Signal(line, tuple(phases)))


def _start_at_light(rng: np.random.Generator, seconds: float) -> Plan:
    line = driver.FRONT + driver.LINE_GAP
    phases = ((-10.0, "red"), (rng.uniform(2.0, 0.55 * seconds), "green"))
    return Plan(_straight_to(rng, line), 0.0, signal=Signal(line, phases))


def _green_light(rng: np.random.Generator, style: driver.Style) -> Plan:
    line = style.set_speed * rng.uniform(4.0, 12.0)
    speed = style.set_speed * rng.uniform(0.8, 1.0)
    return Plan(_straight_to(rng, line), speed, signal=Signal(line, ((-10.0, "green"),)))


def _straight_to(rng: np.random.Generator, line: float) -> Pieces:
    """Straight past the crossing, then a gentle curve."""
    kappa = _sense(rng) * rng.uniform(0.001, 0.003)
    return [(line + 60.0, 0.0)] + curve(kappa, rng.uniform(0.1, 0.3), 25.0)


def _sense(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0


def _car(rng: np.random.Generator) -> dict:
    return dict(
        lwh=(rng.uniform(4.0, 5.2), rng.uniform(1.75, 1.95), rng.uniform(1.4, 1.85)),
        colour=_COLOURS[int(rng.integers(len(_COLOURS)))],
    )


def bystanders(
    rng: np.random.Generator, road: Road, signal: Signal | None, seconds: float
) -> tuple[Actor, ...]:
    """Parked cars on the right shoulder and oncoming traffic; neither concerns the ego.

    None stands near a crossing, and nothing comes through one, whatever its light shows.
    """
    last, others = float(road.s[-1]), []
    right, middle, left = road.edges
    s = rng.uniform(15.0, 120.0)
    while s < last - 10.0:
        open_road = signal is None or not signal.s - 12.0 < s < signal.s + 30.0
        if open_road and abs(float(np.interp(s, road.s, road.kappa))) < 0.01:
            others.append(Actor(s=s, d=right - 1.35, **_car(rng)))
        s += rng.uniform(12.0, 160.0)
    if signal is None:
        tightest = max(float(np.abs(road.kappa).max()), 1e-3)
        speed = min(rng.uniform(7.0, 15.0), float(np.sqrt(2.0 / tightest)))
        s = rng.uniform(60.0, 200.0)
        while s < last + speed * seconds:
            car = _car(rng)
            others.append(Actor(s=s, d=(left + middle) / 2, direction=-1, speed=speed, **car))
            s += rng.uniform(60.0, 260.0)
    return tuple(others)
