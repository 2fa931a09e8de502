"""experiments/scenarios.py: the page of families."""


from script_process import assert_refused, read_summary, run_script


def test_page_and_summary(tmp_path):
    done = run_script("scenarios", f"--workdir={tmp_path}", "--family=speed_bump", "--family=curve")
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path)
    assert set(summary) == {"speed_bump", "curve"}
    for one in summary.values():
        assert one["without_cause_m"] > 3.0 and one["without_bystanders_m"] == 0.0
        assert one["trace"] and one["failures"] == []
    assert (tmp_path / "report.html").read_text().count("<img ") == 2
    assert "2 families, report:" in done.stdout


def test_refused(tmp_path):
    done = run_script("scenarios", f"--workdir={tmp_path}", "--family=parking")
    assert_refused(done, "scenarios", "parking")
