"""A draft changes how many passes the reasoning takes, and nothing else.

Against plain decoding token by token, on scripted models whose passes can be counted, and over the
distribution of whole sequences by a chi-square test that wrong rules fail.
"""

import collections
import functools
from unittest import mock

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode import trace
from alpamayo_jax.decode.generate import generate
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.speculative import Draft, draft_of, speculate
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

K, N, M = 8, 12, 4
_CONFIG = tiny_config()
END = special_token_id(_CONFIG, "traj_future_start")
PAD = _CONFIG.text_tokens.pad_token_id
_SAMPLED = SampleSettings(num_samples=K, max_new_tokens=N, draft_block=M, top_p=0.9)
_GREEDY = SampleSettings(num_samples=K, max_new_tokens=N, draft_block=M, greedy=True)

_prefill = quick_jit(prefill, static_argnums=2)
_generate = quick_jit(generate, static_argnums=(2, 3), static_argnames="answer")
_speculate = quick_jit(speculate, static_argnums=(3, 4), static_argnames="answer")


@functools.cache
def _params():
    return random_params(_CONFIG)


@functools.cache
def _prefix():
    return _prefill(_params(), random_inputs(_CONFIG, GRIDS[::-1]), _CONFIG)


@functools.cache
def _plain(settings, seed=0, answer=False):
    key = jax.random.key(seed)
    return _generate(_params(), _prefix(), _CONFIG, settings, key, answer=answer)


def _with(draft, settings, seed=0, **options):
    key = jax.random.key(seed)
    return _speculate(_params(), _prefix(), draft, _CONFIG, settings, key, **options)


def _full(ids):
    """A draft of all of ids."""
    ids = np.array(ids, np.int32)
    return Draft(ids, np.full(ids.shape[:2], ids.shape[-1], np.int32))


def _spoiled(ids, places):
    """Other tokens at some places."""
    ids = np.array(ids)
    for place in places:
        ids[..., place] = (ids[..., place] + 7) % 200
    return ids


class SameTokensTest(parameterized.TestCase):
    def _check(self, generation, plain):
        np.testing.assert_array_equal(generation.token_ids, plain.token_ids)
        np.testing.assert_array_equal(generation.end_index, plain.end_index)
        np.testing.assert_array_equal(generation.forced, plain.forced)
        np.testing.assert_allclose(generation.logprobs, plain.logprobs, atol=1e-4)
        assert int(generation.num_tokens) == int(plain.num_tokens)
        size = np.where(plain.end_index >= 0, plain.end_index + 1, N - 1)
        real = np.arange(N) < size[..., None]
        for ours, theirs in zip(*map(jax.tree.leaves, (generation.cache, plain.cache))):
            ours, theirs = (np.moveaxis(np.asarray(a), -2, 3)[:, real] for a in (ours, theirs))
            np.testing.assert_allclose(ours, theirs, atol=1e-4)

    @parameterized.named_parameters(("greedy", _GREEDY), ("sampled", _SAMPLED))
    def test_whatever_the_draft(self, settings):
        plain = _plain(settings)
        ids = np.asarray(plain.token_ids)
        drafts = {
            "right": _full(ids),
            "nonsense": _full(_spoiled(ids, range(N))),
            "one wrong": _full(_spoiled(ids, [5])),
            "shifted": _full(np.roll(ids, 2, axis=-1)),
            "another's": _full(np.roll(ids, 1, axis=1)),
        }
        passes = {}
        for name, draft in drafts.items():
            generation, report = _with(draft, settings)
            self._check(generation, plain)
            passes[name] = int(report.passes)
            rate = report.acceptance_rate
            # Greedy samples are all alike, so another's draft is right too.
            right = name == "right" or (name == "another's" and settings.greedy)
            assert (rate == 1.0) == right, (name, rate)
        # The first token comes with the prefill; M tokens a pass, N in all to be cached.
        assert passes["right"] == -(-N // M)
        assert passes["nonsense"] >= N - 1
        assert passes["right"] < passes["one wrong"] < passes["nonsense"]
        assert passes["shifted"] < N

    def test_answers(self):
        plain = _plain(_SAMPLED, answer=True)
        generation, report = _with(_full(plain.token_ids), _SAMPLED, answer=True)
        self._check(generation, plain)
        assert int(report.passes) < N

    def test_no_draft_is_plain_decoding(self):
        nothing = Draft(np.zeros((2, K, N), np.int32), np.zeros((2, K), np.int32))
        generation, report = _with(nothing, _SAMPLED)
        self._check(generation, _plain(_SAMPLED))
        assert int(report.passes) == N and report.acceptance_rate == 0.0

    def test_keys_of_rows(self):
        keys = jax.vmap(jax.random.key)(jnp.arange(2))
        plain = _generate(_params(), _prefix(), _CONFIG, _SAMPLED, keys)
        draft = _full(plain.token_ids)
        generation, _ = _speculate(_params(), _prefix(), draft, _CONFIG, _SAMPLED, keys)
        self._check(generation, plain)

    def test_reasoning_that_is_closed_for_it(self):
        settings = SampleSettings(
            num_samples=K, max_new_tokens=N, max_reasoning_tokens=4, draft_block=M
        )
        plain = _plain(settings)
        generation, report = _with(_full(plain.token_ids), settings)
        np.testing.assert_array_equal(generation.token_ids, plain.token_ids)
        np.testing.assert_array_equal(generation.forced, plain.forced)
        assert int(report.passes) == 2 and plain.token_ids.shape[-1] == 6


def test_reasoning_without_an_end_is_refused():
    settings = SampleSettings(num_samples=K, force_end=False)
    with pytest.raises(ConfigError, match="needs force_end"):
        speculate({}, _prefix(), _full(np.zeros((2, K, 3))), _CONFIG, settings, jax.random.key(0))


def test_a_draft_of_earlier_tokens():
    ids = np.array([[[5, 6, END, PAD], [5, 6, 7, 8]]])
    draft = draft_of(ids, [[True, False]], 6, END)
    assert draft.token_ids.shape == (1, 2, 6) and draft.token_ids.dtype == np.int32
    np.testing.assert_array_equal(draft.length, [[3, 4]])
    cut = draft_of(ids, [[True, False]], 2, END)
    np.testing.assert_array_equal(cut.length, [[2, 2]])


SAMPLES, LENGTH = 2048, 3
_MANY = SampleSettings(
    num_samples=SAMPLES, max_new_tokens=LENGTH + 1, draft_block=3, temperature=0.4, top_p=0.8
)


@functools.cache
def _single():
    """One prompt."""
    return _prefill(_params(), random_inputs(_CONFIG, GRIDS[:1]), _CONFIG)


def _nucleus(logits):
    """What may be drawn, and how probably, in NumPy: mask, temperature, nucleus."""
    tokens = _CONFIG.trajectory_tokens
    logits = np.array(logits, np.float64) / _MANY.temperature
    logits[tokens.traj_token_start_idx : tokens.traj_token_end_idx] = -np.inf
    p = np.exp(logits - logits.max())
    order = np.argsort(-p)
    p /= p.sum()
    # From the most likely on, until what is left over is at most 1 - top_p.
    count = int((np.cumsum(p[order])[:-1] < _MANY.top_p).sum()) + 1
    kept = order[:count]
    return dict(zip(kept.tolist(), (p[kept] / p[kept].sum()).tolist()))


@functools.cache
def _truth():
    """Probability of every sequence of LENGTH tokens, by one pass over each of their beginnings."""
    model, prefix = Alpamayo(_CONFIG), _single()

    @quick_jit
    def logits_after(beginnings):
        ids = jnp.asarray(beginnings, jnp.int32)[None]
        size = ids.shape[-1]
        at = prefix.length + prefix.rope_delta[:, None, None] + jnp.arange(size)
        hidden, _ = model.apply(
            {"params": _params()}, ids, jnp.broadcast_to(at, (3, *ids.shape)),
            jnp.tril(jnp.ones((1, 1, size, size), bool)),
            [(prefix.cache, prefix.mask[:, None, None, :])], method="extend",
        )  # fmt: skip
        return model.apply({"params": _params()}, hidden[0, :, -1], method="logits")

    first = model.apply({"params": _params()}, prefix.last_hidden, method="logits")[0]
    known = {(token,): p for token, p in _nucleus(first).items()}
    for _ in range(LENGTH - 1):
        rows = np.asarray(logits_after(np.array(list(known))))
        known = {
            (*said, token): p * q
            for (said, p), row in zip(known.items(), rows)
            for token, q in _nucleus(row).items()
        }
    return known


def _guess():
    """One of the likely sequences, the draft of every sample."""
    return sorted(_truth(), key=_truth().get)[-2]


def _p_value(seed=0):
    """Of the chi-square test of what was said with the draft against the truth."""
    ids = np.broadcast_to(np.array((*_guess(), END)), (1, SAMPLES, LENGTH + 1))
    # A function of its own: a program that was traced before knows nothing of patched rules.
    program = quick_jit(lambda *args: speculate(*args[:3], _CONFIG, _MANY, args[3]))
    generation, report = program(_params(), _single(), _full(ids), jax.random.key(seed))
    assert np.sum(report.accepted) > SAMPLES / 20  # the draft has been of use
    rows = np.asarray(generation.token_ids)[0, :, :LENGTH]
    counts = collections.Counter(map(tuple, rows.tolist()))
    often = [said for said, p in _truth().items() if p * SAMPLES >= 5]
    assert len(often) > 10
    want = np.array([_truth()[said] * SAMPLES for said in often])
    got = np.array([counts[said] for said in often])
    want, got = np.append(want, SAMPLES - want.sum()), np.append(got, SAMPLES - got.sum())
    return stats.chisquare(got, want).pvalue


class DistributionTest(parameterized.TestCase):
    """Sequences of three tokens of a random model, some thousand times."""

    def test_as_drawn_without_a_draft(self):
        assert _p_value() > 1e-3

    @pytest.mark.slow
    @parameterized.parameters("likely enough", "drawn again", "one key")
    def test_wrong_rules_are_noticed(self, rule):
        guess, original = jnp.array((*_guess(), END)), trace.Rules.draw

        def draw(self, logits, rng, index):
            token, logprob = original(self, logits, rng, index * (rule != "one key"))
            named = guess[index]
            p = jax.nn.softmax(logits / _MANY.temperature, -1)
            p = jnp.take_along_axis(p, jnp.broadcast_to(named, token.shape)[..., None], -1)[..., 0]
            if rule == "likely enough":
                token = jnp.where(p > 0.05, named, token)
            elif rule == "drawn again":  # accepted with probability p, else drawn with it once more
                u = jax.random.uniform(jax.random.fold_in(rng, 7), (SAMPLES, LENGTH + 2))
                at = jnp.broadcast_to(index, token.shape)
                u = jnp.take_along_axis(u, at.reshape(SAMPLES, 1), -1).reshape(token.shape)
                token = jnp.where(u < p, named, token)
            return token.astype(jnp.int32), logprob

        with mock.patch.object(trace.Rules, "draw", draw):
            assert _p_value() < 1e-6
