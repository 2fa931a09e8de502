"""experiments/quantise.py: the table of a small policy, and what is refused."""

import pytest
from script_process import assert_refused, pipeline_flags, read_summary, run_script


def flags(checkpoint, workdir, *more):
    return [*pipeline_flags(workdir), f"--checkpoint={checkpoint}", *more]


@pytest.mark.slow
def test_a_table_with_and_without_calibrated_activations(pipeline_run, tmp_path):
    given = flags(
        pipeline_run.checkpoint, tmp_path, "--precisions=int8,nvfp4", "--calibration_windows=2"
    )
    done = run_script("quantise", *given)
    assert done.returncode == 0, done.stderr
    table = read_summary(tmp_path)
    assert [row["precision"] for row in table["rows"]] == ["as trained", "int8", "nvfp4"]
    assert table["calibration_windows"] == 2 and table["windows"] == 3
    for row in table["rows"]:
        assert row["min_ade_2"] > 0
        assert 0 <= row["tokens_same"] <= 1 and 0 <= row["decisions_same"] <= 1
    assert table["rows"][0]["moved_m"] == 0 < table["rows"][1]["moved_m"]
    assert (tmp_path / "table.md").read_text().count("\n") == 5
    again = run_script("quantise", *given, f"--ranges={tmp_path / 'ranges.json'}")
    assert again.returncode == 0, again.stderr
    assert read_summary(tmp_path)["rows"] == table["rows"]


def test_an_unknown_precision_is_refused(tmp_path):
    done = run_script("quantise", *flags(tmp_path, tmp_path / "out", "--precisions=int4"))
    assert_refused(done, "quantise", "precision 'int4' is unknown", "nvfp4")


def test_a_missing_checkpoint_is_refused(tmp_path):
    done = run_script("quantise", *flags(tmp_path / "none", tmp_path / "out"))
    assert_refused(done, "quantise", "none")
