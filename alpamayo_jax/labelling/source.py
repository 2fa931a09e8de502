"""Labels as the reasoning of a source of clips, for training."""

import dataclasses
import pathlib

from alpamayo_jax.clip import Clip, ReasoningLabel
from alpamayo_jax.coc.schema import CocLabel, Status, read_labels
from alpamayo_jax.data.sources import ClipSource, Window
from alpamayo_jax.types import InputError

HOLD_S = 2.0  # how long after its keyframe a label is the reasoning of a window


class WithLabels:
    """A source whose clips have labels as their reasoning, in place of any that they came with.

    A label is the reasoning of windows from its keyframe on, until the next label or for `hold_s`.
    Rejected labels are left out, and clips without a label have no reasoning.
    """

    def __init__(self, source: ClipSource, labels: str | pathlib.Path, hold_s: float = HOLD_S):
        """Reads the labels.

        Args:
          source: the clips.
          labels: file of labels, or the folder in which it is `labels.jsonl`.
          hold_s: seconds.

        Raises:
          InputError: no such file, or a defective line.
        """
        path = pathlib.Path(labels)
        self.name = source.name
        self._source, self._hold = source, hold_s
        self._labels: dict[str, list[CocLabel]] = {}
        for label in read_labels(path / "labels.jsonl" if path.is_dir() else path):
            if label.status is not Status.REJECTED:
                self._labels.setdefault(label.clip, []).append(label)

    def __len__(self) -> int:
        return len(self._source)

    def clip(self, index: int) -> Clip:
        """Clip number `index` with its labels; an empty text ends a label."""
        clip = self._source.clip(index)
        own = sorted(self._labels.get(clip.clip_id, []), key=lambda label: label.keyframe_s)
        reasoning: list[ReasoningLabel] = []
        for i, label in enumerate(own):
            reasoning.append(ReasoningLabel(label.keyframe_s, label.trace))
            end = label.keyframe_s + self._hold
            if i + 1 == len(own) or own[i + 1].keyframe_s > end:
                reasoning.append(ReasoningLabel(end, ""))
        return dataclasses.replace(clip, reasoning=tuple(reasoning))

    def label(self, index: int, t0: float) -> CocLabel | None:
        """The label that is the reasoning of a window, or None."""
        own = self._labels.get(self._source.clip(index).clip_id, [])
        begun = [x for x in own if -1e-3 <= t0 - x.keyframe_s < self._hold - 1e-3]
        return max(begun, key=lambda x: x.keyframe_s, default=None)

    def labelled(self, windows: tuple[Window, ...]) -> tuple[Window, ...]:
        """Those windows whose t0 has a label.

        Raises:
          InputError: none has.
        """
        found = [(number, t0) for number, t0 in windows if self.label(number, t0) is not None]
        if not found:
            raise InputError(
                f"labels: none of {len(windows)} windows of {self.name} lies within {self._hold} s "
                f"after the keyframe of a label; are they labels of these clips?"
            )
        return tuple(found)
