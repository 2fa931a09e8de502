import numpy as np
import pytest

from alpamayo_jax.testing.parity import history_tokens
from alpamayo_jax.testing.parity.base import Reference


@pytest.fixture(scope="module")
def checks(reference_dir):
    return history_tokens.checks(Reference(reference_dir))


def test_every_check_passes(checks):
    failed = [f"{c.quantity}: {c.error:g} > {c.tolerance:g}" for c in checks if not c.passed]
    assert not failed, failed


def test_every_recorded_array_is_compared(checks, reference_dir):
    values = Reference(reference_dir).arrays(history_tokens.FILE)
    inputs = {"hist_xyz", "hist_rot", "fut_xyz", "fut_rot", "hist_frac_dist_to_boundary"}
    assert set(values) - {c.quantity for c in checks} == inputs


def test_a_wrong_value_fails(reference_dir, monkeypatch):
    reference = Reference(reference_dir)
    values = dict(reference.arrays(history_tokens.FILE))
    values["hist_tokens"] = np.roll(values["hist_tokens"], 1, axis=-1)
    values["yaw_fut_decode_rot"] = np.swapaxes(values["yaw_fut_decode_rot"], -1, -2)
    monkeypatch.setattr(reference, "arrays", lambda name: values)
    failed = {c.quantity for c in history_tokens.checks(reference) if not c.passed}
    assert {"hist_tokens", "hist_decode_xyz", "yaw_fut_decode_rot"} <= failed


def test_offset_of_history_ids_comes_from_the_recording(reference_dir, monkeypatch):
    reference = Reference(reference_dir)
    values = dict(reference.arrays(history_tokens.FILE))
    values["tokenize_history"] = values["tokenize_history"] - 1234
    monkeypatch.setattr(reference, "arrays", lambda name: values)
    assert all(c.passed for c in history_tokens.checks(reference))
