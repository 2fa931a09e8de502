"""Runs made by hand, whose every event is known."""

import numpy as np
from loop_scenes import CAR, RED, TICKS, WALKER, straight

from alpamayo_jax.closed_loop.runner import Run
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION
from alpamayo_jax.sim.closed_loop import Rollout
from alpamayo_jax.sim.scenes import Scene

WARMUP, K, SAMPLES = 17, 2, 3


def steps_of(scenes):
    """Metrics [S, K, T] of rollouts in which nothing happens: a metre of progress each tick."""
    shape = (len(scenes), K, TICKS)
    steps = {name: np.zeros(shape) for name in TIME_AGGREGATION if "img" not in name}
    tick = np.broadcast_to(np.arange(TICKS, dtype=float), shape)
    steps |= {
        "progress": tick / (TICKS - 1),
        "dist_traveled_m": tick * 1.0,
        "gt_dist_traveled_m": np.full(shape, float(TICKS - 1)),
        "min_distance_to_obstacle_m": np.full(shape, 7.0),
        "comfortable": np.ones(shape),
        "min_ade": np.where(tick < WARMUP, np.nan, 0.5),
    }
    return {name: np.array(value) for name, value in steps.items()}


def make_run(samples=True):
    """Two scenes, two rollouts: scene 1 collides in front at tick 40 of rollout 0."""
    scenes = (
        Scene("empty", straight(), np.zeros(2), scenario=ScenarioClass.CURVE),
        Scene(
            "busy/street", straight(
                agents=[(50.0, 0.0, 0.0, 0.0, 0.0, *CAR), (30.0, 4.0, 1.5, 0.0, -0.5, *WALKER)],
                lights=[(45.0, RED)],
            ),
            np.zeros(2), scenario=ScenarioClass.STOP_FOR_LEAD, cause="a car stands there",
        ),
    )  # fmt: skip
    steps = steps_of(scenes)
    steps["collision_front"][1, 0, 40:] = 1.0
    steps["collision_any"][1, 0, 40:] = 1.0
    steps["min_distance_to_obstacle_m"][1, 0, 40:] = 0.0
    agents = max(len(s.arrays.agent_pose) for s in scenes)
    pose = np.stack([np.stack([s.arrays.ego_pose] * K) for s in scenes])
    agent = np.zeros((2, K, agents, TICKS, 3), np.float32)
    present = np.zeros((2, K, agents, TICKS), bool)
    agent[1], present[1] = scenes[1].arrays.agent_pose, True
    planned = np.zeros((2, K, TICKS), bool)
    planned[..., WARMUP:-1] = True
    plan = np.zeros((2, K, TICKS, 64, 3), np.float32)
    plan[..., 0] = pose[..., 0][..., None] + 0.8 * np.arange(1, 65)
    drawn = np.repeat(plan[..., None, :, :2], SAMPLES, axis=3) if samples else None
    rollout = Rollout(
        num_ticks=np.full((2, K), TICKS), warmup=np.full((2, K), WARMUP), ego_pose=pose,
        ego_speed=np.full((2, K, TICKS), 8.0), agent_pose=agent, agent_present=present,
        plan=plan, planned=planned, solved=np.ones((2, K, TICKS), bool), samples=drawn,
    )  # fmt: skip
    said = [[[] for _ in range(K)] for _ in range(2)]
    said[1][0] = [(17, "Keep going."), (30, "Stop for the car ahead.")]
    strict = {name: value.copy() for name, value in steps.items()}
    return Run(scenes, K, rollout, steps, strict, said, 2 * K * TICKS * 0.1, 2.0)
