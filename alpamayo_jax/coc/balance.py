"""How many labels there are of each class and decision, and no more than so many of each class."""

import collections
import hashlib
from typing import Iterable, Sequence

from alpamayo_jax.coc.decisions import Lateral, Longitudinal
from alpamayo_jax.coc.scenarios import ScenarioClass
from alpamayo_jax.coc.schema import CocLabel


def per_class(labels: Iterable[CocLabel]) -> dict[str, int]:
    """Labels of each of the sixteen classes, those without any too."""
    found = collections.Counter(label.scenario for label in labels)
    return {scenario.value: found[scenario] for scenario in ScenarioClass}


def per_decision(labels: Sequence[CocLabel]) -> dict[str, int]:
    """Labels with each of the fifteen decisions, those without any too."""
    found = collections.Counter(label.longitudinal for label in labels)
    found.update(label.lateral for label in labels)
    return {decision.value: found[decision] for decision in (*Longitudinal, *Lateral)}


def balance(labels: Sequence[CocLabel], most: int) -> list[CocLabel]:
    """At most `most` labels of each class, in the order given; 0: all.

    Which ones is drawn by a hash of clip and keyframe, so that the same labels are kept wherever
    they are drawn from, and a larger `most` keeps all that a smaller one did.
    """
    if not most:
        return list(labels)
    kept = set()
    for scenario in ScenarioClass:
        own = [label for label in labels if label.scenario is scenario]
        kept |= {label.key for label in sorted(own, key=_draw)[:most]}
    return [label for label in labels if label.key in kept]


def _draw(label: CocLabel) -> bytes:
    clip, milliseconds = label.key
    return hashlib.sha256(f"{milliseconds} {clip}".encode()).digest()
