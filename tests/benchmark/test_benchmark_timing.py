"""Times, devices, versions."""

import time

import pytest

from alpamayo_jax.benchmark import timing


def test_alternate_takes_turns():
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds if len(order) > 2 else 0.05)

        return run

    times = timing.alternate({"a": call("a", 0.001), "b": call("b", 0.01)}, rounds=3)
    assert order == ["a", "b"] * 5  # one that compiles, one that warms up, three that count
    assert len(times["a"].seconds) == len(times["b"].seconds) == 3
    assert times["a"].first > 0.04 > times["a"].median
    assert times["b"].median > times["a"].median > 0


@pytest.mark.parametrize("seconds, spread", [
    ([3.0], [3.0, 3.0]), ([2.0, 1.0, 3.0], [1.0, 3.0]), (list(range(1, 12)), [2, 10]),
])  # fmt: skip
def test_row(seconds, spread):
    row = timing.Times(tuple(seconds), first=9.0).row()
    assert row["spread"] == spread and row["times"] == len(seconds) and row["first"] == 9.0
    assert row["median"] == sorted(seconds)[len(seconds) // 2]


def test_where_it_was_measured():
    device = timing.describe_device()
    assert device["platform"] == "cpu" and device["kind"] and device["cores"] >= 1
    assert device["peak_flops"] > 1e8 and "measured" in device["peak_is"]
    assert {"python", "jax", "numpy"} <= set(timing.versions())
