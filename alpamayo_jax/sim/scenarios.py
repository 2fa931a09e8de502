"""Scenarios of the long tail: drawn from a seed, played, and played again without their cause.

A `Scenario` is everything that decides what happens; `play` plays it. The stream of random numbers
depends only on (seed, index), so a scenario is the same in every process.
"""

import dataclasses

import numpy as np

from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.expert import Drive, drive
from alpamayo_jax.sim.longtail import base, controls, crossing, following, passing
from alpamayo_jax.sim.longtail.base import Draft, Family
from alpamayo_jax.sim.motion import Motion, move
from alpamayo_jax.sim.style import Style
from alpamayo_jax.sim.world import WEATHERS, Actor, World

FAMILIES = {
    "lead_slows": Family(ScenarioClass.SLOW_FOR_LEAD, following.lead_slows),
    "lead_stops": Family(ScenarioClass.STOP_FOR_LEAD, following.lead_stops),
    "red_light": Family(ScenarioClass.STOP_FOR_CONTROL, controls.red_light),
    "stop_sign": Family(ScenarioClass.STOP_FOR_CONTROL, controls.stop_sign),
    "start_at_light": Family(ScenarioClass.RESUME_AT_CONTROL, controls.start_at_light),
    "lane_change": Family(ScenarioClass.LANE_CHANGE, following.lane_change),
    "pedestrian_crosses": Family(ScenarioClass.YIELD_TO_VRU, crossing.pedestrian_crosses),
    "cyclist_crosses": Family(ScenarioClass.YIELD_TO_VRU, crossing.cyclist_crosses),
    "cut_in": Family(ScenarioClass.CUT_IN, following.cut_in),
    "speed_bump": Family(ScenarioClass.SPEED_BUMP, controls.speed_bump),
    "nudge": Family(ScenarioClass.NUDGE, passing.nudge),
    "pass_cyclist": Family(ScenarioClass.NUDGE, passing.pass_cyclist),
    "construction": Family(ScenarioClass.CONSTRUCTION, passing.construction),
    "runs_light": Family(ScenarioClass.RISKY_DRIVING, crossing.runs_light),
    "curve": Family(ScenarioClass.CURVE, controls.one_curve),
    "s_curve": Family(ScenarioClass.CURVE, controls.s_curve),
    "lane_change_blocked": Family(
        ScenarioClass.PREPARE_LANE_CHANGE, following.lane_change_blocked
    ),
    "merge": Family(ScenarioClass.PREPARE_LANE_CHANGE, following.merge),
    "nudge_blocked": Family(ScenarioClass.PREPARE_NUDGE, passing.nudge_blocked),
    "green_light": Family(ScenarioClass.INTERSECTION, controls.green_light),
    "turn": Family(ScenarioClass.INTERSECTION, controls.turn),
    "roundabout": Family(ScenarioClass.INTERSECTION, controls.circle),
    "pedestrian_waits": Family(ScenarioClass.NO_YIELD_TO_VRU, crossing.pedestrian_waits),
}
_WEATHER = (0.42, 0.24, 0.14, 0.12, 0.08)  # shares of `WEATHERS`


@dataclasses.dataclass(frozen=True, eq=False)
class Scenario:
    """Everything that decides a drive.

    Attributes:
      family: key of `FAMILIES`.
      seconds: length.
      world: what is there; first those who matter, then bystanders.
      without: the same world with the cause taken away.
      style, speed: the expert driver, and its speed at the start.
      cause: in words, why the expert does what it does.
      concerned: how many of the world's actors matter.
    """

    family: str
    seconds: float
    world: World
    without: World
    style: Style
    speed: float
    cause: str
    concerned: int

    @property
    def num_steps(self) -> int:
        """Rows of the 10 Hz grid."""
        return base.steps(self.seconds)

    @property
    def scenario_class(self) -> ScenarioClass:
        """The class of its critical moment (table 3 of the paper)."""
        return FAMILIES[self.family].scenario


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A played scenario: the expert's drive, and the motion of each actor of the world."""

    scenario: Scenario
    drive: Drive
    motions: tuple[Motion, ...]

    @property
    def world(self) -> World:
        """The world that it was played in."""
        return self.scenario.world


def play(scenario: Scenario) -> Run:
    """Plays a scenario. Pure: no random numbers are drawn here."""
    n = scenario.num_steps
    motions = tuple(move(actor, n) for actor in scenario.world.actors)
    return Run(scenario, drive(scenario.world, motions, scenario.style, n, scenario.speed), motions)


def without_cause(scenario: Scenario) -> Scenario:
    """The same scenario with its cause taken away, for example the light turned green."""
    return dataclasses.replace(scenario, world=scenario.without)


def without_bystanders(scenario: Scenario) -> Scenario:
    """The same scenario without those who do not concern the ego."""
    alone = scenario.world.actors[: scenario.concerned]
    return dataclasses.replace(
        scenario, world=dataclasses.replace(scenario.world, actors=alone)
    )


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
    draft = FAMILIES[family].draw(np.random.default_rng([seed, index, 2]), seconds)
    # Bystanders and looks come from their own streams, so that the cause never depends on them.
    others = _bystanders(np.random.default_rng([seed, index, 3]), draft, seconds)
    rng = np.random.default_rng([seed, index, 4])
    look = dict(look=int(rng.integers(2**31)), weather=WEATHERS[rng.choice(5, p=_WEATHER)])
    world, without = (
        dataclasses.replace(there, actors=there.actors + others, **look)
        for there in (draft.world, draft.without)
    )
    return Scenario(
        family=family,
        seconds=seconds,
        world=world,
        without=without,
        style=draft.style,
        speed=draft.speed,
        cause=draft.cause,
        concerned=len(draft.world.actors),
    )


def _bystanders(rng: np.random.Generator, draft: Draft, seconds: float) -> tuple[Actor, ...]:
    """Parked cars, people on the verge, and oncoming traffic: none of them concerns the ego."""
    layout, others = draft.world.layout, []
    route, last = layout.route, float(layout.route.s[-1])
    shoulder = -layout.width / 2 - layout.edges[0]
    end = min(last - 10.0, draft.style.set_speed * seconds + 150.0)
    if layout.junctions:
        end = min(end, layout.junctions[0][0] - 12.0) if draft.clear[0][1] > last else end

    def open_road(s: float, margin: float = 6.0) -> bool:
        return not any(low - margin < s < high + margin for low, high in draft.clear)

    s = rng.uniform(15.0, 90.0)
    while s < end:
        bend = abs(float(np.interp(s, route.s, route.kappa)))
        chance = rng.random()
        if open_road(s) and bend < 0.01 and shoulder > 2.5 and chance < 0.6:
            others.append(base.car(rng, route, s, -layout.width / 2 - 1.45))
        elif open_road(s) and chance < 0.85 and shoulder > 2.5:
            way = int(base.sense(rng))
            d = layout.edges[0] - rng.uniform(0.8, 1.6)
            others.append(base.person(rng, route, s, d, direction=way, speed=rng.uniform(0.9, 1.5)))
        s += rng.uniform(14.0, 110.0)
    coming = [lane for lane in layout.beside if lane.direction < 0]
    if draft.traffic and coming:
        tightest = max(float(np.abs(route.kappa).max()), 1e-3)
        speed = min(rng.uniform(7.0, 15.0), float(np.sqrt(2.0 / tightest)))
        s = rng.uniform(60.0, 200.0)
        while s < last + speed * seconds:
            others.append(base.car(rng, route, s, coming[0].d, direction=-1, speed=speed))
            s += rng.uniform(60.0, 260.0)
    return tuple(others)
