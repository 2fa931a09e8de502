"""Labels of a played scenario, for free: traces for training, and the Chain-of-Causation label."""

from alpamayo_jax.clip import GRID_DT, ReasoningLabel
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.sim.explain import OUTCOME, REACTION, Explainer, Explanation
from alpamayo_jax.sim.scenarios import Run

AUTHOR = "simulator"
_SHORTEST = 8  # steps; a shorter-lived trace is not worth a label
_PAST = 16  # steps of history that a label should have before it
_FALLBACK = "Keep to the lane."


def explanations(run: Run) -> list[Explanation | None]:
    """One for each step whose reaction lies within the clip; None where nothing is seen yet."""
    explainer = Explainer(run)
    count = max(len(run.drive.t) - REACTION - OUTCOME, 1)
    return [explainer.at(k) for k in range(count)]


def reasoning_labels(found: list[Explanation | None]) -> tuple[ReasoningLabel, ...]:
    """Traces in order of time, the first at time 0; each holds until the next."""
    texts: list[str] = []
    for one in found:
        texts.append(one.text if one is not None else texts[-1] if texts else _FALLBACK)
    starts = [0] + [k for k in range(1, len(texts)) if texts[k] != texts[k - 1]]
    ends = starts[1:] + [len(texts)]
    labels: list[ReasoningLabel] = []
    for start, end in zip(starts, ends):
        repeats = bool(labels) and labels[-1].text == texts[start]
        if start == 0 or (end - start >= _SHORTEST and not repeats):
            labels.append(ReasoningLabel(round(start * GRID_DT, 3), texts[start]))
    return tuple(labels)


def label_of(run: Run, clip_id: str, found: list[Explanation | None]) -> CocLabel | None:
    """The label of the moment that a scenario is about, or None where the clip ends before it.

    Args:
      run: the played scenario.
      clip_id: what its clip is called.
      found: `explanations` of it.

    Returns:
      A valid label of the scenario's class: at the first step that is explained so, with enough
      history where there is one.
    """
    wanted = run.scenario.scenario_class
    steps = [k for k, one in enumerate(found) if one is not None and one.scenario is wanted]
    if not steps:
        return None
    late = [k for k in steps if k >= _PAST]
    k = late[0] if late else steps[0]
    one = found[k]
    return CocLabel(
        clip=clip_id,
        keyframe_s=round(float(run.drive.t[k]), 3),
        scenario=wanted,
        longitudinal=one.longitudinal,
        longitudinal_detail=str(one.detail),
        lateral=one.lateral,
        lateral_detail=one.side,
        components=one.components,
        trace=one.text,
        author=AUTHOR,
        provenance={
            "family": run.scenario.family,
            "cause": run.scenario.cause,
            "weather": run.world.weather,
        },
    ).validate()
