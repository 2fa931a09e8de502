import dataclasses

import numpy as np
import pytest

from alpamayo_jax.testing.parity import action_space
from alpamayo_jax.testing.parity.base import Reference


@pytest.fixture(scope="module")
def checks(reference_dir):
    return action_space.checks(Reference(reference_dir))


def test_every_check_passes(checks):
    failed = [f"{c.quantity}: {c.error:g} > {c.tolerance:g}" for c in checks if not c.passed]
    assert not failed, failed


def test_every_recorded_array_is_compared(checks, reference_dir):
    values = Reference(reference_dir).arrays(action_space.FILE)
    inputs = {"names", "hist_xyz", "hist_rot", "fut_xyz", "fut_rot", "rand_action", "given_v0",
              "rand_tokens", "discrete_frac_dist_to_boundary"}
    assert set(values) - {c.quantity for c in checks} == inputs


def test_a_wrong_value_fails(reference_dir, monkeypatch):
    reference = Reference(reference_dir)
    values = dict(reference.arrays(action_space.FILE))
    values["release_roundtrip_xyz"] = values["release_roundtrip_xyz"] + np.float32(1e-3)
    values["discrete_tokens"] = values["discrete_tokens"] + 2
    monkeypatch.setattr(reference, "arrays", lambda name: values)
    failed = {c.quantity for c in action_space.checks(reference) if not c.passed}
    assert "release_roundtrip_xyz" in failed
    assert "discrete_tokens" in failed
    assert "default_roundtrip_xyz" not in failed


def test_sizes_come_from_the_arrays(reference_dir, monkeypatch):
    """A recording of other trajectories, in another order and number, passes as well."""
    reference = Reference(reference_dir)
    values = dict(reference.arrays(action_space.FILE))
    count = len(values["hist_xyz"])
    rows = np.arange(count)[::-1][: count - 2]
    other = {
        key: value[rows] if value.shape[:1] == (count,) else value for key, value in values.items()
    }
    other = {k: v for k, v in other.items() if not k.startswith("batched_")}
    other["batched_action_1x3"] = other["release_action"][None, :3]
    monkeypatch.setattr(reference, "arrays", lambda name: other)
    found = action_space.checks(reference)
    assert all(c.passed for c in found)
    assert "batched_action_1x3" in {c.quantity for c in found}


def test_configs_differ_only_in_scale_and_bounds():
    configs = action_space._configs(64)
    default = dataclasses.asdict(configs["default"])
    release = dataclasses.asdict(configs["release"])
    differing = {k for k in default if default[k] != release[k]}
    assert differing == {
        "accel_mean", "accel_std", "curvature_mean", "curvature_std", "curvature_bounds"
    }
