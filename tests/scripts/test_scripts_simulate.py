"""experiments/simulate.py: policies in closed loop, and what is refused."""


import pytest
from script_process import (
    MAX_NEW_TOKENS,
    NUM_FRAMES,
    assert_refused,
    read_summary,
    run_script,
    snapshot,
)

from alpamayo_jax.metrics.closed_loop import TIME_AGGREGATION
from alpamayo_jax.metrics.closed_loop_scores import DERIVED

STREETS = ("--scenes=procedural", "--num_scenes=2", "--seconds=5")


def simulate(policy, workdir, *more):
    done = run_script("simulate", f"--policy={policy}", f"--workdir={workdir}", *more)
    assert done.returncode == 0, done.stderr
    return done, read_summary(workdir)


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What the route follower printed and wrote of two streets, twice each."""
    pytest.importorskip("av")
    pytest.importorskip("rerun")
    workdir = tmp_path_factory.mktemp("simulate") / "out"
    more = ("--rollouts=2", "--show=1", "--rerun")
    return (*simulate("route_follower", workdir, *STREETS, *more), workdir)


def test_the_workdir_has_page_video_recording_and_summary(followed):
    files = snapshot(followed[2])
    kinds = sorted(name.rpartition(".")[2] for name in files)
    assert kinds == ["html", "json", "mp4", "rrd"]
    stems = {name.rpartition(".")[0] for name in files if name[-4:] in (".mp4", ".rrd")}
    assert len(stems) == 1 and stems.pop().endswith("-0")


def test_the_summary_has_every_metric_under_its_name(followed):
    done, summary, _ = followed
    for name in (*TIME_AGGREGATION, *DERIVED):
        assert name in summary and f"{name}_std" in summary, name
    for name in ("alpasim_score", "alpasim_score_at_fault"):
        assert name in summary and f"{name}_std" in summary
    assert 0.0 <= summary["scene_score"] <= 1.0
    assert summary["simulated_seconds_per_second"] > 1.0
    assert summary["simulated_seconds"] == pytest.approx(2 * 2 * 5.0)
    assert summary["policy"] == "route_follower" and summary["rollouts"] == 2
    assert summary["progress_std"] == pytest.approx(0.0, abs=1e-6)  # it draws no random numbers
    assert "all" in summary["per_scenario"] and "times real time" in done.stdout
    assert "simulate: 100%" in done.stderr


def test_the_page_shows_the_worst_scene(followed):
    page = (followed[2] / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") >= 3 and "policy route_follower" in page
    assert "Beside this page: " in page


def test_the_recorded_driver_does_nothing_wrong(clips_folder, tmp_path):
    _, summary = simulate("recorded", tmp_path / "out", f"--scenes={clips_folder}", "--show=0")
    assert summary["scenes"] == 2 and summary["incidents"] == 0
    assert summary["alpasim_score"] is None  # no incident
    assert summary["scene_score"] > 0.99 and summary["dist_to_gt_trajectory"] < 1.0
    assert summary["min_ade@2.5s"] < 0.01


def test_a_checkpoint_drives_and_reasons(pipeline_run, tmp_path):
    _, summary = simulate(
        pipeline_run.checkpoint, tmp_path / "out", *STREETS, "--num_samples=2", "--batch_size=2",
        f"--max_new_tokens={MAX_NEW_TOKENS}", f"--num_frames={NUM_FRAMES}", "--plan_every=10",
        "--show=1", "--novideo",
    )  # fmt: skip
    assert summary["scenes"] == 2 and summary["img_is_black"] == 0
    assert summary["plan_deviation"] >= 0 and summary["min_ade@0.5s"] > 0


def test_a_policy_by_module_and_name(tmp_path):
    own = "alpamayo_jax.closed_loop.policies:constant_velocity"
    found = [
        simulate(name, tmp_path / str(i), *STREETS, "--show=0")[1]
        for i, name in enumerate((own, "constant_velocity"))
    ]
    assert found[0].pop("policy") == own and found[1].pop("policy") == "constant_velocity"
    for summary in found:
        for name in [name for name in summary if "second" in name]:
            del summary[name]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "policy, scenes, words",
    [
        ("/no/such/policy", "procedural", ("/no/such/policy", "route_follower", "MODULE:NAME")),
        ("no_such_module:f", "procedural", ("no_such_module",)),
        ("json:no_such_name", "procedural", ("no_such_name",)),
        ("recorded", "procedural:flying", ("'flying'", "pedestrian_crosses")),
        ("recorded", "/no/such/clips", ("/no/such/clips",)),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, policy, scenes, words):
    done = run_script(
        "simulate", f"--policy={policy}", f"--scenes={scenes}", f"--workdir={tmp_path}"
    )
    assert_refused(done, "simulate", *words)


def test_a_policy_that_looks_cannot_drive_in_a_recording(pipeline_run, clips_folder, tmp_path):
    flags = (
        f"--policy={pipeline_run.checkpoint}", f"--scenes={clips_folder}", f"--workdir={tmp_path}",
    )  # fmt: skip
    assert_refused(run_script("simulate", *flags), "simulate", "cameras left out")


def test_a_warm_up_that_leaves_nothing_is_refused(tmp_path):
    flags = ("--policy=recorded", f"--workdir={tmp_path}", *STREETS, "--warmup=50")
    assert_refused(run_script("simulate", *flags), "simulate", "warm-up of 50")
