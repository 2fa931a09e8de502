"""A page about the procedural world: each scenario family in pictures, its label, and its proof.

A cause is the true one where the expert drives differently without it; who is called a bystander is
one where the expert drives the same without them.
"""

import dataclasses
import io

import numpy as np
from PIL import Image

from alpamayo_jax.coc.checks import check_label
from alpamayo_jax.coc.schema import CocLabel
from alpamayo_jax.labelling.report import fact_rows
from alpamayo_jax.sim import camera, labels, scenarios
from alpamayo_jax.sim.renderer import Rig, Stage
from alpamayo_jax.sim.scenarios import FAMILIES, Run
from alpamayo_jax.viz.report import Report

MOMENTS_S = (-1.5, 0.0, 1.5, 3.0, 4.5)  # seconds from the keyframe of the pictures of a strip
IMAGE_SIZE = (320, 192)


@dataclasses.dataclass(frozen=True)
class Shown:
    """A scenario and what the page says about it.

    Attributes:
      family: key of `FAMILIES`.
      run: the played scenario.
      label: of its moment, or None where it ends before it.
      failures: what the checks of labels say.
      without_cause: metres by which the drive changes at most with the cause taken away.
      without_bystanders: metres by which it changes without those who do not concern the ego.
    """

    family: str
    run: Run
    label: CocLabel | None
    failures: tuple[str, ...]
    without_cause: float
    without_bystanders: float


def show(family: str, seed: int, index: int = 0, seconds: float = 20.0) -> Shown:
    """Draws, plays, labels and checks one scenario of a family.

    Raises:
      ConfigError: an unknown family, or an argument out of range.
    """
    scenario = scenarios.sample_scenario(seed, index, seconds, family)
    run = scenarios.play(scenario)
    label = labels.label_of(run, f"{family}-{seed}-{index}", labels.explanations(run))
    failures = () if label is None else tuple(f.message for f in check_label(label))
    return Shown(
        family=family,
        run=run,
        label=label,
        failures=failures,
        without_cause=_apart(run, scenarios.play(scenarios.without_cause(scenario))),
        without_bystanders=_apart(run, scenarios.play(scenarios.without_bystanders(scenario))),
    )


def _apart(one: Run, other: Run) -> float:
    """Largest distance in metres between two drives at the same time."""
    return float(np.linalg.norm(one.drive.pose[:, :2] - other.drive.pose[:, :2], axis=-1).max())


def strip(shown: Shown, rig: Rig) -> bytes:
    """PNG of the front camera at `MOMENTS_S` around the keyframe, side by side."""
    run = shown.run
    key = 5.0 if shown.label is None else shown.label.keyframe_s
    stage, last = Stage(run.world, run.motions), len(run.drive.t) - 1
    steps = [int(np.clip(round((key + moment) * 10), 0, last)) for moment in MOMENTS_S]
    frames = [stage.render(rig, k, run.drive.pose[k])[0] for k in steps]
    out = io.BytesIO()
    Image.fromarray(np.concatenate(frames, 1)).save(out, "PNG")
    return out.getvalue()


def family_rows(found: list[Shown]) -> list[dict[str, str]]:
    """One row of the table of families for each."""
    return [
        {
            "family": one.family,
            "scenario class": FAMILIES[one.family].scenario.value,
            "cause": one.run.scenario.cause,
            "without the cause": f"{one.without_cause:.1f} m",
            "without bystanders": f"{one.without_bystanders:.1f} m",
            "label": "none" if one.label is None else "fails" if one.failures else "good",
        }
        for one in found
    ]


def family_page(found: list[Shown]) -> Report:
    """The page: a table of all, then a strip of pictures with its label for each."""
    rig = Rig((camera.make_view(camera.FRONT, *IMAGE_SIZE),))
    labelled = [one for one in found if one.label is not None]
    report = Report("The procedural long tail", "What the expert meets, and why").figures(
        {
            "families": len({one.family for one in found}),
            "scenario classes": len({FAMILIES[one.family].scenario for one in found}),
            "with a label": len(labelled),
            "fail a check": sum(bool(one.failures) for one in labelled),
        }
    )
    report.section(
        "Causes",
        "How far the expert's drive moves, at the most, when the scenario is played again with its "
        "cause taken away, and without those who do not concern the ego.",
    )
    report.table(family_rows(found))
    moments = [f"{moment:+.1f} s" if moment else "the keyframe" for moment in MOMENTS_S]
    report.section("Families", f"From left to right: {', '.join(moments)}.")
    for one in found:
        name = one.family.replace("_", " ")
        words = "no label: the clip ends before the moment"
        words = words if one.label is None else one.label.trace
        scenario = FAMILIES[one.family].scenario.value
        report.picture(strip(one, rig), f"{name} ({scenario}, {one.run.world.weather}): {words}")
        if one.label is not None:
            report.table(fact_rows(one.label))
        for failure in one.failures:
            report.text(f"Fails a check: {failure}")
    return report
