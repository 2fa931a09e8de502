"""Scenarios: drawn from a seed, played, and played again with their cause taken away.

A `Scenario` is everything that decides what happens; `run` plays it. The stream of random numbers
depends only on (seed, index), so a scenario is the same in every process.
"""

import dataclasses

import numpy as np

from alpamayo_jax.clip import GRID_DT
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim import driver, families
from alpamayo_jax.sim.actors import Actor, Motion, Signal, move
from alpamayo_jax.sim.families import FAMILIES
from alpamayo_jax.sim.road import Road, build_road


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
    """Everything that decides a clip.

    Attributes:
      family: key of `FAMILIES`.
      seconds: length.
      road: the road.
      style: the expert driver.
      speed: ego speed at time 0.
      lead: the vehicle ahead in the lane, or None.
      signal: the traffic light ahead, or None.
      others: oncoming and parked vehicles; they do not concern the ego.
      look: seed of scenery, light and textures.
    """

    family: str
    seconds: float
    road: Road
    style: driver.Style
    speed: float
    lead: Actor | None = None
    signal: Signal | None = None
    others: tuple[Actor, ...] = ()
    look: int = 0

    @property
    def num_steps(self) -> int:
        """Rows of the 10 Hz grid."""
        return int(round(self.seconds / GRID_DT)) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A played scenario: the ego's drive, the lead's motion (or None) and the others' motions."""

    scenario: Scenario
    drive: driver.Drive
    lead: Motion | None
    others: tuple[Motion, ...]


def run(scenario: Scenario) -> Run:
    """Plays a scenario. Pure: no random numbers are drawn here."""
    n = scenario.num_steps
    lead = move(scenario.lead, n) if scenario.lead else None
    ego = driver.drive(
        scenario.road,
        scenario.style,
        n,
        scenario.speed,
        (lead, scenario.lead.lwh[0]) if scenario.lead else None,
        scenario.signal,
    )
    return Run(scenario, ego, lead, tuple(move(other, n) for other in scenario.others))


def without_cause(scenario: Scenario) -> Scenario:
    """The same scenario with its cause taken away: no lead, a straight road, the opposite light.

    Raises:
      ConfigError: the family has no cause to remove.
    """
    cause = FAMILIES[scenario.family]
    if cause == "lead":
        return dataclasses.replace(scenario, lead=None)
    if cause == "curve":
        road = build_road([(float(scenario.road.s[-1]), 0.0)])
        return dataclasses.replace(scenario, road=road)
    if cause == "signal":
        colour = "red" if scenario.family == "green_light" else "green"
        signal = Signal(scenario.signal.s, ((-10.0, colour),))
        return dataclasses.replace(scenario, signal=signal)
    raise ConfigError(f"family {scenario.family!r} has no cause to remove")


def without_bystanders(scenario: Scenario) -> Scenario:
    """The same scenario without the vehicles that do not concern the ego."""
    return dataclasses.replace(scenario, others=())


def family_of(seed: int, index: int) -> str:
    """Family of clip `index`: every run of len(FAMILIES) clips holds each family once, shuffled."""
    block, place = divmod(index, len(FAMILIES))
    order = np.random.default_rng([seed, block, 1]).permutation(len(FAMILIES))
    return list(FAMILIES)[order[place]]


def sample_scenario(
    seed: int, index: int = 0, seconds: float = 20.0, family: str | None = None
) -> Scenario:
    """Draws the scenario of clip `index`.

    Args:
      seed, index: what the scenario depends on; not negative.
      seconds: length of the clip, at least 2.
      family: key of `FAMILIES`, or None for the balanced shuffle of `family_of`.

    Raises:
      ConfigError: an unknown family, a negative seed or too short a clip.
    """
    if seed < 0 or index < 0 or seconds < 2.0:
        raise ConfigError(
            f"procedural clips need seed >= 0, index >= 0 and seconds >= 2, got {seed}, {index}, "
            f"{seconds}"
        )
    family = family or family_of(seed, index)
    if family not in FAMILIES:
        raise ConfigError(f"scenario family {family!r} is unknown; known: {', '.join(FAMILIES)}")
    rng = np.random.default_rng([seed, index, 2])
    style = families.draw_style(rng, family)
    plan = families.draw_plan(rng, family, style, seconds)
    road = build_road(
        plan.pieces,
        origin=tuple(rng.uniform(-200.0, 200.0, 2)),
        heading=rng.uniform(-np.pi, np.pi),
        lane_width=rng.uniform(3.3, 3.8),
        dashed=bool(rng.random() < 0.7),
    )
    # Positions of bystanders come from their own stream, so that the cause never depends on them.
    others = families.bystanders(
        np.random.default_rng([seed, index, 3]), road, plan.signal, seconds
    )
    return Scenario(
        family=family,
        seconds=seconds,
        road=road,
        style=style,
        speed=plan.speed,
        lead=plan.lead,
        signal=plan.signal,
        others=others,
        look=int(np.random.default_rng([seed, index, 4]).integers(2**31)),
    )
