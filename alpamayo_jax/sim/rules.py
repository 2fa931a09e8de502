"""Reasons of the expert to drive slower; each proposes an acceleration, and the lowest wins."""

import math

import numpy as np

from alpamayo_jax.sim.seen import FRONT, HALF, REAR
from alpamayo_jax.sim.style import INF, Row, State, Style, Task
from alpamayo_jax.sim.world import Kind

CAUSES = (
    "free", "curve", "bump", "lead", "cut_in", "signal", "sign", "vru", "conflict", "gap",
    "blocked", "passing", "end",
)  # fmt: skip
BUMP_SPEED = 4.5  # m/s
LINE_GAP = 1.0  # metres left between the bumper and a stop line
BESIDE = 0.25  # metres between the ego and somebody in front who does not count as ahead of it
_LAG = 0.35  # seconds of preview that make up for the limited jerk
_TAIL = 0.55  # speed ~ distance**0.55 before a stop: braking eases off towards the end
_LINE_BRAKE = 1.2  # a stop line is approached with this much more than comfortable braking
_FIRM = 5.0  # m/s^2; who would need more to stop goes on
_DWELL = 1.2  # seconds of standing at a stop sign
_BEFORE = {"vru": 3.0, "conflict": 3.5}  # metres left before the path of who is let pass
_CUT_IN_S = 4.0  # seconds for which somebody who cut in is called so
_CLOSE = 5.0  # metres ahead of somebody whom the ego is about to pass, and follows no more
_PASSING = 6.5  # m/s beside cones

Proposal = tuple[float, int]  # acceleration, number of the actor or -1


def stopping_distance(v: float, style: Style) -> float:
    """Metres from the stopping point at which the expert starts to brake for a light."""
    return _TAIL * v * v / (_LINE_BRAKE * style.brake)


def equilibrium_gap(v: float, style: Style) -> float:
    """Bumper-to-bumper distance at which IDM holds speed v behind a lead of the same speed."""
    free = 1.0 - (v / style.set_speed) ** 4
    return (style.min_gap + v * style.time_gap) / math.sqrt(max(free, 0.05))


class Limits:
    """The highest speed at each place of the route, for its curves or for its bumps."""

    def __init__(self, s: np.ndarray, speed: np.ndarray, brake: float):
        """Lowers `speed` [N] at s [N] to what can be braked to: v^2 falls by 2 b per metre."""
        reach = np.minimum(speed, 40.0) ** 2 + 2.0 * brake * s
        limits = np.sqrt(np.minimum.accumulate(reach[::-1])[::-1] - 2.0 * brake * s)
        self.values, self._brake = limits, brake
        self._list, self._first, self._step = limits.tolist(), float(s[0]), float(s[1] - s[0])

    def at(self, s: float) -> float:
        """The limit at s."""
        place = min(max((s - self._first) / self._step, 0.0), len(self._list) - 1.001)
        i = int(place)
        return self._list[i] + (place - i) * (self._list[i + 1] - self._list[i])

    def accel(self, s: float, v: float) -> float:
        """Tracks the limit, looking ahead by the lag of the pedals."""
        here, ahead = self.at(s + v * _LAG), self.at(s + v * _LAG + 0.5)
        return max(ahead**2 - here**2, -1.3 * self._brake) + 1.5 * (here - v)


def curve_limits(task: Task) -> Limits:
    """By lateral acceleration."""
    route = task.world.layout.route
    speed = np.sqrt(task.style.lateral / np.maximum(np.abs(route.kappa), 1e-6))
    return Limits(route.s, speed, task.style.brake)


def bump_limits(task: Task) -> Limits | None:
    """By speed bumps; None where there are none."""
    route, speed = task.world.layout.route, None
    for bump in task.world.bumps:
        speed = np.full(len(route.s), 40.0) if speed is None else speed
        speed[(route.s > bump - 3.2) & (route.s < bump + 0.5)] = BUMP_SPEED
    return None if speed is None else Limits(route.s, speed, task.style.brake)


class Speed:
    """All reasons to drive slower, with what has to be remembered of each."""

    def __init__(self, task: Task):
        self._task, self._style = task, task.style
        self._curve, self._bump = curve_limits(task), bump_limits(task)
        self._gains: dict[str, float | None] = {}
        self._stood: dict[float, float] = {}
        self._since: dict[tuple[str, int], float] = {}
        self._yields: set[int] = set()

    def proposals(self, state: State, waits: tuple[float, int] | None, merging: bool) -> list:
        """One `Proposal` or None for each of `CAUSES`.

        Args:
          state: now.
          waits: (s of the bumper to stop at, actor) where the way aside is blocked, or None.
          merging: whether the ego looks for a gap in the lane beside it.
        """
        s, v, world = state.s, state.v, self._task.world
        found: dict[str, Proposal | None] = dict.fromkeys(CAUSES)
        found["free"] = (_free(v, self._style), -1)
        found["curve"] = (self._curve.accel(s, v), -1)
        if self._bump is not None:
            found["bump"] = (self._bump.accel(s, v), -1)
        found["lead"], found["cut_in"] = self._ahead(state)
        if world.signal is not None:
            found["signal"] = self._signal(state)
        found["sign"] = self._signs(state)
        found["vru"], found["conflict"] = self._crossing(state)
        stop = None if waits is None else waits[0] - FRONT - s
        found["blocked"] = self._stop("blocked", stop, v, 0.8, -1 if waits is None else waits[1])
        if merging:
            found["gap"] = self._gap(state)
        ends = world.layout.lane_end - 8.0 - FRONT - s
        left = abs(state.swerve.target) < 1.0 and ends < 300.0
        found["end"] = self._stop("end", ends if left else None, v, 1.0, -1)
        found["passing"] = self._passing(state)
        return [found[cause] for cause in CAUSES]

    def _ahead(self, state: State) -> tuple[Proposal | None, Proposal | None]:
        """IDM behind who is in the path, or about to be."""
        lead = cut = None
        for row in state.rows:
            gap = row.rear - state.s - FRONT
            if row.front < state.s + 1.0 or gap > 130.0:
                continue
            if row.number in state.passes and gap > _CLOSE:
                continue
            path = state.swerve.at(row.s)[0]
            clear = abs(row.d - path) - row.aside - HALF
            key = ("cut_in", row.number)
            meeting = row.other.meeting
            crosses = meeting is not None and row.gone < meeting.end and abs(row.across) > 0.3
            if row.other.actor.kind.vehicle and self._comes_in(row, path, clear, state.t):
                self._since.setdefault(key, state.t)
            came = self._since.get(key, INF)
            if came + self._style.reaction <= state.t < came + _CUT_IN_S and clear < 4.0:
                if row.front > state.s + FRONT - 1.0:
                    cut = _lower(cut, (self._give_room(gap, row.speed, state.v), row.number))
            elif clear < BESIDE and not crosses and row.speed > -0.5:
                follow = self._give_room if came < INF else self._follow
                lead = _lower(lead, (follow(gap, row.speed, state.v), row.number))
        return lead, cut

    def _comes_in(self, row: Row, path: float, clear: float, t: float) -> bool:
        """Whether a vehicle beside the path shows that it is about to enter it."""
        side = 1.0 if row.d > path else -1.0
        same_way = row.speed > 1.0
        return same_way and BESIDE <= clear < 3.0 and (
            row.blinks * side < 0 or row.sidling * side < -0.25
        )

    def _follow(self, gap: float, speed: float, v: float) -> float:
        style, gap = self._style, max(gap, 0.3)
        brake = v * (v - max(speed, 0.0)) / (2.0 * math.sqrt(style.accel * style.brake))
        wanted = style.min_gap + max(v * style.time_gap + brake, 0.0)
        return style.accel * (1.0 - (v / style.set_speed) ** 4 - (wanted / gap) ** 2)

    def _give_room(self, gap: float, speed: float, v: float) -> float:
        """As `_follow`, but a gap that somebody made short is opened without haste."""
        closing = max(v - speed, 0.0)
        needed = closing**2 / (2.0 * max(gap - 1.5, 0.5))
        return max(self._follow(gap, speed, v), -max(1.8, 1.4 * needed))

    def _signal(self, state: State) -> Proposal | None:
        signal = self._task.world.signal
        seen = signal.colour(state.t)
        if signal.since(state.t) < self._style.reaction:
            seen = None
        distance = signal.s - state.s - FRONT - LINE_GAP
        held = self._gains.get("signal") is not None
        if (held and seen != "green") or (seen in ("red", "yellow") and distance > -LINE_GAP):
            return self._stop("signal", distance, state.v, _LINE_BRAKE, -1, 3.0)
        return self._stop("signal", None, state.v, 0.0, -1)

    def _signs(self, state: State) -> Proposal | None:
        lowest = None
        for sign in self._task.world.signs:
            if sign.kind != "stop" or sign.line is None:
                continue
            distance = sign.line - state.s - FRONT - LINE_GAP
            if state.v < 0.05 and distance < 3.0:
                self._stood.setdefault(sign.line, state.t)
            done = state.t - self._stood.get(sign.line, INF) >= _DWELL or distance < -3.0
            key = f"sign {sign.line}"
            proposal = self._stop(key, None if done else distance, state.v, _LINE_BRAKE, -1)
            lowest = _lower(lowest, proposal)
        return lowest

    def _crossing(self, state: State) -> tuple[Proposal | None, Proposal | None]:
        """Lets those pass whose path crosses the route before the ego is through."""
        found: dict[str, Proposal | None] = {"vru": None, "conflict": None}
        for row in state.rows:
            meeting = row.other.meeting
            if meeting is None:
                continue
            kind = "vru" if row.other.actor.kind.vulnerable else "conflict"
            key = f"{kind} {row.number}"
            if self._must_yield(row, state):
                stop = self._before(meeting.s[0], kind, state) - FRONT - state.s
                proposal = self._stop(key, stop, state.v, 0.75, row.number)
            else:
                proposal = self._stop(key, None, state.v, 0.0, row.number)
            found[kind] = _lower(found[kind], proposal)
        return found["vru"], found["conflict"]

    def _must_yield(self, row: Row, state: State) -> bool:
        meeting, vulnerable = row.other.meeting, row.other.actor.kind.vulnerable
        low, high = meeting.s
        over = row.gone > meeting.end or state.s + FRONT > low + 0.5
        inside = meeting.begin <= row.gone <= meeting.end
        if over or (row.still and not inside):
            self._yields.discard(row.number)
            self._since.pop(("meets", row.number), None)
            return False
        if row.number in self._yields:
            return True
        # Someone who has just stepped off is about to walk at a walker's speed.
        pace = max(row.v, 1.2)
        comes, leaves = (meeting.begin - row.gone) / pace, (meeting.end - row.gone) / pace
        speed = max(state.v, 3.0)
        arrives = (low - FRONT - state.s) / speed
        through = (high + REAR - state.s) / speed
        margin = 1.5 if vulnerable else 1.2
        seen = comes < 5.0
        if not (seen and comes - margin < through and leaves + margin > arrives):
            self._since.pop(("meets", row.number), None)
            return False
        since = self._since.setdefault(("meets", row.number), state.t)
        if state.t - since >= self._style.reaction - 1e-6:
            self._yields.add(row.number)
            return True
        return False

    def _before(self, s: float, kind: str, state: State) -> float:
        """Where the bumper stops to let somebody pass at s: also before a crosswalk or a line."""
        layout = self._task.world.layout
        stop = s - _BEFORE[kind]
        lines = [junction[0] - 0.5 for junction in layout.junctions]
        if self._task.world.signal is not None:
            lines.append(self._task.world.signal.s - LINE_GAP)
        ahead = [line for line in lines if state.s + FRONT + 1.0 < line < stop + 2.0]
        near = [line for line in ahead if line > stop - 12.0]
        return min([stop, *near])

    def _gap(self, state: State) -> Proposal | None:
        """Follows, gently, who is beside or ahead in the lane that the ego wants to be in."""
        lowest = None
        for row in state.rows:
            if row.d > self._task.world.layout.width / 2 and row.speed > 1.0:
                gap = row.rear - state.s - FRONT
                if row.front > state.s - 2.0 and gap < 40.0:
                    accel = max(self._follow(max(gap, 2.5), row.speed, state.v), -1.6)
                    lowest = _lower(lowest, (accel, row.number))
        return lowest

    def _passing(self, state: State) -> Proposal | None:
        """Slows down beside cones and barriers."""
        near = [
            row for row in state.rows
            if row.other.actor.kind in (Kind.CONE, Kind.BARRIER)
            and row.front > state.s and row.rear - state.s - FRONT < 30.0
        ]  # fmt: skip
        if not near:
            return None
        nearest = min(near, key=lambda row: row.rear)
        distance = max(nearest.rear - state.s - FRONT - 6.0, 0.0)
        limit = math.sqrt(_PASSING**2 + 2.0 * self._style.brake * distance)
        slope = -self._style.brake if distance > 0.0 else 0.0
        return min(slope, 0.0) * (state.v > 0.9 * limit) + 1.5 * (limit - state.v), nearest.number

    def _stop(
        self, key: str, distance: float | None, v: float, from_brake: float, actor: int,
        hardest: float = _FIRM,
    ) -> Proposal | None:  # fmt: skip
        """Tracks v = gain * distance**_TAIL to a stop; the gain is set when braking begins.

        Args:
          key: of the reason.
          distance: metres left to the bumper's place, or None to let go.
          v: speed.
          from_brake: share of comfortable braking that must be needed to begin.
          actor: number, for the proposal.
          hardest: braking in m/s^2 beyond which it is too late to begin.
        """
        if distance is None:
            self._gains[key] = None
            return None
        gain = self._gains.get(key)
        if gain is None:
            if v < 0.05:
                gain = 1.0 if distance < 4.0 else None
            elif distance > 0.0:
                needed = _TAIL * v * v / distance
                if from_brake * self._style.brake <= needed <= hardest:
                    gain = v / distance**_TAIL
            self._gains[key] = gain
            if gain is None:
                return None
        if distance < 0.0:
            return -3.0, actor
        distance = max(distance, 0.01)
        target = gain * distance**_TAIL
        return -_TAIL * gain * distance ** (_TAIL - 1.0) * v + 1.5 * (target - v), actor


def _free(v: float, style: Style) -> float:
    """IDM without a lead; above the set speed a gentle return to it."""
    if v > style.set_speed:
        return max(0.8 * (style.set_speed - v), -1.0)
    return style.accel * (1.0 - (v / style.set_speed) ** 4)


def _lower(one: Proposal | None, other: Proposal | None) -> Proposal | None:
    if one is None or other is None:
        return one or other
    return min(one, other, key=lambda proposal: proposal[0])
