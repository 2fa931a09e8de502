import numpy as np
import pytest

from alpamayo_jax.testing.parity import rewards
from alpamayo_jax.testing.parity.base import Reference


@pytest.fixture(scope="module")
def checks(reference_dir):
    return rewards.checks(Reference(reference_dir))


def test_every_check_passes(checks):
    assert not [c for c in checks if not c.passed]


def test_every_derivative_and_comfort_check_is_compared(checks, reference_dir):
    names = Reference(reference_dir).arrays(*rewards.REQUIRES)
    recorded = {n for n in names if n.startswith(("dyn:", "comfort"))} - {"comfort_keys"}
    assert recorded <= {c.quantity for c in checks}


def test_sizes_come_from_the_arrays(reference_dir, monkeypatch):
    """A recording of more trajectories, in another order, passes as well."""
    reference = Reference(reference_dir)
    full = dict(reference.arrays(*rewards.REQUIRES))
    count = len(full["pred_xyz"])
    order = [*reversed(range(count)), 0, 1]
    other = {k: v[order] if v.ndim and len(v) == count else v for k, v in full.items()}
    monkeypatch.setattr(reference, "arrays", lambda _: other)
    assert not [c for c in rewards.checks(reference) if not c.passed]


def test_another_reward_is_noticed(reference_dir, monkeypatch):
    reference = Reference(reference_dir)
    values = dict(reference.arrays(*rewards.REQUIRES))
    values["reward"] = values["reward"] + np.array([0, 0, 1e-4])
    monkeypatch.setattr(reference, "arrays", lambda _: values)
    assert {c.quantity for c in rewards.checks(reference) if not c.passed} == {"reward:reward"}
