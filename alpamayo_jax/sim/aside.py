"""When the expert moves aside: past what stands in its way, into another lane, and back."""

import dataclasses

from alpamayo_jax.sim.seen import FRONT, HALF, REAR
from alpamayo_jax.sim.sideways import Move, Swerve
from alpamayo_jax.sim.style import Row, State, Task
from alpamayo_jax.sim.world import Kind

# Metres that the expert likes to leave beside it.
_MARGIN = {Kind.CYCLIST: 1.1, Kind.PEDESTRIAN: 1.1, Kind.CONE: 0.45, Kind.BARRIER: 0.45}
_MARGIN_OF_CAR = 0.75
_CLOSES = (Kind.CONE, Kind.BARRIER)
_SLOW = 3.6  # m/s below which somebody is passed in the lane
_CENTRE = 0.9  # metres; who stands nearer to the middle of the lane is followed, not passed
_WAIT = 11.0  # metres left before what must wait to be passed
_SLOWER = 0.82  # share of the set speed below which a lead is worth passing
_STEADY = 0.6  # seconds for which a reason and a gap must last


@dataclasses.dataclass
class Aside:
    """Where the expert wants to be sideways, and why.

    Attributes:
      task: the drive.
      base: offset of the lane that it is in.
      moves: decisions so far.
      waits: (s of the bumper, number of the blocker) while the way aside is blocked.
      blocker: number of who blocks a lane change or the way aside, or -1.
      merging: whether it looks for a gap in the lane beside.
      passes: numbers of those whom it is about to pass.
    """

    task: Task
    base: float = 0.0
    moves: list[Move] = dataclasses.field(default_factory=list)
    waits: tuple[float, int] | None = None
    blocker: int = -1
    merging: bool = False
    passes: frozenset[int] = frozenset()
    _gone: tuple[float, float] = (0.0, 0.0)

    def update(self, state: State) -> Swerve:
        """The swerve from this step on."""
        self.waits, self.blocker, self.merging = None, -1, False
        self.passes = frozenset()
        swerve = self._lane(state)
        if swerve is not None:
            return swerve
        target, actor = self._needed(state)
        if abs(target - state.swerve.target) < 0.08:
            return state.swerve
        outward = abs(target - self.base) > abs(state.swerve.target - self.base)
        length = self._length(state, abs(target - state.swerve.at(state.s)[0]))
        side = "left" if target > state.swerve.target else "right"
        width = self.task.world.layout.width
        leaves = abs(target - self.base) + HALF > width / 2
        kind = "nudge" if outward else "return"
        if not self.moves or self.moves[-1].kind != kind or kind == "nudge" and (
            self.moves[-1].actor != actor and state.k - self.moves[-1].step > 40
        ):
            self.moves.append(Move(state.k, kind, side, target, actor, leaves))
        elif kind == "nudge" and leaves and not self.moves[-1].leaves:
            last = self.moves[-1]
            self.moves[-1] = Move(last.step, kind, last.side, target, last.actor, True)
        return state.swerve.towards(state.s, target, length)

    def _length(self, state: State, shift: float) -> float:
        """Metres for a move: comfortable at this speed, and no sharper than the car can turn."""
        return max(2.6 * state.v, 7.5 * max(shift, 0.2) ** 0.5, 9.0)

    def _needed(self, state: State) -> tuple[float, int]:
        """(offset to be at, actor) for what stands beside or in the way soon, else the base."""
        layout, target, actor = self.task.world.layout, self.base, -1
        passes: set[int] = set()
        for row in sorted(state.rows, key=lambda row: row.rear):
            if not self._passable(row):
                continue
            kind = row.other.actor.kind
            margin = _MARGIN.get(kind, _MARGIN_OF_CAR)
            # A closed part of a lane is passed on the side where traffic comes from, all of it.
            side = 1.0 if row.d < self.base or kind in _CLOSES else -1.0
            wanted = row.d + side * (row.aside + margin + HALF)
            if side * (wanted - self.base) <= 0.05:
                continue
            length = self._length(state, abs(wanted - state.swerve.at(state.s)[0]))
            distance = row.rear - state.s - FRONT
            if row.front < state.s - REAR - 1.0:
                continue
            already = abs(state.swerve.target - self.base) > 0.08 and distance < 25.0 + length
            limit = layout.width / 2 - HALF - 0.05
            outside = side * (wanted - self.base) > limit + 0.12
            passes.add(row.number)
            if not outside and not already and distance > length + 4.0:
                continue
            if outside and not already:
                if distance > max(length + 6.0, 0.34 * state.v**2 + 16.0):
                    continue
                blocker = self._oncoming(row, state) if side > 0 else -1
                if blocker >= 0:
                    self.waits, self.blocker = (row.rear - _WAIT, row.number), blocker
                    passes.discard(row.number)
                    continue
                if distance > length + 6.0:
                    continue
            if side * (wanted - target) > 0.0 or target == self.base:
                target, actor = wanted, row.number
        self.passes = frozenset(passes)
        return target, actor

    def _passable(self, row: Row) -> bool:
        kind = row.other.actor.kind
        if row.other.meeting is not None or row.front < 0.0 or kind is Kind.PEDESTRIAN:
            return False
        if kind in _CLOSES:
            return abs(row.d - self.base) < self.task.world.layout.width / 2 + 0.9
        slow = row.v < _SLOW if kind is Kind.CYCLIST else row.still and not row.blinks
        return slow and abs(row.d - self.base) > _CENTRE and row.speed > -0.5

    def _oncoming(self, row: Row, state: State) -> int:
        """Number of who comes along the other lane before the ego is past `row`, or -1."""
        end = max(
            other.front
            for other in state.rows
            if self._passable(other) and row.rear <= other.rear < row.front + 40.0
        )
        speed = max(state.v, 4.0)
        time = (end + REAR + 14.0 - state.s) / speed + (1.8 if state.v < 3.0 else 0.5)
        for other in state.rows:
            if other.speed < -0.5 and other.front > state.s and other.d > 1.0:
                if other.rear + other.speed * time < end + 12.0:
                    return other.number
        return -1

    def _lane(self, state: State) -> Swerve | None:
        """A change to the lane on the left: to pass a slow lead, or because the own lane ends."""
        layout, style = self.task.world.layout, self.task.style
        beside = [lane for lane in layout.beside
                  if lane.direction > 0 and lane.d > self.base + 1.0
                  and lane.s[0] <= state.s <= lane.s[1]]  # fmt: skip
        if not beside or self.base > 0.5:
            return None
        target = beside[0].d
        merges = layout.lane_end - state.s < 200.0
        lead = self._slow_lead(state) if style.overtakes else -1
        if not merges and lead < 0:
            self._gone = (state.t, state.t)
            return None
        reason, free = self._gone
        blocker = self._beside(state, target)
        if blocker >= 0:
            free = state.t
        self._gone = (reason, free)
        self.merging = merges
        ready = state.t - reason >= _STEADY and state.t - free >= _STEADY
        if not ready or state.v < 2.0:
            self.blocker = blocker
            return None
        self.base, self.merging = target, False
        kind = "merge" if merges else "lane_change"
        self.moves.append(Move(state.k, kind, "left", target, lead, True))
        length = min(max(4.0 * state.v, 22.0), 75.0)
        return state.swerve.towards(state.s, target, length)

    def _slow_lead(self, state: State) -> int:
        """Number of a lead that is slower than the ego would like to be, or -1."""
        for row in state.rows:
            gap = row.rear - state.s - FRONT
            ahead = abs(row.d - self.base) < 1.3 and 0.0 < gap < 15.0 + 2.6 * state.v
            if ahead and 1.0 < row.speed < _SLOWER * self.task.style.set_speed:
                if row.other.actor.kind.vehicle:
                    return row.number
        return -1

    def _beside(self, state: State, target: float) -> int:
        """Number of who is in the way in the lane at offset `target`, or -1."""
        for row in state.rows:
            if abs(row.d - target) > 1.8 or row.speed < -0.5:
                continue
            slower, faster = max(state.v - row.speed, 0.0), max(row.speed - state.v, 0.0)
            gap_ahead = row.rear - state.s - FRONT
            gap_behind = state.s - REAR - row.front
            if gap_ahead < 4.0 + 3.0 * slower and gap_behind < 5.0 + 3.5 * faster:
                return row.number
        return -1
