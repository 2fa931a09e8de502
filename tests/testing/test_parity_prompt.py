"""The recorded prompt values."""

import pytest

from alpamayo_jax.testing.parity import prompt
from alpamayo_jax.testing.parity.base import Reference


def test_every_check_passes(reference_dir):
    reference = Reference(reference_dir)
    absent = [name for name in prompt.REQUIRES if not reference.has(name)]
    if absent:
        pytest.skip(f"not recorded: {absent}")
    results = prompt.checks(reference)
    assert results
    failed = [check for check in results if not check.passed]
    assert not failed, failed
