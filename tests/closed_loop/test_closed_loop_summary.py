"""A run as numbers and rows, and what ended each rollout."""

import math

import numpy as np
import pytest
from loop_runs import K, TICKS, WARMUP, make_run

from alpamayo_jax.closed_loop import summary
from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION


@pytest.fixture
def run():
    return make_run()


def test_what_ended_a_rollout(run):
    end = summary.ending(run, 1, 0)
    assert (end.tick, end.event) == (40, "collision_front") and "front" in end.words
    for scene, rollout in ((0, 0), (0, 1), (1, 1)):
        end = summary.ending(run, scene, rollout)
        assert (end.tick, end.event) == (TICKS - 1, "") and "end of the recording" in end.words


@pytest.mark.parametrize("name", ("collision_rear", "collision_lateral", "offroad"))
@pytest.mark.parametrize("tick", (WARMUP, 30, TICKS - 1))
def test_the_first_event_ends_it(run, name, tick):
    run.steps[name][:, :, tick:] = 1.0
    assert summary.ending(run, 0, 0).event == name and summary.ending(run, 0, 0).tick == tick
    assert summary.ending(run, 1, 0).tick == min(tick, 40)


def test_what_happens_in_the_warm_up_does_not_end_it(run):
    run.steps["offroad"][0, 0, 5:10] = 1.0
    assert summary.ending(run, 0, 0).event == ""


def test_far_from_the_recording_is_an_end_too(run):
    run.steps["dist_to_gt_trajectory"][1, 0, 35:] = 4.0
    end = summary.ending(run, 1, 0)
    assert (end.tick, end.event) == (35, "dist_to_gt_trajectory")
    run.steps["offroad"][1, 0, 34:] = 1.0
    assert summary.ending(run, 1, 0).event == "offroad"


def test_numbers_have_every_metric_under_its_name(run):
    values = summary.numbers(run)
    for name in run.steps:
        assert name in values and f"{name}_std" in values
    assert set(run.steps) <= set(TIME_AGGREGATION)
    for name in ("collision_at_fault", "offroad_or_collision", "duration_frac_20s"):
        assert name in values
    assert values["collision_front"] == pytest.approx(0.25)  # one of four rollouts
    assert values["collision_any_std"] == pytest.approx(np.std([0.5, 0.0], ddof=1))
    assert values["incidents"] == values["incidents_at_fault"] == 1
    assert values["scene_score"] == pytest.approx(0.75)
    assert values["simulated_seconds_per_second"] == pytest.approx(12.0)
    assert (values["scenes"], values["rollouts"], values["rollouts_kept"]) == (2, K, 2 * K)
    assert values["controller_failures"] == 0


def test_the_score_is_kilometres_per_incident(run):
    # Rollout 0: 42 m of scene 0 and 23 m of scene 1 after the warm-up, one incident; 1: none.
    values = summary.numbers(run)
    assert math.isinf(values["alpasim_score"])
    run.steps["offroad"][0, 1, 50:] = 1.0
    again = summary.numbers(run)
    assert again["alpasim_score"] == pytest.approx((65 + 33 + 42) / 2 / 1000)
    assert again["alpasim_score_at_fault"] == pytest.approx(again["alpasim_score"])
    assert again["incidents"] == 2


def test_the_warm_up_counts_as_driven_in_strict_scores(run):
    loose, strict = (summary.numbers(run, strict=s)["dist_traveled_m"] for s in (False, True))
    assert strict - loose == pytest.approx(WARMUP)


def test_strict_scores_are_of_the_strict_steps(run):
    run.strict_steps["offroad"][:, :, 30:] = 1.0
    loose, strict = (summary.numbers(run, strict=s)["offroad"] for s in (False, True))
    assert (loose, strict) == (0.0, 1.0)


def test_a_controller_that_fails_is_counted_where_there_was_a_plan(run):
    run.rollout.solved[0, 0, 10] = run.rollout.solved[0, 0, 20] = False
    assert summary.numbers(run)["controller_failures"] == 1


def test_rows_per_class(run):
    rows = summary.class_rows(run)
    assert [row["scenario"] for row in rows] == ["curvy_road", "stop_for_lead", "all"]
    assert [row["scenes"] for row in rows] == [1, 1, 2]
    assert [row["collision"] for row in rows] == [0.0, 0.5, 0.25]
    assert math.isinf(rows[0]["km per incident"])


def test_rows_per_rollout(run):
    rows = summary.scene_rows(run)
    assert [(row["scene"], row["rollout"]) for row in rows] == [
        ("empty", 0), ("empty", 1), ("busy/street", 0), ("busy/street", 1),
    ]  # fmt: skip
    assert rows[2]["ended"] == "collided at the front at 4.0 s"
    assert rows[2]["driven, m"] == pytest.approx(40 - WARMUP) and rows[2]["scene score"] == 0.0
    assert rows[0]["scene score"] == 1.0


def test_the_worst_come_first(run):
    assert summary.worst(run, 5) == [1, 0] and summary.worst(run, 1) == [1]
