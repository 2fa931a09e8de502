"""How long a driver takes for a plan when several simulators ask at once."""

from concurrent.futures import ThreadPoolExecutor
import dataclasses
import threading
import time

import numpy as np

from alpamayo_jax.serve.client import Client
from alpamayo_jax.serve.rehearsal import STEP_US, Rehearsal

_HISTORY_STEPS = 16
_IN_FLIGHT = 512  # observations; a server as gRPC comes drops some of more than 1000
_LIMIT_S = 600.0  # of a call; a slow driver is to be measured, not given up


@dataclasses.dataclass(frozen=True)
class Load:
    """Drive calls of some sessions that all asked at the same time, step by step.

    Attributes:
      sessions: how many.
      latency_s: float [steps, sessions], from the request to the plan.
      seconds: of the wall for all steps, sending of observations included.
    """

    sessions: int
    latency_s: np.ndarray
    seconds: float

    def row(self) -> dict[str, float]:
        """Milliseconds per call, and plans per second while plans were made."""
        milliseconds = 1e3 * self.latency_s
        return {
            "sessions": self.sessions,
            "drive_ms_p50": float(np.percentile(milliseconds, 50)),
            "drive_ms_p95": float(np.percentile(milliseconds, 95)),
            "drive_ms_max": float(milliseconds.max()),
            "plans_per_second": float(
                self.latency_s.size / self.latency_s.max(axis=-1).sum()
            ),
        }


def measure(address: str, sessions: int, steps: int, like: Rehearsal) -> Load:
    """Drives `sessions` cars in step with each other.

    Args:
      address: host:port.
      sessions: rollouts at once, each with a connection of its own.
      steps: plans of each.
      like: cameras and image sizes.

    Raises:
      grpc.RpcError: the driver refused something.
    """
    latency = np.zeros((steps, sessions))
    barrier, at_once = threading.Barrier(sessions), max(1, _IN_FLIGHT // sessions)

    def roll(number: int) -> None:
        try:
            _roll(number)
        except BaseException:
            barrier.abort()  # the others must not wait for this one
            raise

    def _roll(number: int) -> None:
        car = dataclasses.replace(like, uuid=f"{like.uuid}-{sessions}-{number}")
        with Client(address, timeout_s=_LIMIT_S) as client:
            client.call("start_session", car.start(seed=number))
            for step in range(steps):
                now_us = car.begin_us + (_HISTORY_STEPS + step) * STEP_US
                begin_us = car.begin_us if step == 0 else now_us
                calls = car.observations(begin_us, now_us)
                for first in range(0, len(calls), at_once):
                    some = calls[first : first + at_once]
                    for reply in [client.start(name, message) for name, message in some]:
                        reply.result()
                barrier.wait()
                begin = time.perf_counter()
                client.call("drive", car.drive(now_us))
                latency[step, number] = time.perf_counter() - begin
            client.call("close_session", car.close())

    begin = time.perf_counter()
    with ThreadPoolExecutor(sessions) as pool:
        futures = [pool.submit(roll, number) for number in range(sessions)]
    failed = [future.exception() for future in futures if future.exception()]
    # Those that only waited for one that failed have nothing to tell.
    for error in sorted(failed, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error
    return Load(sessions, latency, time.perf_counter() - begin)
