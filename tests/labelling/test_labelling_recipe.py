"""Labels in the configuration of training."""

import dataclasses

import pytest

from alpamayo_jax import recipe, settings
from alpamayo_jax.coc.rules.labeller import label_clip
from alpamayo_jax.coc.schema import append_labels
from alpamayo_jax.data.windows import target
from alpamayo_jax.types import InputError


def config(**knobs):
    made = settings.train_config()
    values = dict(num_clips=2, num_test_clips=1, train_stride_s=0.5) | knobs
    for name, value in values.items():
        made.data[name] = value
    return made


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Labels of the first two clips that the configuration draws."""
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    source = recipe.make_data(config()).source
    found = [label for i in range(2) for label in label_clip(source.clip(i))[0]]
    assert found
    append_labels(path, found)
    return path, found


@pytest.mark.parametrize("mirror", [False, True])
def test_only_windows_with_a_label_train_and_say_it(labels, mirror):
    path, found = labels
    data = recipe.make_data(config(labels=str(path), mirror=mirror))
    plain = recipe.make_data(config())
    assert 0 < len(data.training_windows) < (1 + mirror) * len(plain.training_windows)
    traces = {label.trace for label in found}
    for number, t0 in data.training_windows:
        said = target(data.training_source.clip(number), t0).reasoning
        assert said and (mirror or said in traces)
    assert data.split.test == plain.split.test


def test_labels_of_other_clips(labels, tmp_path):
    _, found = labels
    append_labels(tmp_path / "labels.jsonl", [dataclasses.replace(x, clip="no") for x in found[:1]])
    with pytest.raises(InputError, match="none of"):
        recipe.make_data(config(labels=str(tmp_path)))
