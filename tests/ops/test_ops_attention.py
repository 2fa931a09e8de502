from absl.testing import parameterized
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels.attention import attend_reference
from alpamayo_jax.ops import attention


def _case():
    rng = np.random.default_rng(0)
    shapes = ((2, 3, 4, 8), (2, 2, 5, 8), (2, 2, 5, 8))
    q, k, v = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    return q, [attention.Segment(k=k, v=v, mask=rng.random((2, 3, 5)) < 0.7)]


class AttendTest(parameterized.TestCase):
    @parameterized.parameters(list(attention.IMPLEMENTATIONS))
    def test_every_implementation_equals_the_reference(self, name):
        q, segments = _case()
        got = attention.attend(q, segments, scale=0.3, implementation=name)
        np.testing.assert_allclose(got, attend_reference(q, segments, scale=0.3), atol=1e-5)

    def test_the_name_chooses(self):
        q, segments = _case()
        calls = []
        attention.IMPLEMENTATIONS["fake"] = lambda q, segments, *, scale: calls.append(scale) or q
        try:
            got = attention.attend(q, segments, scale=0.25, implementation="fake")
        finally:
            del attention.IMPLEMENTATIONS["fake"]
        assert got is q and calls == [0.25]

    def test_an_unknown_implementation_is_refused(self):
        q, segments = _case()
        with pytest.raises(ConfigError, match="'flash'.*reference"):
            attention.attend(q, segments, scale=1.0, implementation="flash")
