"""experiments/ablate_rewards.py: its rows and files, going on, and what it refuses."""

import json

import pytest
from script_process import assert_refused, run_script
from train_runs import HERE

from alpamayo_jax.rl import ablation

CONFIG = HERE / "small_ablate.py"

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("configurations_of_this_folder")]


def ablate(workdir, *flags):
    return run_script("ablate_rewards", f"--config={CONFIG}", f"--workdir={workdir}", *flags)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    done = ablate(folder, "--seeds=2", "--row=all")
    assert done.returncode == 0, done.stderr
    assert "| SFT |" in done.stdout
    return folder


def test_the_table_has_the_rows_of_both_seeds(workdir):
    found = json.loads((workdir / "table.json").read_text())
    assert [row["row"] for row in found["rows"]] == [ablation.SFT, "all"]
    for row in found["rows"]:
        assert row["seeds"] == 2
        for column in ablation.COLUMNS:
            entry = row[column.metric]
            assert len(entry["values"]) == 2
            if None in entry["values"]:  # of a policy that never came to a trajectory
                assert entry["mean"] is None and column.metric not in ("reasoning", "consistency")
            else:
                assert entry["mean"] == pytest.approx(sum(entry["values"]) / 2)
    assert (workdir / "table.png").read_bytes().startswith(b"\x89PNG")
    assert (workdir / "table.md").read_text().count("\n") == 4


def test_what_is_measured_is_not_measured_again(workdir):
    kept = {p: p.stat().st_mtime_ns for p in workdir.glob("seed_*/*.json")}
    assert len(kept) == 4
    lost = ablation.result_path(workdir, 1, "all")
    again = json.loads(lost.read_text())["measured"]
    lost.unlink()
    done = ablate(workdir, "--seeds=2", "--row=all")
    assert done.returncode == 0, done.stderr
    changed = [p for p in kept if p.stat().st_mtime_ns != kept[p]]
    assert changed == [lost]
    assert json.loads(lost.read_text())["measured"] == again


def test_another_configuration_is_refused(workdir):
    done = ablate(workdir, "--config.grpo.steps=2")
    assert_refused(done, "ablate_rewards", "another configuration")
