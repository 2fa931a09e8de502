"""The closed-loop end of the pipeline: its numbers, and the section of the report."""

import pytest
from loop_runs import make_run

from alpamayo_jax import reporting
from alpamayo_jax.viz.report import Report


def test_nothing_driven_is_no_number():
    assert reporting.closed_loop_numbers({}) == {}


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
