"""Labels as the reasoning of windows."""

import dataclasses

from absl.testing import parameterized
import coc_scenes as scenes
import pytest

from alpamayo_jax import settings
from alpamayo_jax.coc.rules.labeller import label_clip
from alpamayo_jax.coc.schema import Status, append_labels
from alpamayo_jax.data.windows import target
from alpamayo_jax.labelling import WithLabels
from alpamayo_jax.types import InputError


class Source:
    name = "two drives"

    def __init__(self):
        self.clips = [scenes.braking_behind_lead("a"), scenes.braking_behind_lead("b")]

    def __len__(self):
        return len(self.clips)

    def clip(self, index):
        return self.clips[index]


class WithLabelsTest(parameterized.TestCase):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.path = tmp_path / "labels.jsonl"
        (self.label,) = label_clip(Source().clip(0))[0]

    def write(self, *labels):
        append_labels(self.path, labels)
        return WithLabels(Source(), self.path, hold_s=1.5)

    def again(self, t):
        seen = tuple(dataclasses.replace(c, seen_at=t) for c in self.label.components)
        return dataclasses.replace(self.label, keyframe_s=t, components=seen)

    def test_the_trace_holds_for_a_while(self):
        source = self.write(self.label)
        clip, t = source.clip(0).validate(), self.label.keyframe_s
        assert target(clip, t).reasoning == target(clip, t + 1.4).reasoning == self.label.trace
        assert target(clip, t - 0.1).reasoning == target(clip, t + 1.6).reasoning == ""
        assert source.clip(1).reasoning == () and len(source) == 2

    def test_the_next_label_ends_it(self):
        later = dataclasses.replace(self.again(self.label.keyframe_s + 1.0), trace="Another one.")
        clip = self.write(later, self.label).clip(0).validate()
        assert target(clip, self.label.keyframe_s + 0.9).reasoning == self.label.trace
        assert target(clip, self.label.keyframe_s + 1.0).reasoning == "Another one."

    def test_rejected_labels_are_left_out(self):
        source = self.write(dataclasses.replace(self.label, status=Status.REJECTED))
        assert source.clip(0).reasoning == ()

    def test_the_windows_that_have_one(self):
        source, t = self.write(self.label), self.label.keyframe_s
        windows = ((0, t - 1.0), (0, t), (0, t + 1.0), (0, t + 2.0), (1, t))
        assert source.labelled(windows) == ((0, t), (0, t + 1.0))
        with pytest.raises(InputError, match="none of 1 windows"):
            source.labelled(((1, t),))

    def test_a_folder_of_labels(self):
        self.write(self.label)
        assert WithLabels(Source(), self.path.parent).clip(0).reasoning

    def test_no_labels_there(self):
        with pytest.raises(InputError, match="cannot be read"):
            WithLabels(Source(), self.path)


def test_the_knob_of_training():
    assert settings.DataSettings().labels == ""
    assert settings.train_config().data.labels == ""
