"""The recorded names, shapes and tiny checkpoint."""

import json

import pytest

from alpamayo_jax.testing.parity import parameters
from alpamayo_jax.testing.parity.base import Reference


def test_every_check_passes(reference_dir):
    checks = parameters.checks(Reference(reference_dir))
    assert checks
    failed = [check for check in checks if not check.passed]
    assert not failed
    assert {check.module for check in checks} == {parameters.MODULE}


def test_a_difference_fails(reference_dir, tmp_path):
    name = parameters.REQUIRES[0]
    recorded = json.loads((reference_dir / name).read_text())
    tensor = next(t for t in recorded["params"].values() if t["kind"] == "param")
    tensor["shape"][0] += 1
    (tmp_path / name).write_text(json.dumps(recorded))
    failed = [c for c in parameters.checks(Reference(tmp_path)) if not c.passed]
    assert len(failed) == 2  # a shape, and with it the count
    assert failed[0].error == 1 and failed[1].error == pytest.approx(3 * 2 * 16 * 16)
