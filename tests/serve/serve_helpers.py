"""A planner that needs no model, a car to drive, and a server around both."""

import threading

import numpy as np

from alpamayo_jax.serve.driver import Driver, DriverSettings
from alpamayo_jax.serve.rehearsal import STEP_US, Rehearsal
from alpamayo_jax.types import Prediction

K, WAYPOINTS = 3, 64
SIZE = (32, 48)
FRONT = "camera_front_wide_120fov"


class StraightPlanner:
    """Constant velocity out of the history; sample k is k * 0.1 m/s slower, and says who it saw."""

    def __init__(self, seconds=0.0):
        self.seconds, self.batches, self.observations = seconds, [], []
        self.lock = threading.Lock()
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, image):
        return image

    def plan(self, observations, seeds):
        self.gate.wait(10.0)
        with self.lock:
            self.batches.append(list(seeds))
            self.observations += observations
        return [self._one(o, seed) for o, seed in zip(observations, seeds)]

    def _one(self, observation, seed):
        step = observation.ego_history_xyz[-1] - observation.ego_history_xyz[-2]
        xyz = np.zeros((K, WAYPOINTS, 3), np.float32)
        for k in range(K):
            speed = np.linalg.norm(step[:2]) - 0.01 * k
            xyz[k, :, 0] = speed * np.arange(1, WAYPOINTS + 1)
        return Prediction(
            xyz=xyz,
            rot=np.tile(np.eye(3, dtype=np.float32), (K, WAYPOINTS, 1, 1)),
            actions=np.zeros((K, WAYPOINTS, 2), np.float32),
            reasoning=tuple(f"{observation.clip_id} {seed} {k}" for k in range(K)),
            meta_action=("",) * K,
            token_ids=np.zeros((K, 1), np.int32),
            token_logprobs=np.zeros((K, 1), np.float32),
            reasoning_logprob=np.array([-3.0, -1.0, -2.0], np.float32),
            ended=np.ones(K, bool),
        )


def car(uuid="car", **changes):
    """A rehearsal with one small camera."""
    return Rehearsal(uuid, **({"cameras": (FRONT,), "image_size": SIZE} | changes))


def make_driver(planner=None, **settings):
    values = {"num_frames": 2, "wait_s": 0.0} | settings
    return Driver(planner or StraightPlanner(), DriverSettings(**values))


def now_of(rehearsal, steps=20):
    """The time after so many steps of history."""
    return rehearsal.begin_us + steps * STEP_US


def tell(driver, rehearsal, steps=20, shuffle=None, start=True):
    """Starts the session and sends its observations; returns the time of the last."""
    if start:
        driver.start_session(rehearsal.start(seed=5))
    calls = rehearsal.observations(rehearsal.begin_us, now_of(rehearsal, steps))
    if shuffle is not None:
        shuffle.shuffle(calls)
    for name, message in calls:
        getattr(driver, name)(message)
    return now_of(rehearsal, steps)
