"""Without Apache Beam there is a sentence that says what to install."""

import sys

import pytest

from alpamayo_jax.data import beam
from alpamayo_jax.types import InputError


def test_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(InputError, match=r"pip install 'alpamayo_jax\[beam\]'"):
        beam.import_beam()
    with pytest.raises(InputError, match="needs Apache Beam"):
        beam.for_each(abs, 1, ())
