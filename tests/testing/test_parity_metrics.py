import numpy as np
import pytest

from alpamayo_jax.testing.parity import metrics
from alpamayo_jax.testing.parity.base import Reference


def test_every_check_passes(reference_dir):
    assert not [c for c in metrics.checks(Reference(reference_dir)) if not c.passed]


def test_every_recorded_result_is_compared(reference_dir):
    reference = Reference(reference_dir)
    compared = {c.quantity for c in metrics.checks(reference)}
    inputs = {"gt_xyz", "gt_rot", "dims", "sum_in"}
    left = set(reference.arrays(*metrics.REQUIRES)) - compared - inputs
    assert all(name.endswith(("_pred_xyz", "_pred_rot")) for name in left)


def test_an_unknown_recorded_metric_is_an_error(reference_dir, monkeypatch):
    reference = Reference(reference_dir)
    more = dict(reference.arrays(*metrics.REQUIRES)) | {"N1_metric:other": np.zeros(3)}
    monkeypatch.setattr(reference, "arrays", lambda _: more)
    with pytest.raises(ValueError, match="recorded but not computed: N1_metric:other"):
        metrics.checks(reference)


@pytest.mark.parametrize(
    "got, want, passed",
    [
        ([100.0005], [100.0], True),  # 5e-6 of itself
        ([100.002], [100.0], False),
        ([0.100005], [0.1], True),  # 5e-6 in the unit
        ([0.10002], [0.1], False),
        ([float("nan")], [0.1], False),
        ([0.1, 0.1], [0.1], False),
    ],
)
def test_compare_float32(got, want, passed):
    check = metrics.compare_float32("m", "q", np.array(got), np.array(want), 1e-5)
    assert check.passed == passed
