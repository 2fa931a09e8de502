"""The recorded processor values."""

import pytest

from alpamayo_jax.testing.parity import processor
from alpamayo_jax.testing.parity.base import Reference


def test_every_check_passes(reference_dir):
    reference = Reference(reference_dir)
    absent = [name for name in processor.REQUIRES if not reference.has(name)]
    if absent:
        pytest.skip(f"not recorded: {absent}")
    results = processor.checks(reference)
    assert results
    failed = [check for check in results if not check.passed]
    assert not failed, failed
