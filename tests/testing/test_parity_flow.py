import dataclasses

import numpy as np
import pytest

from alpamayo_jax.config import FlowConfig
from alpamayo_jax.testing.parity import flow
from alpamayo_jax.testing.parity.base import Reference


@pytest.fixture(scope="module")
def checks(reference_dir):
    return flow.checks(Reference(reference_dir))


def test_every_check_passes(checks):
    assert not [c for c in checks if not c.passed]


def test_every_recorded_result_is_compared(checks, reference_dir):
    inputs = {"noise", "train_x", "train_t", "train_noise", "train_pred", "beta_t_q"}
    draws = {"beta_t_n", "beta_t_hist", "beta_t_quantiles"}  # beta_t_quantiles_exact says more
    compared = {c.quantity.split(" ")[0] for c in checks}
    assert set(Reference(reference_dir).arrays(*flow.REQUIRES)) - compared == inputs | draws


def test_a_wrong_path_is_noticed(reference_dir, monkeypatch):
    monkeypatch.setattr(flow.matching, "target", lambda x, noise: noise - x)
    off = {c.quantity for c in flow.checks(Reference(reference_dir)) if not c.passed}
    assert off == {"train_target", "train_loss"}


def test_another_law_of_time_is_noticed(reference_dir, monkeypatch):
    turned = lambda **kwargs: dataclasses.replace(FlowConfig(**kwargs), beta_a=1.6)  # noqa: E731
    monkeypatch.setattr(flow, "FlowConfig", turned)
    off = {c.quantity for c in flow.checks(Reference(reference_dir)) if not c.passed}
    assert {"beta_t_mean", "beta_t_quantiles_exact"} <= off


def test_another_step_size_is_noticed(reference_dir, monkeypatch):
    monkeypatch.setattr(
        flow.samplers, "time_grid", lambda n: np.linspace(0, 0.999, n + 1, dtype=np.float32)
    )
    off = {c.quantity for c in flow.checks(Reference(reference_dir)) if not c.passed}
    assert {"all_steps_10 (scan)", "all_steps_10 (unrolled)", "time_steps_10"} <= off
