"""Scenes by name: simulated ones of a family or of all, and recorded ones of a folder."""

import dataclasses

import pytest

from alpamayo_jax.closed_loop import scene_list
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.scenarios import FAMILIES
from alpamayo_jax.types import InputError


def test_procedural_scenes_by_name():
    one = scene_list.list_scenes("procedural:pedestrian_waits", seconds=4.0)
    two = scene_list.list_scenes("procedural", count=2, seed=3, seconds=4.0, first=5)
    assert [scene.family for scene in one] == ["pedestrian_waits"]
    assert [scene.name.split("-")[1:3] for scene in two] == [["3", "00005"], ["3", "00006"]]
    again = scene_list.list_scenes("procedural", count=1, seed=3, seconds=4.0, first=5)[0]
    for field in dataclasses.fields(again.arrays):
        same = getattr(again.arrays, field.name) == getattr(two[0].arrays, field.name)
        assert same.all(), field.name


def test_one_scene_of_each_family_by_default(monkeypatch):
    asked = []
    monkeypatch.setattr(
        scene_list, "procedural_scene", lambda seed, index, **how: asked.append(index)
    )
    scene_list.list_scenes("procedural")
    assert asked == list(range(len(FAMILIES)))


def test_scenes_of_recorded_clips(real_clips_dir):
    found = scene_list.list_scenes(str(real_clips_dir / "av2"), count=1)
    assert len(found) == 1 and found[0].world is None and found[0].clip is not None


@pytest.mark.parametrize(
    "name, error, words",
    [
        ("procedural:flying_cars", ConfigError, "flying_cars"),
        ("/no/such/folder", InputError, "/no/such/folder"),
    ],
)
def test_scenes_that_are_not_there(name, error, words):
    with pytest.raises(error, match=words):
        scene_list.list_scenes(name)
