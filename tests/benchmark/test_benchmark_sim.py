"""The simulator's suite, on a few short scenes."""

import pytest

from alpamayo_jax.benchmark import sim


def test_growth_compares_sixteen_times_as_many():
    phases = {"a/1_scenes": {"median": 2.0}, "a/16_scenes": {"median": 8.0},
              "b/16_scenes": {"median": 1.0}}  # fmt: skip
    assert sim._growth(phases) == {"a: 1_scenes to 16_scenes": 4.0}


@pytest.mark.slow
def test_all_phases():
    load = sim.Load(
        counts=(1,), distinct=1, seconds=4.0, camera_counts=(1,), camera_seconds=4.0,
        policies=("constant_velocity",),
    )  # fmt: skip
    found = sim.run(load, rounds=1)
    names = ("constant_velocity", "metrics", "camera")
    assert set(found["phases"]) == {f"{name}/1_scenes" for name in names}
    assert all(row["simulated_seconds_per_second"] > 0 for row in found["phases"].values())
    assert found["phases"]["camera/1_scenes"]["frames"] == 40 - 17
    assert found["growth"] == {}
