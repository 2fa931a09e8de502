"""A page about labels: counts, what the checks say, and keyframes with the facts they rest on."""

import collections
import dataclasses
import json
import pathlib
from typing import Any, Iterable, Sequence

import numpy as np

from alpamayo_jax.action.meta_actions import (
    LateralAction,
    LongitudinalAction,
    lateral_actions,
    longitudinal_actions,
    spans,
)
from alpamayo_jax.clip import Clip
from alpamayo_jax.coc import motion
from alpamayo_jax.coc.annotated import NOT_ANNOTATED, Annotations
from alpamayo_jax.coc.balance import per_class, per_decision
from alpamayo_jax.coc.checks import RULES, Failure, check_label
from alpamayo_jax.coc.component import Component
from alpamayo_jax.coc.frames import camera_pictures
from alpamayo_jax.coc.lane_moves import LaneAction, lane_actions
from alpamayo_jax.coc.lanes import roads_of
from alpamayo_jax.coc.rules.labeller import AUTHOR
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.data.sources import ClipSource
from alpamayo_jax.types import InputError
from alpamayo_jax.viz.drive import front_camera
from alpamayo_jax.viz.keyframe import Mark, keyframe_picture
from alpamayo_jax.viz.report import Report
from alpamayo_jax.viz.scene import local_track, scene_at

_BEFORE_S, _AFTER_S = 2.0, 6.0  # what the pictures show of the drive
_LARGEST_REJECTED = 64 * 2**20  # bytes of rejected.jsonl that are read


@dataclasses.dataclass(frozen=True)
class Checked:
    """A label, the number of its clip in the source, and what the checks say."""

    label: CocLabel
    clip: int
    failures: tuple[Failure, ...]


def check_labels(labels: Sequence[CocLabel], source: ClipSource) -> list[Checked]:
    """Runs all checks; what was made by rules must be annotated too.

    Raises:
      InputError: a label is of a clip that the source does not have.
    """
    numbers = {_name(source, i): i for i in range(len(source))}
    checked, annotations = [], (-1, None)
    for label in sorted(labels, key=lambda label: numbers.get(label.clip, -1)):
        number = numbers.get(label.clip)
        if number is None:
            raise InputError(
                f"labels: clip {label.clip!r} is not in {source.name}; give the store that was "
                f"labelled"
            )
        if annotations[0] != number:
            annotations = number, Annotations(source.clip(number))
        evidence = label.author == AUTHOR
        failures = check_label(label) + annotations[1].check(label, evidence)
        checked.append(Checked(label, number, tuple(failures)))
    return checked


def _name(source: ClipSource, index: int) -> str:
    named = getattr(source, "clip_name", None)
    return named(index) if named is not None else source.clip(index).clip_id


def failures_per_rule(checked: Iterable[Checked]) -> dict[str, int]:
    """Labels that fail each rule, those that none fails too."""
    found = collections.Counter(
        rule for one in checked for rule in {failure.rule for failure in one.failures}
    )
    return {rule: found[rule] for rule in (*RULES, NOT_ANNOTATED)}


def rejected_rules(folder: pathlib.Path) -> dict[str, int]:
    """Keyframes without a label by rule, from rejected.jsonl in `folder`; empty without one."""
    path = folder / "rejected.jsonl"
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_REJECTED:
        raise InputError(f"labels: {path} is larger than {_LARGEST_REJECTED} bytes")
    found: collections.Counter[str] = collections.Counter()
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            found[str(json.loads(line)["rule"])] += 1
        except (ValueError, KeyError, TypeError) as error:
            where = f"labels: {path}:{number}"
            raise InputError(f"{where}: is no rejected keyframe: {error}") from error
    return dict(sorted(found.items()))


def choose(checked: Sequence[Checked], count: int) -> list[Checked]:
    """At most `count` labels to show: of every class before a second of any, then by clip."""
    turns: dict[str, int] = {}
    order = []
    for one in checked:
        turn = turns.get(one.label.scenario, 0)
        turns[one.label.scenario] = turn + 1
        order.append((turn, len(order)))
    kept = sorted(range(len(checked)), key=lambda i: order[i])[:count]
    return [checked[i] for i in sorted(kept)]


def label_picture(clip: Clip, label: CocLabel, path: pathlib.Path | None = None) -> bytes:
    """What was known at the keyframe, from above, with what the label cites marked."""
    t0 = label.keyframe_s
    seen = motion.seen_until(clip, t0)
    scene = scene_at(seen, t0)
    own = motion.ego_motion(clip.ego)
    around = (own.t >= t0 - _BEFORE_S - 1e-6) & (own.t <= t0 + _AFTER_S + 1e-6)
    return keyframe_picture(
        path,
        scene,
        local_track(clip, t0, t0 - _BEFORE_S, t0),
        local_track(clip, t0, t0 + 0.05, t0 + _AFTER_S),
        _marks(seen, t0, label.components),
        (own.t[around] - t0, own.speed[around]),
        title=f"{label.clip} at {t0:.1f} s",
        words=(label.trace, *_caption(label)),
    )


def _marks(clip: Clip, t0: float, components: Sequence[Component]) -> list[Mark]:
    """Where the cited road users and lights are, in the ego frame at t0."""
    own = motion.ego_motion(clip.ego)
    k = own.index(t0)
    cos, sin = np.cos(own.heading[k]), np.sin(own.heading[k])
    marks = []
    places = []
    for component in components:
        if component.track is not None and clip.agents is not None:
            rows = np.flatnonzero(clip.agents.track == component.track)
            if len(rows):
                row = rows[np.argmax(clip.agents.t[rows])]
                radius = float(np.hypot(*clip.agents.lwh[row, :2])) / 2 + 0.8
                places.append((clip.agents.xyz[row], radius, f"track {component.track}"))
        elif component.kind == "traffic_light":
            lights = [e for e in clip.events if e.kind == "traffic_light" and e.xyz is not None]
            if lights:
                nearest = min(
                    lights, key=lambda e: float(np.hypot(*(np.asarray(e.xyz[:2]) - own.xy[k])))
                )
                places.append((np.asarray(nearest.xyz), 1.5, component.attributes["state"]))
    for xyz, radius, name in places:
        dx, dy = xyz[:2] - own.xy[k]
        marks.append(Mark(dx * cos + dy * sin, dy * cos - dx * sin, radius, name))
    return marks


def fact_rows(label: CocLabel) -> list[dict[str, Any]]:
    """The components of a label as rows of a table."""
    return [
        {
            "component": component.kind.value.replace("_", " "),
            "described as": ", ".join(f"{k} {v}" for k, v in component.attributes.items()),
            "track": "" if component.track is None else str(component.track),
            "seen at": f"{component.seen_at:.1f} s",
            "measured": ", ".join(f"{k} {_value(v)}" for k, v in component.fact.items()),
        }
        for component in label.components
    ]


def _value(value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f"{value:.3g}" if number else str(value)


def label_page(
    checked: Sequence[Checked], source: ClipSource, rejected: dict[str, int], pictures: int
) -> Report:
    """The page.

    Args:
      checked: all labels.
      source: their clips.
      rejected: keyframes without a label, by rule.
      pictures: how many keyframes are shown.
    """
    labels = [one.label for one in checked]
    bad = sum(bool(one.failures) for one in checked)
    clips = len({one.clip for one in checked})
    report = Report("Labels of the Chain of Causation", f"{source.name}").figures(
        {"labels": len(labels), "clips with labels": clips, "fail a check": bad,
         "keyframes without a label": sum(rejected.values())}
    )  # fmt: skip
    report.section("Counts")
    for name, counts in (
        ("scenario class", per_class(labels)), ("decision", per_decision(labels)),
    ):  # fmt: skip
        report.table([{name: key, "labels": str(n)} for key, n in counts.items() if n])
    report.section("Checks", "Labels that fail each check.")
    report.table([{"rule": k, "labels": str(n)} for k, n in failures_per_rule(checked).items()])
    if rejected:
        report.text("Keyframes that got no label, by the rule that turned them down.")
        report.table([{"rule": k, "keyframes": str(n)} for k, n in rejected.items()])
    shown = choose(checked, pictures)
    report.section(
        "Keyframes",
        "Each picture shows what was known at the keyframe, from above; what the trace rests on is "
        "circled. The dashed green line, and the speed after 0 s, came later: they show which "
        "decision was taken, and no cause is taken from them.",
    )
    for one in shown:
        label = one.label
        clip, name = source.clip(one.clip), f"{label.clip} at {label.keyframe_s:.1f} s"
        report.picture(label_picture(clip, label), f"{name}: {label.trace}")
        if front_camera(clip.cameras) is not None:
            try:
                frames = camera_pictures(clip, [label.keyframe_s], latest=label.keyframe_s)
                report.picture(frames[0].data, f"{name}, what the front camera saw last")
            except InputError as error:  # a page of many drives is not stopped by one frame
                report.text(str(error))
        report.table(fact_rows(label))
        for failure in one.failures:
            report.text(f"Fails {failure.rule}: {failure.message}")
    report.section("Meta-actions", "What the ego does in the drives above, at 10 Hz.")
    report.table(meta_action_rows(source, sorted({one.clip for one in shown})))
    return report


def meta_action_rows(source: ClipSource, numbers: Sequence[int]) -> list[dict[str, str]]:
    """Meta-actions of clips in order of time: the clip, the channel, what it does until when."""
    rows = []
    for number in numbers:
        clip = source.clip(number)
        own = motion.ego_motion(clip.ego)
        step = np.linalg.norm(np.diff(own.xy, axis=0), axis=-1)
        step = np.concatenate([step[:1], step])
        channels = {
            "longitudinal": (longitudinal_actions(own.speed), LongitudinalAction),
            "lateral": (lateral_actions(own.speed, own.heading, step), LateralAction),
        }
        if clip.map_lines is not None:
            channels["lane"] = lane_actions(own, roads_of(clip.map_lines)), LaneAction
        for channel, (labels, kind) in channels.items():
            words = [f"{s.name} until {own.t[s.end - 1]:.1f} s" for s in spans(labels, kind)]
            rows.append({"clip": clip.clip_id, "channel": channel, "actions": ", ".join(words)})
    return rows


def _caption(label: CocLabel) -> list[str]:
    """Class, decisions and author in words."""
    lines = [f"Class: {label.scenario.replace('_', ' ')}"]
    for channel, decision, detail in (
        ("Longitudinal", label.longitudinal, label.longitudinal_detail),
        ("Lateral", label.lateral, label.lateral_detail),
    ):
        if decision is not None:
            words = f"{decision}, {detail}" if detail else str(decision)
            lines.append(f"{channel}: {words.replace('_', ' ')}")
    return [*lines, f"By {label.author}, {label.status}"]
