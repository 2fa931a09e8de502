"""Times of alternating candidates, and on what they were taken."""

import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import statistics
import time
from typing import Any, Callable, Mapping

import jax

from alpamayo_jax import hardware
from alpamayo_jax.config import ConfigError

COMPARISONS = ("auto", "transformers", "none")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "transformers")


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of one thing done again and again.

    Attributes:
      seconds: one per time.
      first: seconds of the very first time, compilation included.
    """

    seconds: tuple[float, ...]
    first: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def row(self) -> dict[str, Any]:
        """`median`, `spread` (a tenth of the times lies below, a tenth above), `times`, `first`."""
        ordered = sorted(self.seconds)
        tenth = round(0.1 * (len(ordered) - 1))
        return {
            "median": self.median,
            "spread": [ordered[tenth], ordered[-1 - tenth]],
            "times": len(ordered),
            "first": self.first,
        }


def alternate(
    candidates: Mapping[str, Callable[..., Any]],
    rounds: int,
    prepare: Mapping[str, Callable[[], Any]] | None = None,
) -> dict[str, Times]:
    """Times candidates in turns, so that whatever else the machine does hits all alike.

    Args:
      candidates: name -> a call that returns when the work is done.
      rounds: calls of each that count, after one that compiles and one that warms up.
      prepare: name -> what makes the candidate's argument before every call, untimed; a candidate
        that is not named takes none.
    """
    prepare = prepare or {}

    def timed(name: str) -> float:
        arguments = (prepare[name](),) if name in prepare else ()
        begin = time.perf_counter()
        candidates[name](*arguments)
        return time.perf_counter() - begin

    first = {name: timed(name) for name in candidates}
    for name in candidates:
        timed(name)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name in candidates:
            seconds[name].append(timed(name))
    return {name: Times(tuple(s), first[name]) for name, s in seconds.items()}


def compares(compare: str, device: str = "cpu") -> bool:
    """Whether a comparison is wanted and can be had.

    Args:
      compare: one of `COMPARISONS`; "auto" wants it where it is possible.
      device: of torch, "cpu" or "cuda".

    Raises:
      ConfigError: an unknown comparison, or one that is asked for and impossible here.
    """
    if compare not in COMPARISONS:
        raise ConfigError(f"comparison {compare!r} is unknown; known: {', '.join(COMPARISONS)}")
    if compare == "none":
        return False
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if not missing and device == "cuda":
        import torch

        missing = [] if torch.cuda.is_available() else ["torch for CUDA"]
    if missing and compare == "transformers":
        raise ConfigError(f"compare=transformers needs the package(s) {' and '.join(missing)}")
    return not missing


def describe_device() -> dict[str, Any]:
    """What this process computes on, and its peak in operations per second."""
    device = jax.devices()[0]
    known = hardware.chip_of(device)
    return {
        "platform": device.platform,
        "kind": _processor() if device.platform == "cpu" else device.device_kind,
        "count": jax.device_count(),
        "cores": _cores(),
        "load": os.getloadavg()[0],
        "peak_flops": hardware.peak_flops(device),
        "peak_is": "float32 product, measured" if known is None else "bfloat16, data sheet",
    }


def versions() -> dict[str, str]:
    """Python and the packages that matter, as far as they are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def _cores() -> int:
    """Those that this process may use, where the system says."""
    allowed = getattr(os, "sched_getaffinity", None)
    return os.cpu_count() or 1 if allowed is None else len(allowed(0))


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
