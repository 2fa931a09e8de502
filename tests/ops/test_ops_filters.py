from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.ops import filters


def _logits(shape=(40,), seed=0):
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def _naive_top_p(logits, p):
    """Drops ids from the least likely up while the dropped mass stays at or under 1 - p."""
    probability = np.exp(logits.astype(np.float64) - logits.max())
    probability /= probability.sum()
    out, dropped = logits.copy(), 0.0
    for i in np.argsort(logits)[:-1]:
        dropped += probability[i]
        if dropped > 1 - p:
            break
        out[i] = -np.inf
    return out


class FiltersTest(parameterized.TestCase):
    @parameterized.parameters(((),), ((2, 1),))
    def test_mask_range(self, batch):
        logits = _logits((*batch, 10))
        got = np.asarray(filters.mask_range(logits, 3, 6))
        assert np.isneginf(got[..., 3:6]).all()
        for others in (slice(3), slice(6, None)):
            np.testing.assert_array_equal(got[..., others], logits[..., others])

    @parameterized.product(p=(0.02, 0.3, 0.9, 0.98, 0.9999), batch=((), (2, 1)))
    def test_top_p(self, p, batch):
        logits = _logits((*batch, 40))
        rows = [_naive_top_p(row, p) for row in logits.reshape(-1, 40)]
        np.testing.assert_array_equal(filters.top_p(logits, p), np.reshape(rows, logits.shape))

    def test_the_nucleus_reaches_p_and_no_further(self):
        logits = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
        keeps = lambda p: np.isfinite(filters.top_p(logits, p)).tolist()  # noqa: E731
        assert keeps(0.4) == [True, False, False, False]
        assert keeps(0.6) == [True, True, False, False]
        assert keeps(0.74) == [True, True, False, False]
        assert keeps(0.76) == [True, True, True, True]  # the last two are tied

    def test_p_of_one_keeps_everything(self):
        logits = np.array([0.0, -80.0, -np.inf, 5.0], np.float32)
        np.testing.assert_array_equal(filters.top_p(logits, 1.0), logits)

    @parameterized.parameters(1e-6, 1e-30)
    def test_a_tiny_p_keeps_the_most_likely(self, p):
        logits = _logits((3, 40))
        got = np.asarray(filters.top_p(logits, p))
        assert (np.isfinite(got).sum(-1) == 1).all()
        np.testing.assert_array_equal(got.argmax(-1), logits.argmax(-1))

    def test_masked_ids_stay_masked(self):
        logits = filters.mask_range(_logits(), 5, 20)
        for p in (0.1, 0.98, 1.0):
            got = np.asarray(filters.top_p(logits, p))
            assert np.isneginf(got[5:20]).all() and not np.isnan(got).any()

    def test_temperature_comes_before_top_p(self):
        logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
        # At temperature 0.5 the probabilities are 0.66, 0.24, 0.11.
        got = filters.warp(logits, temperature=0.5, p=0.85)
        assert np.isfinite(got).tolist() == [True, True, False]
        assert np.isfinite(filters.top_p(logits, 0.85)).all()
        np.testing.assert_allclose(got[:2], logits[:2] / 0.5, rtol=1e-6)

    @parameterized.parameters((0.6, 0.98), (1.0, 0.5), (2.0, 0.9))
    @pytest.mark.torch
    def test_equals_transformers(self, temperature, p):
        torch = pytest.importorskip("torch")
        process = pytest.importorskip("transformers.generation.logits_process")
        logits = _logits((4, 300))
        got = filters.warp(
            filters.mask_range(logits, 100, 150), temperature=temperature, p=p
        )
        want = torch.tensor(logits)
        want[:, 100:150] = -torch.inf
        want = process.TemperatureLogitsWarper(temperature)(None, want)
        want = process.TopPLogitsWarper(p)(None, want)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want.numpy()))
        np.testing.assert_allclose(
            jax.nn.softmax(got, -1), torch.softmax(want, -1).numpy(), atol=1e-6
        )

    def test_works_inside_a_program(self):
        logits = _logits((2, 3, 40))
        got = jax.jit(lambda x: filters.warp(x, temperature=0.6, p=0.9))(logits)
        want = filters.warp(jnp.asarray(logits), temperature=0.6, p=0.9)
        np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
