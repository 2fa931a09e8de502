"""What the labelling model is asked, and the JSON schemas of its answers.

Two questions per keyframe, as people label in two stages (section 4 of the paper). The first shows
the two seconds before the keyframe only, and asks what matters there; the second shows six more
seconds and asks for the decision, and for a trace that uses nothing but the first answer. So no
cause can come from the future: the model has not seen it when it names the causes.
"""

from typing import Any, Sequence

from alpamayo_jax.coc.component import ATTRIBUTES, MAX_COMPONENTS, Component, Kind
from alpamayo_jax.coc.decisions import Lateral, Longitudinal, Side, SpeedDetail
from alpamayo_jax.coc.endpoint import image_part, text_part
from alpamayo_jax.coc.frames import Picture
from alpamayo_jax.coc.scenarios import ScenarioClass

PROMPT_VERSION = 1  # labels say which one made them; raise it with every change of a text below

SYSTEM = (
    "You label driving recordings for a dataset that teaches a car to explain its decisions. You "
    "are exact and brief. You describe only what can be seen or read in what you are given. You "
    "answer with one JSON object and nothing else."
)

LONGITUDINAL_MEANING = {
    Longitudinal.SET_SPEED: "reach or hold the wanted speed; nothing constrains it",
    Longitudinal.FOLLOW_LEAD: "keep a safe time gap to the closest road user ahead in the own path",
    Longitudinal.ADAPT_SPEED: "slow for the road: curve, grade, bump, ramp, roundabout, turn",
    Longitudinal.SEARCH_GAP: "match another stream's speed for a planned lane change or merge",
    Longitudinal.PASS: "speed up to pass a slower road user, with a lateral plan",
    Longitudinal.YIELD: "slow or stop for particular road users: people, crossing traffic, "
    "cut-ins, emergency vehicles",
    Longitudinal.STOP: "slow down to, or stand at, a control point: line, red light, sign, barrier",
}
LATERAL_MEANING = {
    Lateral.KEEP_LANE: "stay in the lane; only where nothing else below fits",
    Lateral.MERGE_SPLIT: "change from one road to another: ramp, merge, split",
    Lateral.OUT_OF_LANE_NUDGE: "cross the lane line partly to get around something, then return",
    Lateral.IN_LANE_NUDGE: "move aside within the lane",
    Lateral.LANE_CHANGE: "go to a neighbouring lane of the same road",
    Lateral.PULL_OVER: "approach the curb or shoulder to stop there",
    Lateral.TURN: "turn at an intersection or roundabout, or turn around",
    Lateral.ABORT: "give up a lateral manoeuvre that had begun and return",
}

_SEEN = """\
The {pictures} below show the last {history:.0f} seconds up to now. Times are in seconds; 0 is now.

Motion of the own car (measured):
{motion}

Its manoeuvres:
{actions}

List what a careful driver would base the next decision on, and nothing else: at most {most} \
entries, the most decisive first. Name a thing only if it can be seen in a picture or read in the \
measurements; never guess what may happen next. A crosswalk counts only while somebody crosses or \
waits at it. "seconds_before" is how long before now the entry was true and in view (0 is now). \
Use null for attributes that cannot be told. Where nothing matters, answer with an empty list."""

_DECIDED = """\
The {pictures} below show the last {history:.0f} seconds up to now, and the {future:.0f} seconds \
that followed. Times are in seconds; 0 is now.

Motion of the own car (measured):
{motion}

Its manoeuvres:
{actions}

What was in view before now, by number:
{components}

Decide which decision the car took first after now, at most one for its speed and at most one for \
its path; null where that channel does not change.

Speed:
{longitudinal}

Path:
{lateral}

Rules:
- The later pictures only tell which decision was taken. They are no reason for it.
- "causes": the numbers, from the list above, of what caused the decision, the immediate cause \
first. A stopped vehicle directly ahead is the cause, not the red light that it waits for.
- If none of them explains the decision, give no causes and say why in "unobserved".
- "trace": one or two sentences in the imperative: the decision, then its cause. Use only the \
listed causes, never the times, never words such as "potential", "likely" or "might".
- "lateral_detail": left or right of a nudge, lane change or turn; merge or split; else null.
- "usable" is false where the recording must not be learned from: the car breaks a rule or drives \
unsafely, or the pictures show nothing; then say so in "unusable_reason".{hint}"""


def seen_messages(
    pictures_are: str, pictures: Sequence[Picture], t0: float, motion: str, actions: str,
    history_s: float,
) -> tuple[dict[str, Any], ...]:  # fmt: skip
    """The first question.

    Args:
      pictures_are: what the pictures are, for example "camera".
      pictures: of the time up to the keyframe only.
      t0: the keyframe.
      motion, actions: `timeline.motion_lines` and `timeline.action_lines` up to the keyframe.
      history_s: seconds that they cover.
    """
    text = _SEEN.format(
        pictures=f"{pictures_are} pictures",
        history=history_s,
        motion=motion,
        actions=actions,
        most=MAX_COMPONENTS // 2,
    )
    return _messages(text, pictures, t0)


def decided_messages(
    pictures_are: str, pictures: Sequence[Picture], t0: float, motion: str, actions: str,
    history_s: float, future_s: float, components: Sequence[Component],
    scenario: ScenarioClass | None = None,
) -> tuple[dict[str, Any], ...]:  # fmt: skip
    """The second question; `components` are the first one's answer, the rest as there."""
    listed = "\n".join(f"{i}: {describe(c, t0)}" for i, c in enumerate(components))
    hint = "" if scenario is None else f"\n- The moment was chosen as: {scenario.value}."
    text = _DECIDED.format(
        pictures=f"{pictures_are} pictures",
        history=history_s,
        future=future_s,
        motion=motion,
        actions=actions,
        components=listed or "(nothing)",
        longitudinal="\n".join(f"- {name}: {say}" for name, say in LONGITUDINAL_MEANING.items()),
        lateral="\n".join(f"- {name}: {say}" for name, say in LATERAL_MEANING.items()),
        hint=hint,
    )
    return _messages(text, pictures, t0)


def words(name: str) -> str:
    """A name of an enumeration as a person reads it."""
    return name.replace("_", " ")


def component_words(component: Component) -> str:
    """What is said about a component, without its kind and times: "vehicle, in path, slowing"."""
    given = component.attributes
    values = [words(given[name]) for name in ATTRIBUTES[component.kind] if name in given]
    values = list({value.lower(): value for value in reversed(values)}.values())[::-1]
    return ", ".join(values) or "nothing said"


def describe(component: Component, t0: float) -> str:
    """A component in words, for example "critical_object type=vehicle pose=in_path (at -0.5 s)"."""
    words = " ".join(f"{name}={value}" for name, value in component.attributes.items())
    return f"{component.kind} {words} (at {component.seen_at - t0:+.1f} s)".replace("  ", " ")


def _messages(text: str, pictures: Sequence[Picture], t0: float) -> tuple[dict[str, Any], ...]:
    parts = [text_part(text)]
    for picture in pictures:
        parts += [text_part(f"t = {picture.t - t0:+.1f} s"), image_part(picture.data)]
    return (
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": parts},
    )


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    # Strict structured output wants every property required and nothing more.
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _optional(values: Sequence[str] | None) -> dict[str, Any]:
    if values is None:
        return {"type": ["string", "null"]}
    return {"type": ["string", "null"], "enum": [*values, None]}


def seen_schema() -> dict[str, Any]:
    """JSON schema of the first answer."""
    kinds = [
        _object({
            "kind": {"type": "string", "enum": [kind.value]},
            "attributes": _object({name: _optional(v) for name, v in ATTRIBUTES[kind].items()}),
            "seconds_before": {"type": "number"},
        })
        for kind in Kind
    ]
    return _object({"components": {"type": "array", "items": {"anyOf": kinds}}})


def decided_schema() -> dict[str, Any]:
    """JSON schema of the second answer."""
    return _object({
        "usable": {"type": "boolean"},
        "unusable_reason": {"type": ["string", "null"]},
        "scenario_class": {"type": "string", "enum": [s.value for s in ScenarioClass]},
        "longitudinal": _optional([d.value for d in Longitudinal]),
        "longitudinal_detail": _optional([d.value for d in SpeedDetail]),
        "lateral": _optional([d.value for d in Lateral]),
        "lateral_detail": _optional([s.value for s in Side]),
        "causes": {"type": "array", "items": {"type": "integer"}},
        "unobserved": {"type": ["string", "null"]},
        "trace": {"type": "string"},
    })
