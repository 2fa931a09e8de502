"""Which attention runs for which segments."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.kernels.attention import attend_reference, causal_range
from alpamayo_jax.kernels.dispatch import Unsupported
from alpamayo_jax.ops import attention
from alpamayo_jax.ops.attention import Segment
from alpamayo_jax.testing.tiny import quick_jit


def _normal(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _prompt():
    """Two rows of six tokens, the first one with padding."""
    mask = np.ones((2, 6), bool)
    mask[0, :2] = False
    segment = Segment(k=_normal(2, 2, 6, 8), v=_normal(2, 2, 6, 8), mask=causal_range(mask))
    return _normal(2, 6, 4, 8), [segment]


def _samples():
    """A prefix, slots of a cache, and the new token of three samples."""
    before = np.arange(5) < 3
    return _normal(2, 3, 1, 4, 8), [
        Segment(_normal(2, 2, 6, 8), _normal(2, 2, 6, 8), np.ones((2, 1, 1, 6), bool)),
        Segment(_normal(2, 3, 2, 5, 8), _normal(2, 3, 2, 5, 8), before[None, None, None]),
        Segment(_normal(2, 3, 2, 1, 8), _normal(2, 3, 2, 1, 8), np.ones((1, 1, 1, 1), bool)),
    ]


def _attend(q, segments, implementation, interpret=True):
    run = lambda q, segments: attention.attend(  # noqa: E731
        q, segments, scale=0.3, implementation=implementation, interpret=interpret
    )
    return quick_jit(run)(q, segments)


def _uses_a_kernel(q, segments, implementation):
    run = lambda q, segments: attention.attend(  # noqa: E731
        q, segments, scale=0.3, implementation=implementation, interpret=True
    )
    return "pallas_call" in str(jax.make_jaxpr(run)(q, segments))


class AttendTest(parameterized.TestCase):
    @parameterized.parameters(_prompt, _samples)
    def test_the_kernel_equals_the_reference(self, case):
        q, segments = case()
        want = _attend(q, segments, "xla")
        np.testing.assert_allclose(_attend(q, segments, "pallas"), want, atol=2e-6)
        assert _uses_a_kernel(q, segments, "pallas")
        assert not _uses_a_kernel(q, segments, "auto")

    def test_a_range_is_a_mask(self):
        q, (segment,) = _prompt()
        masked = segment.replace(mask=segment.mask.mask(6))
        want = attend_reference(jnp.asarray(q), [masked], scale=0.3)
        np.testing.assert_allclose(_attend(q, [segment], "xla"), want, atol=1e-6)

    def test_a_mask_of_the_prefix_without_samples(self):
        q, segments = _samples()
        flat = [segments[0].replace(mask=segments[0].mask[:, 0]), *segments[1:]]
        got = _attend(q, flat, "pallas")
        np.testing.assert_allclose(got, _attend(q, segments, "xla"), atol=2e-6)

    def test_any_other_segments_are_left_to_xla(self):
        q, segments = _prompt()
        masked = [segments[0].replace(mask=segments[0].mask.mask(6))]
        with pytest.raises(Unsupported, match="KeyRange"):
            _attend(q, masked, "pallas")
        assert not _uses_a_kernel(q, masked, ("pallas", "xla"))
        want = _attend(q, masked, "xla")
        np.testing.assert_array_equal(_attend(q, masked, ("pallas", "xla")), want)

    def test_no_kernel_on_a_cpu_without_the_interpreter(self):
        with pytest.raises(Unsupported, match="for cpu"):
            _attend(*_prompt(), "pallas", interpret=False)

    def test_an_unknown_implementation_is_refused(self):
        with pytest.raises(ConfigError, match="'flash'.*known: auto, xla"):
            _attend(*_prompt(), "flash")
