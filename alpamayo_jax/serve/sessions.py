"""Rollouts that are being driven: what each has been told, and who may join."""

import dataclasses
import threading
import time
from typing import Callable, Sequence

import grpc
import numpy as np

from alpamayo_jax.serve.errors import Refused, bad_message
from alpamayo_jax.serve.history import FrameHistory, PoseHistory

_MOST_ID = 256


@dataclasses.dataclass
class Session:
    """One rollout. Whoever reads or writes the fields below `lock` holds it.

    Attributes:
      uuid: given by the simulator.
      seed: of the policy's sampling.
      cameras: those the policy looks through, by logical id.
      ignored: logical ids of the simulator's other cameras, whose images are dropped.
      lock: of what follows.
      poses: ego motion.
      route: float64 [N, 3] waypoints in the rig frame, none of them NaN.
      num_drives: plans that were asked for.
      last_used: on the monotonic clock, seconds.
    """

    uuid: str
    seed: int
    cameras: dict[str, FrameHistory]
    ignored: frozenset[str]
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    poses: PoseHistory = dataclasses.field(default_factory=PoseHistory)
    route: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))
    num_drives: int = 0
    last_used: float = 0.0

    def next_seed(self) -> int:
        """A seed for the next plan, 32 bits of the session's and of how many came before."""
        entropy = np.random.SeedSequence([self.seed, self.num_drives])
        self.num_drives += 1
        return int(entropy.generate_state(1)[0])


class Sessions:
    """The open sessions, by id; safe for many threads.

    Args:
      most: open at once.
      idle_s: a session without a call for so long is forgotten when room is needed: its simulator
        has gone.
      clock: seconds, monotonic.
    """

    def __init__(self, most: int, idle_s: float, clock: Callable[[], float] = time.monotonic):
        self._most, self._idle_s, self._clock = most, idle_s, clock
        self._lock = threading.Lock()
        self._open: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._open)

    def start(self, uuid: str, seed: int, cameras: dict[str, int], ignored: Sequence[str]) -> None:
        """Opens a session; `cameras` is logical id -> index in the release's camera map.

        Raises:
          Refused: no id, one that is open already, or too many open sessions.
        """
        if not 0 < len(uuid) <= _MOST_ID:
            raise bad_message(f"session_uuid has {len(uuid)} characters, expected 1 to {_MOST_ID}")
        frames = {name: FrameHistory(name, index) for name, index in cameras.items()}
        session = Session(uuid, seed, frames, frozenset(ignored), last_used=self._clock())
        with self._lock:
            if uuid in self._open:
                raise Refused(
                    grpc.StatusCode.ALREADY_EXISTS,
                    f"session {uuid!r} is open already; close it first, or choose another id",
                )
            self._forget_idle()
            if len(self._open) >= self._most:
                raise Refused(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{len(self._open)} sessions are open, the most this driver allows; close one, "
                    "or start the driver with a larger --max_sessions",
                )
            self._open[uuid] = session

    def get(self, uuid: str) -> Session:
        """An open session, marked as used.

        Raises:
          Refused: there is none of that id.
        """
        with self._lock:
            session = self._open.get(uuid)
            if session is None:
                raise _unknown(uuid)
            session.last_used = self._clock()
            return session

    def close(self, uuid: str) -> None:
        """Forgets a session.

        Raises:
          Refused: there is none of that id.
        """
        with self._lock:
            if self._open.pop(uuid, None) is None:
                raise _unknown(uuid)

    def _forget_idle(self) -> None:
        limit = self._clock() - self._idle_s
        for uuid in [u for u, s in self._open.items() if s.last_used < limit]:
            del self._open[uuid]


def _unknown(uuid: str) -> Refused:
    return Refused(
        grpc.StatusCode.NOT_FOUND, f"no session {uuid[:_MOST_ID]!r} is open; call start_session"
    )
