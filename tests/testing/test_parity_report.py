import json
import types

import numpy as np
import pytest

from alpamayo_jax.testing.parity import report
from alpamayo_jax.testing.parity.base import compare
from alpamayo_jax.types import InputError


def _module(requires=("a.npz",), checks=lambda reference: []):
    return types.SimpleNamespace(REQUIRES=requires, checks=checks)


def _check(name, got, want=1.0, tolerance=1e-3):
    return compare(name, "value", np.array([got]), np.array([want]), tolerance)


def _raise(reference):
    raise RuntimeError("two\nlines")


GOOD = _module(checks=lambda _: [_check("good", 1.0001), _check("good", 1.0)])
OFF = _module(checks=lambda _: [_check("off", 1.01)])
NAN = _module(checks=lambda _: [_check("nan", float("nan"))])
ABSENT = _module(requires=("nowhere.npz",))
BROKEN = _module(checks=_raise)


def _run(tmp_path, **modules):
    (tmp_path / "a.npz").touch()
    return report.run(tmp_path, modules, progress=lambda names: names, load=modules.__getitem__)


def test_agreement(tmp_path):
    got = _run(tmp_path, good=GOOD, absent=ABSENT)
    assert got.passed and not got.failed
    summary = got.summary()
    assert summary["max_relative_error"] == pytest.approx({"good": 1e-4})
    assert summary["absent"] == ["absent"] and summary["num_checks"] == 2
    assert summary["parameters_10b"] == 11_078_526_194
    assert "absent  absent: no nowhere.npz" in got.table()
    verdict = "passed: 2 of 2 quantities agree, 0 modules could not be run, 1 are absent"
    assert got.table().endswith(verdict)


@pytest.mark.parametrize(
    "module, text",
    [
        (OFF, "value: error 0.01 above 0.001"),
        (NAN, "above"),
        (BROKEN, "RuntimeError: two lines (reads a.npz)"),
    ],
)
def test_anything_off_fails(tmp_path, module, text):
    got = _run(tmp_path, good=GOOD, other=module)
    assert not got.passed
    assert len(got.failed) == 1 and text in got.failed[0]
    assert "FAILED" in got.table()


def test_nan_is_the_largest_relative_error(tmp_path):
    assert _run(tmp_path, nan=NAN).max_relative_error() == {"nan": float("inf")}


def test_a_module_that_cannot_be_imported_is_reported(tmp_path):
    got = report.run(tmp_path, ["no_such_module"], progress=lambda names: names)
    assert not got.passed and "no_such_module" in got.failed[0]


def test_nothing_to_check_is_not_a_pass(tmp_path):
    got = _run(tmp_path, absent=ABSENT)
    assert not got.passed
    assert "nothing could be checked" in got.table()


def test_a_directory_that_does_not_exist(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        report.run(tmp_path / "no")


@pytest.mark.parametrize("module, code", [(GOOD, 0), (OFF, 1), (NAN, 1), (ABSENT, 1)])
def test_main_writes_the_summary(tmp_path, monkeypatch, capsys, module, code):
    done = _run(tmp_path, only=module)
    monkeypatch.setattr(report, "run", lambda directory: done)
    assert report.main(tmp_path, tmp_path / "out") == code
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["passed"] == (code == 0)
    assert capsys.readouterr().out.count("\n") >= 3


def test_every_module_name_is_a_file():
    folder = report.pathlib.Path(report.__file__).parent
    present = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "report"}
    assert set(report.MODULES) == present
