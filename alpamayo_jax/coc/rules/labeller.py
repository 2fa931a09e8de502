"""Labels of a clip by rules, without any model.

Moments come from the ego's motion; for each, the scene as it was known at the keyframe is searched
for a cause. A moment whose cause nothing in the annotation shows gets no label: it is counted under
the rule that turned it down.
"""

import dataclasses
from typing import Callable

import numpy as np

from alpamayo_jax.clip import Clip
from alpamayo_jax.coc import keyframes, lane_moves
from alpamayo_jax.coc.keyframes import Change, Moment
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.motion import ego_motion
from alpamayo_jax.coc.rules import causes, explain
from alpamayo_jax.coc.rules.explain import Reason
from alpamayo_jax.coc.rules.scene import Scene, scene_at
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel

AUTHOR, VERSION = "rules", 1
PAST_S, FUTURE_S = 2.0, 3.0  # what a keyframe needs around it: to see, and to tell the decision
_LATE_S = 1.5  # of a change must be left where it began before the clip
_GOES_ON_S = 3.0  # after the onset, in which the cause of a long change may come into view
_SHIFT = 0.1  # seconds by which a keyframe is moved towards the onset to find the cause
_MOST = 0.7  # of a turn
_APART_S, _PROACTIVE_APART_S = 1.0, 4.0
_LATERAL = (Change.LANE_CHANGE, Change.NUDGE, Change.TURN, Change.BEND)
_RESOLVES = (Change.START, Change.FASTER)


@dataclasses.dataclass(frozen=True)
class Rejected:
    """A moment that got no label: when, by which rule, and why."""

    t: float
    rule: str
    reason: str


@dataclasses.dataclass(frozen=True)
class _Draft:
    t: float
    moment: Moment
    reason: Reason
    late: bool = False


def label_clip(clip: Clip) -> tuple[list[CocLabel], list[Rejected]]:
    """The labels of a clip in order of time, and what got none.

    Args:
      clip: with road users or a map, or both; a drive without either gets no label.

    Returns:
      Valid labels with `author` "rules", and the rejected moments.
    """
    if clip.agents is None and clip.map_lines is None:
        return [], [Rejected(float(clip.ego.t[0]), "no_annotation", "no road users and no map")]
    return _Labeller(clip).run()


def keyframes_of(clip: Clip) -> list[float]:
    """Keyframes of a clip for somebody else to label, in order, at least a second apart.

    They come from the ego's motion, and from the lanes where the clip has a map; seconds.
    """
    return _Labeller(clip).keyframes()


class _Labeller:
    def __init__(self, clip: Clip):
        self.clip = clip
        self.motion = ego_motion(clip.ego)
        self.roads = roads_of(clip.map_lines)
        self.track = lane_moves.lane_track(self.motion, self.roads)
        self.first = float(clip.ego.t[0]) + PAST_S
        self.last = float(clip.ego.t[-1]) - FUTURE_S
        self.rejected: list[Rejected] = []
        self._scenes: dict[float, Scene] = {}

    def scene(self, t: float) -> Scene:
        t = float(self.motion.t[self.motion.index(t)])
        if t not in self._scenes:
            self._scenes[t] = scene_at(self.clip, t, self.motion, self.roads)
        return self._scenes[t]

    def run(self) -> tuple[list[CocLabel], list[Rejected]]:
        motion, roads, track = self.motion, self.roads, self.track
        speed = keyframes.speed_moments(motion)
        turns = keyframes.turn_moments(motion)
        lateral = lane_moves.lane_changes(motion, roads, track)
        lateral += lane_moves.nudges(motion, roads, track)
        drafts = self._explain(sorted(speed + lateral, key=lambda moment: moment.t))
        drafts += self._quiet(self._explain(turns, quietly=True), drafts)
        passing = keyframes.junction_moments(motion, roads)
        passing += keyframes.stop_line_moments(motion, roads)
        proactive = self._explain(passing, quietly=True)
        proactive += self._persons()
        drafts += self._quiet(sorted(proactive, key=lambda draft: draft.t), drafts)
        labels, scenario = [], None
        for group in _groups(sorted(drafts, key=lambda draft: draft.t)):
            label, scenario = self._label(group, turns, scenario)
            if label is not None:
                labels.append(label)
        return labels, sorted(self.rejected, key=lambda entry: entry.t)

    def keyframes(self) -> list[float]:
        motion, roads, track = self.motion, self.roads, self.track
        moments = keyframes.speed_moments(motion) + keyframes.turn_moments(motion)
        moments += lane_moves.lane_changes(motion, roads, track)
        moments += lane_moves.nudges(motion, roads, track)
        chosen: list[float] = []
        for moment in sorted(moments, key=lambda m: (m.t, m.change)):
            t = max(moment.t, self.first)
            seen = moment.t >= self.first or moment.end - self.first >= _LATE_S
            if seen and t <= self.last and all(abs(t - other) >= _APART_S for other in chosen):
                chosen.append(round(t, 3))
        return chosen

    def _explain(self, moments: list[Moment], quietly: bool = False) -> list[_Draft]:
        """Drafts of the moments that have a cause; the others are rejected, unless `quietly`."""
        drafts = []
        for moment in moments:
            t, late = moment.t, False
            if t < self.first:
                if moment.end - self.first < _LATE_S or moment.change is Change.TURN:
                    self._reject(moment, "not_observed", "it begins before 2 s are seen", quietly)
                    continue
                t, late = self.first, True
            if t > self.last:
                self._reject(moment, "no_future", "the clip ends before it is decided", quietly)
                continue
            until = min(max(moment.onset, t), self.last)
            for at, last_resort in self._tries(t, until, moment):
                scene = self.scene(float(at))
                reason = self._reason(scene, moment, last_resort)
                if reason is not None:
                    late = late or scene.t > moment.onset + 1e-6
                    drafts.append(_Draft(scene.t, moment, reason, late))
                    break
            else:
                self._reject(
                    moment, "no_cause", f"nothing annotated explains the {moment.change}", quietly
                )
        return drafts

    def _tries(self, t: float, until: float, moment: Moment) -> list[tuple[float, bool]]:
        """(keyframe, whether weak causes count): up to the onset, then while it goes on."""
        tries = [(at, False) for at in np.arange(t, until + 1e-6, _SHIFT)] + [(t, True)]
        if moment.change in (Change.SLOW, Change.STOP):
            last = min(until + _GOES_ON_S, moment.end - _LATE_S, self.last)
            tries += [(at, False) for at in np.arange(until + 0.5, last + 1e-6, 0.5)]
        return tries

    def _reason(self, scene: Scene, moment: Moment, last_resort: bool = False) -> Reason | None:
        if moment.change in (Change.SLOW, Change.STOP):
            return explain.slow(scene, moment, steady=last_resort)
        if moment.change is Change.NUDGE:
            leaves = lane_moves.leaves_lane(self.motion, self.roads, self.track, moment)
            return explain.nudge(scene, moment, leaves)
        if moment.change is Change.START:
            return explain.start(scene, moment, lambda back: self.scene(scene.t - back))
        rules: dict[Change, Callable[[Scene, Moment], Reason | None]] = {
            Change.STAND: explain.stand,
            Change.FASTER: explain.faster,
            Change.TURN: explain.turn,
            Change.BEND: explain.bend,
            Change.JUNCTION: explain.junction,
            Change.LANE_CHANGE: explain.lane_change,
        }
        return rules[moment.change](scene, moment)

    def _persons(self) -> list[_Draft]:
        """People beside the path who do not cross, each once, where the ego does not slow down."""
        found, seen = [], set()
        for t in np.arange(self.first, self.last, 1.0):
            scene = self.scene(float(t))
            reason = explain.person(scene)
            k = self.motion.index(t)
            if reason is None or self.motion.speed[k : k + 25].min() < 0.8 * self.motion.speed[k]:
                continue
            track = reason.causes[0].component.track
            if track not in seen:
                seen.add(track)
                moment = Moment(scene.t, scene.t, scene.t, Change.JUNCTION)
                found.append(_Draft(scene.t, moment, reason))
        return found

    def _quiet(self, drafts: list[_Draft], taken: list[_Draft]) -> list[_Draft]:
        """Those that are far enough from every other, where the speed does not contradict them."""
        kept: list[_Draft] = []
        for draft in drafts:
            turn = draft.moment.change is Change.TURN
            apart = _APART_S if turn else _PROACTIVE_APART_S
            others = taken + kept
            if not turn and any(abs(other.t - draft.t) < apart for other in others):
                continue
            k = self.motion.index(draft.t)
            coming = self.motion.speed[k : k + 25]
            if draft.reason.detail == "keep" and coming.min() < 0.8 * self.motion.speed[k]:
                continue
            kept.append(draft)
        return kept

    def _label(
        self, group: list[_Draft], turns: list[Moment], before: ScenarioClass | None
    ) -> tuple[CocLabel | None, ScenarioClass | None]:
        """One label of the drafts of one moment, and the class that it leaves behind."""
        speed = next((d for d in group if d.reason.longitudinal is not None), None)
        side = next((d for d in group if d.reason.lateral is not None), None)
        first = speed or side
        scene = self.scene(first.t)
        # What a label cites is seen at its own keyframe, not at that of the other channel.
        lateral = self._reason(scene, side.moment) if side is not None else None
        if lateral is None and first.reason.detail != "stay_stopped":
            coming = [m for m in turns if m.onset < first.t + 3.0 and self._mostly_left(m, first.t)]
            turn = explain.turn(scene, coming[0]) if coming else None
            lateral = turn if turn is not None and turn.lateral is not None else None
        reasons = [r for r in (speed and speed.reason, lateral) if r is not None]
        scenario = next((r.scenario for r in reasons if r.scenario is not None), before)
        if scenario is None and causes.junction(scene, 20.0) is not None:
            scenario = ScenarioClass.INTERSECTION
        if scenario is None:
            self._reject(first.moment, "no_class", "it belongs to none of the sixteen classes")
            return None, before
        sentences = [r.words for r in reversed(reasons)]
        words = ", and ".join([sentences[0], *(s[0].lower() + s[1:] for s in sentences[1:])])
        components = []
        for reason in reasons:
            for cause in reason.causes:
                if cause.component not in components:
                    components.append(cause.component)
        label = CocLabel(
            clip=self.clip.clip_id,
            keyframe_s=round(first.t, 3),
            scenario=scenario,
            longitudinal=speed.reason.longitudinal if speed else None,
            longitudinal_detail=str(speed.reason.detail) if speed else "",
            lateral=lateral.lateral if lateral else None,
            lateral_detail=lateral.side if lateral else "",
            components=tuple(
                dataclasses.replace(c, seen_at=round(c.seen_at, 3)) for c in components
            ),
            trace=f"{words}.",
            author=AUTHOR,
            provenance={
                "labeller": AUTHOR,
                "version": VERSION,
                "change": first.moment.change.value,
                "onset_s": round(first.moment.onset, 3),
                "end_s": round(first.moment.end, 3),
                "late": first.late,
            },
        )
        return label.validate(), scenario

    def _mostly_left(self, turn: Moment, t: float) -> bool:
        """Whether most of a turn is still to come at time t."""
        heading = self.motion.heading
        begin, end = self.motion.index(max(t, turn.onset)), self.motion.index(turn.end)
        return end > begin and (heading[end] - heading[begin]) / turn.size > _MOST

    def _reject(self, moment: Moment, rule: str, reason: str, quietly: bool = False) -> None:
        if not quietly:
            self.rejected.append(Rejected(round(moment.t, 3), rule, reason))


def _groups(drafts: list[_Draft]) -> list[list[_Draft]]:
    """Drafts of one moment: at most one of each channel, less than `_APART_S` apart."""
    groups: list[list[_Draft]] = []
    for draft in drafts:
        if groups and draft.t - groups[-1][0].t < _APART_S:
            lateral = draft.reason.lateral is not None
            if any((d.reason.lateral is not None) == lateral for d in groups[-1]):
                continue
            groups[-1].append(draft)
        else:
            groups.append([draft])
    return groups
