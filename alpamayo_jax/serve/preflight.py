"""Plays sessions against a driver, and says every rule of AlpaSim's interface that it breaks."""

import dataclasses
import random
import time
from typing import Any, Callable, Sequence
import uuid

import grpc
import numpy as np

from alpamayo_jax.serve import wire
from alpamayo_jax.serve.client import Client
from alpamayo_jax.serve.plan_rules import reply_faults
from alpamayo_jax.serve.rehearsal import CAMERAS, STEP_US, Rehearsal

# What is checked, in order; a broken one makes a driver unfit.
RULES = {
    "reachable": "answers at the address",
    "version": "get_version answers, and twice the same",
    "start_session": "opens a session with the cameras of the vehicle",
    "observations": "takes images, ego motion and routes at once and in any order, routes of NaN "
    "and dynamic states of zero",
    "short_history": "refuses a plan after too little history with FAILED_PRECONDITION, or plans",
    "drive": "answers drive when it has seen enough",
    "drive_in_time": "answers drive within the time limit",
    "plan_not_empty": "a plan has poses",
    "plan_finite": "no NaN in a plan",
    "plan_quaternions": "rotations are unit quaternions",
    "plan_times": "times rise strictly",
    "plan_start": "a plan begins no later than the queried time",
    "plan_horizon": "a plan covers the 2 s that the controller tracks",
    "plan_frame": "a plan begins at the vehicle, in the local frame",
    "plan_speed": "a plan moves as a vehicle can",
    "terminate_session": "never asks to end the rollout",
    "interleaved": "sessions do not disturb each other",
    "unknown_session": "refuses calls of sessions that are not open",
    "garbage": "refuses bytes that are no message, and goes on",
    "vanishing_client": "goes on when a client goes away without a word",
    "close_session": "closes a session, which is unknown then",
}
PLAN_RULES = tuple(rule for rule in RULES if rule.startswith("plan_")) + ("terminate_session",)
SAMPLES_HINT = "sampled_trajectories is empty: AlpaSim will not report min_ade"
_HISTORY_STEPS = 20  # AlpaSim replays 2 s before the first plan
_SHORT_STEPS = 5


@dataclasses.dataclass
class Verdict:
    """What was found.

    Attributes:
      broken: (rule of `RULES`, what was found), each once.
      hints: what is allowed but a pity.
      checked: rules that were put to the test.
      latency_s: of every drive call, seconds, the first of each session included.
      version: as the driver tells it.
    """

    broken: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    hints: list[str] = dataclasses.field(default_factory=list)
    checked: list[str] = dataclasses.field(default_factory=list)
    latency_s: list[float] = dataclasses.field(default_factory=list)
    version: str = ""

    def breaks(self, rule: str, found: str) -> None:
        """Notes a broken rule; the first finding of each is kept."""
        if rule not in dict(self.broken):
            self.broken.append((rule, found))

    def hint(self, text: str) -> None:
        """Notes a hint once."""
        if text not in self.hints:
            self.hints.append(text)


class Preflight:
    """One examination of one driver.

    Args:
      address: host:port.
      cameras: logical ids of the vehicle's cameras.
      image_size: height and width.
      steps: plans per session.
      limit_s: longest drive call that is accepted.
      seed: of the order in which observations are sent.
    """

    def __init__(
        self,
        address: str,
        cameras: Sequence[str] = CAMERAS,
        image_size: tuple[int, int] = (1080, 1916),
        steps: int = 10,
        limit_s: float = 60.0,
        seed: int = 0,
    ):
        self._address, self._cameras, self._size = address, tuple(cameras), image_size
        self._steps, self._limit_s = steps, limit_s
        self._random = random.Random(seed)
        self.verdict = Verdict()

    def run(self, connect_s: float = 10.0) -> Verdict:
        """Everything; a driver that cannot be reached breaks that rule alone."""
        with Client(self._address, timeout_s=max(self._limit_s, 10.0)) as client:
            self._client = client
            self.verdict.checked.append("reachable")
            if not client.ready(connect_s):
                self.verdict.breaks("reachable", f"nothing answers at {self._address}")
                return self.verdict
            for part in (self._version, self._short_history, self._drives, self._strangers,
                         self._vanishing, self._closing):  # fmt: skip
                part()
        return self.verdict

    def _rehearsal(self, **changes: Any) -> Rehearsal:
        return Rehearsal(
            uuid=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            cameras=self._cameras, image_size=self._size, **changes,
        )  # fmt: skip

    def _call(self, rule: str, name: str, message: Any) -> Any:
        """The reply, or None and a broken rule."""
        if rule not in self.verdict.checked:
            self.verdict.checked.append(rule)
        try:
            return self._client.call(name, message)
        except grpc.RpcError as error:
            self.verdict.breaks(rule, f"{name}: {_status(error)}")
            return None

    def _refusal(self, rule: str, name: str, message: Any) -> grpc.StatusCode | None:
        """The status of a call that must be refused; None and a broken rule if it is answered."""
        if rule not in self.verdict.checked:
            self.verdict.checked.append(rule)
        try:
            self._client.call(name, message)
        except grpc.RpcError as error:
            return error.code()
        self.verdict.breaks(rule, f"{name} was answered, expected a refusal")
        return None

    def _version(self) -> None:
        first = self._call("version", "get_version", wire.Empty())
        second = self._call("version", "get_version", wire.Empty())
        if first is None or second is None:
            return
        self.verdict.version = first.version_id
        if first != second:
            self.verdict.breaks("version", "two answers differ; the simulator compares replicas")
        if not first.version_id:
            self.verdict.hint("version_id is empty")

    def _open(self, car: Rehearsal) -> bool:
        return self._call("start_session", "start_session", car.start(seed=2**63 + 1)) is not None

    def _send(self, car: Rehearsal, begin_us: int, now_us: int, num_valid: int) -> None:
        """Sends all observations at once, in a random order, and waits for every answer."""
        calls = car.observations(begin_us, now_us, num_valid)
        self._random.shuffle(calls)
        waiting = [(name, self._client.start(name, message)) for name, message in calls]
        self.verdict.checked.append("observations")
        for name, reply in waiting:
            try:
                reply.result()
            except grpc.RpcError as error:
                self.verdict.breaks("observations", f"{name}: {_status(error)}")

    def _drive(self, car: Rehearsal, now_us: int) -> bool:
        """Asks for a plan and examines it; whether there was one."""
        self.verdict.checked += ["drive_in_time", *PLAN_RULES]
        begin = time.perf_counter()
        reply = self._call("drive", "drive", car.drive(now_us))
        seconds = time.perf_counter() - begin
        if reply is None:
            return False
        self.verdict.latency_s.append(seconds)
        if seconds > self._limit_s:
            self.verdict.breaks("drive_in_time", f"{seconds:.2f} s, limit {self._limit_s} s")
        for fault in reply_faults(reply, now_us, now_us + STEP_US, car.pose(now_us)[0]):
            self.verdict.breaks(*fault)
        if not reply.debug_info.sampled_trajectories:
            self.verdict.hint(SAMPLES_HINT)
        return True

    def _short_history(self) -> None:
        car = self._rehearsal()
        if not self._open(car):
            return
        now_us = car.begin_us + _SHORT_STEPS * STEP_US
        self._send(car, car.begin_us, now_us, num_valid=0)
        self.verdict.checked.append("short_history")
        try:
            reply = self._client.call("drive", car.drive(now_us))
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                self.verdict.breaks("short_history", _status(error))
        else:
            seconds = _SHORT_STEPS * STEP_US / 1e6
            self.verdict.hint(f"plans after {seconds} s of history")
            for fault in reply_faults(reply, now_us, now_us + STEP_US, car.pose(now_us)[0]):
                self.verdict.breaks(*fault)
        self._call("close_session", "close_session", car.close())

    def _drives(self) -> None:
        """Two cars far from each other, their calls alternating."""
        cars = [
            self._rehearsal(),
            self._rehearsal(origin=(-5000.0, 4000.0, 0.0), heading=-1.0, speed=6.0, yaw_rate=-0.1),
        ]
        if not all([self._open(car) for car in cars]):
            return
        for step in range(self._steps):
            for number, car in enumerate(cars):
                now_us = car.begin_us + (_HISTORY_STEPS + step) * STEP_US
                begin_us = car.begin_us if step == 0 else now_us
                self._send(car, begin_us, now_us, num_valid=(10, 20, 0)[step % 3])
                before = len(self.verdict.broken)
                driven = self._drive(car, now_us)
                if number and not before and (not driven or len(self.verdict.broken)):
                    rules = ", ".join(rule for rule, _ in self.verdict.broken)
                    self.verdict.breaks("interleaved", f"only the second of two sessions: {rules}")
                if not driven:
                    return
        self.verdict.checked.append("interleaved")
        for car in cars:
            self._call("close_session", "close_session", car.close())

    def _strangers(self) -> None:
        car = self._rehearsal()
        for name, message in (
            ("drive", car.drive(car.begin_us)),
            ("submit_egomotion_observation", car.egomotion([car.begin_us])),
        ):
            self._refusal("unknown_session", name, message)
        for name in ("drive", "start_session", "submit_image_observation"):
            self._refusal("garbage", name, b"\xff\xfe\xfd\xfc garbage")
        self._call("garbage", "get_version", wire.Empty())
        if self._open(car):
            broken = car.image(self._cameras[0], car.begin_us)
            broken.camera_image.image_bytes = broken.camera_image.image_bytes[:100]
            try:  # a driver may refuse it, drop it, or look at it later
                self._client.call("submit_image_observation", broken)
            except grpc.RpcError:
                pass
            self._call("garbage", "close_session", car.close())

    def _vanishing(self) -> None:
        car = self._rehearsal()
        now_us = car.begin_us + _HISTORY_STEPS * STEP_US
        with Client(self._address) as other:
            try:
                other.call("start_session", car.start())
                other.call("submit_egomotion_observation", car.egomotion([car.begin_us, now_us]))
            except grpc.RpcError as error:
                self.verdict.breaks("vanishing_client", f"before it vanished: {_status(error)}")
            other.start("drive", car.drive(now_us)).cancel()
        self._call("vanishing_client", "get_version", wire.Empty())
        after = self._rehearsal()
        if self._open(after):
            self._send(after, after.begin_us, now_us, num_valid=10)
            self._call("vanishing_client", "drive", after.drive(now_us))
            self._call("vanishing_client", "close_session", after.close())

    def _closing(self) -> None:
        car = self._rehearsal()
        if not self._open(car):
            return
        if self._call("close_session", "close_session", car.close()) is not None:
            self._refusal("close_session", "drive", car.drive(car.begin_us))


def summary(verdict: Verdict, say: Callable[[str], None]) -> dict[str, Any]:
    """Says every rule with its state, then hints and latency; returns the numbers."""
    broken, checked = dict(verdict.broken), set(verdict.checked)
    for rule, meaning in RULES.items():
        state = "BROKEN" if rule in broken else "ok" if rule in checked else "not checked"
        say(f"{state:<11} {rule}: {broken.get(rule, meaning)}")
    for hint in verdict.hints:
        say(f"hint        {hint}")
    numbers: dict[str, Any] = {
        "version": verdict.version,
        "rules_checked": len(checked & set(RULES)),
        "rules_broken": len(broken),
        "broken": ", ".join(broken),
        "drive_calls": len(verdict.latency_s),
    }
    if verdict.latency_s:
        milliseconds = 1e3 * np.array(verdict.latency_s)
        for name, value in (("p50", np.percentile(milliseconds, 50)), ("max", milliseconds.max())):
            numbers[f"drive_ms_{name}"] = float(value)
        say(
            f"drive calls {len(milliseconds)}: median {numbers['drive_ms_p50']:.1f} ms, "
            f"longest {numbers['drive_ms_max']:.1f} ms"
        )
    return numbers


def _status(error: grpc.RpcError) -> str:
    return f"{error.code().name}: {error.details()}"
