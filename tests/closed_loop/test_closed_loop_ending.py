"""The closed-loop end of the pipeline: knobs, numbers, and the section of the report."""

import dataclasses
import importlib.util
import pathlib

import pytest
from loop_runs import make_run

from alpamayo_jax import recipe, reporting
from alpamayo_jax.closed_loop import scene_list
from alpamayo_jax.closed_loop.policies import POLICIES
from alpamayo_jax.config import ConfigError
from alpamayo_jax.sim.scenarios import FAMILIES
from alpamayo_jax.types import InputError
from alpamayo_jax.viz.report import Report

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "configs" / "tiny.py"


def config(**knobs):
    spec = importlib.util.spec_from_file_location("tiny_config_file", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.get_config()
    made.closed_loop.update(knobs)
    return made


@pytest.fixture
def calls(monkeypatch):
    """What would be driven, in place of driving it."""
    found = []

    def run(scenes, driver, *, seed, settings, progress):
        found.append((scenes, driver, seed, settings))
        return make_run()

    monkeypatch.setattr(recipe.runner, "run", run)
    return found


def test_the_policy_and_every_baseline_drive_new_streets(calls):
    made = config(scenes=2, seconds=4.0, plan_every=7)
    policy = recipe.make_policy(made)
    runs = recipe.drive_closed_loop(made, policy, progress=False)
    assert list(runs) == ["policy", *POLICIES] and len(calls) == 4
    scenes, _, seed, settings = calls[0]
    first = made.data.num_clips + made.data.num_test_clips
    assert [scene.name.split("-")[2] for scene in scenes] == [f"{first:05d}", f"{first + 1:05d}"]
    assert seed == made.seed and settings.plan_every == 7
    assert len(scenes[0].arrays.ego_pose) == 41


def test_nothing_is_driven_where_it_is_not_asked_for(calls):
    made = config(scenes=0)
    assert recipe.drive_closed_loop(made, policy=None) == {}
    del made.closed_loop
    assert recipe.drive_closed_loop(made, policy=None) == {} and calls == []
    assert reporting.closed_loop_numbers({}) == {}


@pytest.mark.parametrize("knob, value", [("scenes", -1), ("seconds", 2.0), ("plan_every", 0)])
def test_knobs_are_checked_before_training(knob, value):
    with pytest.raises(ConfigError, match=f"closed_loop.{knob}"):
        recipe.check(config(**{knob: value}))


def test_numbers_are_flat_and_named_by_policy():
    numbers = reporting.closed_loop_numbers({"policy": make_run(), "recorded": make_run()})
    assert numbers["closed_loop_scene_score"] == pytest.approx(0.75)
    assert numbers["closed_loop_incidents"] == numbers["closed_loop_incidents_recorded"] == 1
    assert numbers["closed_loop_kilometres"] == pytest.approx((3 * 42 + 23) / 1000)
    assert len(numbers) == 14 and all(isinstance(value, float) for value in numbers.values())


def test_the_section_shows_every_policy_and_the_worst_street():
    report = Report("x")
    runs = {"policy": make_run(), "constant_velocity": make_run()}
    reporting.add_closed_loop(report, runs, cameras=None)
    page = report.html()
    assert "constant velocity" in page and "busy/street" in page
    empty = Report("x")
    reporting.add_closed_loop(empty, {}, cameras=None)
    assert "Closed loop" not in empty.html()


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
