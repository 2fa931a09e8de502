"""How fast a run is, what it waits for and what it holds."""

import resource
import time
from typing import Any, Mapping, Sequence

import jax
import numpy as np

RATES = ("step_seconds", "tokens_per_second", "data_wait_fraction", "mfu")


class Meter:
    """Rates between two entries of a log."""

    def __init__(self, flops: float | None = None, peak: float | None = None):
        """Starts the clock.

        Args:
          flops: operations of one step, over all devices.
          peak: operations per second of all devices at best; with `flops`, it gives MFU.
        """
        self._flops, self._peak = flops, peak
        self._begin()

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._steps, self._tokens, self._waited = 0, 0, 0.0

    def add(self, tokens: int, waited: float) -> None:
        """One more step.

        Args:
          tokens: real ones in its batch, over all hosts.
          waited: seconds in which the batch was awaited.
        """
        self._steps, self._tokens = self._steps + 1, self._tokens + tokens
        self._waited += waited

    def entry(self, warm: bool = True) -> dict[str, float]:
        """Rates since the last entry, of one step at least; all steps must be done on the devices.

        Args:
          warm: False where programs were compiled in this time; it counts in a summary only where
            there is no other.
        """
        seconds = time.perf_counter() - self._since
        values = {
            "step_seconds": seconds / self._steps,
            "tokens_per_second": self._tokens / seconds,
            "data_wait_fraction": self._waited / seconds,
            "memory_gb": memory_bytes() / 1e9,
            "timed_steps": self._steps if warm else 0,
        }
        if self._flops and self._peak:
            values["mfu"] = self._flops * self._steps / seconds / self._peak
        self._begin()
        return values


def memory_bytes() -> float:
    """Most memory ever in use: of this host's fullest device, or of the process where devices say
    nothing (CPUs)."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    used = [s["peak_bytes_in_use"] for s in stats if s and "peak_bytes_in_use" in s]
    return max(used) if used else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def summary(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Rates of a whole run from its log entries, weighted by how long each covers."""
    timed = [line for line in lines if line.get("timed_steps")] or list(lines)
    steps = np.array([line.get("timed_steps") or 1 for line in timed], float)
    seconds = steps * [line["step_seconds"] for line in timed]
    found = {"step_seconds": float(seconds.sum() / steps.sum())}
    for name in RATES[1:]:
        if all(name in line for line in timed):
            found[name] = float(np.average([line[name] for line in timed], weights=seconds))
    return found
