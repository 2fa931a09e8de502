"""Reasoning in one compiled loop: against a pass over everything at once, and on scripted models
whose every next token is known."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.decode.generate import generate
from alpamayo_jax.decode.prefix import fuse_history, prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.ops.filters import mask_range
from alpamayo_jax.testing.tiny import (
    GRIDS,
    continued,
    quick_jit,
    random_inputs,
    random_params,
    tiny_config,
)
from alpamayo_jax.tokens.vocabulary import special_token_id

K, N = 16, 6
_CONFIG = tiny_config()
_TOKENS = _CONFIG.trajectory_tokens
_SAMPLED = SampleSettings(num_samples=K, max_new_tokens=N)
_GREEDY = SampleSettings(num_samples=K, max_new_tokens=N, greedy=True)

START = special_token_id(_CONFIG, "cot_start")  # what the prompts end in
END = special_token_id(_CONFIG, "traj_future_start")
EOS, PAD = _CONFIG.text_tokens.eos_token_id, _CONFIG.text_tokens.pad_token_id
A, B, C = 65, 66, 67
BIN = _TOKENS.traj_token_start_idx + 5

_prefill = quick_jit(prefill, static_argnums=2)
_generate = quick_jit(generate, static_argnums=(2, 3), static_argnames="answer")


@functools.cache
def _inputs():
    return random_inputs(_CONFIG, GRIDS[::-1])


@functools.cache
def _params():
    return random_params(_CONFIG)


def _run(settings, params=None, seed=0, **options):
    params = _params() if params is None else params
    prefix = _prefill(params, _inputs(), _CONFIG)
    return _generate(params, prefix, _CONFIG, settings, jax.random.key(seed), **options)


@quick_jit
def _all_at_once(params, inputs):
    model = Alpamayo(_CONFIG)
    ids = fuse_history(inputs, _CONFIG)
    hidden, cache = model.apply({"params": params}, inputs, ids, method="prefill")
    last = hidden[:, -N - 1 : -1]  # what predicts the N new tokens
    return model.apply({"params": params}, last, method="logits"), cache


def _script(*arrows):
    """Parameters of a model whose next token depends on the last one alone.

    Args:
      *arrows: (token, next token, logit); what is not mentioned has logit 0.
    """
    params = jax.tree.map(np.array, _params())
    language = params["vlm"]["language_model"]
    language["layers"]["self_attn"]["o_proj"]["kernel"][:] = 0
    language["layers"]["mlp"]["down_proj"]["kernel"][:] = 0
    language["norm"]["scale"][:] = 1
    embedding, head = language["embed_tokens"]["embedding"], params["vlm"]["lm_head"]["kernel"]
    embedding[:], head[:] = 0, 0
    width = embedding.shape[1]
    for row, token in enumerate(sorted({token for token, _, _ in arrows})):
        embedding[token, row] = 1  # of length sqrt(width) after the norm
        for origin, following, logit in arrows:
            if origin == token:
                head[row, following] = logit / width**0.5
    return params


def _chains(*chains):
    """A script that starts with the first token of any chain and then follows it."""
    arrows = {(a, b, 60.0) for chain in chains for a, b in zip((START, *chain), chain)}
    return _script(*arrows)


def _rows(generation):
    """What was drawn by each of the 2 K samples, by its first token."""
    found = {}
    ids = np.asarray(generation.token_ids).reshape(-1, N)
    logprobs = np.asarray(generation.logprobs).reshape(-1, N)
    ends = np.asarray(generation.end_index).reshape(-1)
    for row, logprob, end in zip(ids, logprobs, ends):
        entry = (row.tolist(), int(end), [round(float(p), 3) for p in logprob])
        assert found.setdefault(int(row[0]), entry) == entry
    return found


class AgainstOnePassTest(parameterized.TestCase):
    def _check(self, generation):
        logits, cache = _all_at_once(_params(), continued(_inputs(), generation.token_ids))
        masked = mask_range(logits, _TOKENS.traj_token_start_idx, _TOKENS.traj_token_end_idx)
        ids = np.asarray(generation.token_ids)
        picked = jnp.take_along_axis(
            jax.nn.log_softmax(masked), ids.reshape(-1, N)[..., None], -1
        ).reshape(ids.shape)
        end = np.asarray(generation.end_index)
        slots = np.arange(N)
        forced = (end == N - 1)[..., None] & (slots == N - 1)
        real = slots <= end[..., None]
        drawn = real & ~forced
        np.testing.assert_allclose(
            np.asarray(generation.logprobs)[drawn], np.asarray(picked)[drawn], atol=1e-4
        )
        np.testing.assert_array_equal(np.asarray(generation.logprobs)[~real], 0)
        for ours, theirs in zip(*map(jax.tree.leaves, (generation.cache, cache))):
            theirs = theirs[..., -N:, :].reshape(ours.shape)
            ours, theirs = (np.moveaxis(np.asarray(a), -2, 3)[:, real] for a in (ours, theirs))
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        return masked.reshape(*ids.shape, -1), drawn

    def test_sampled(self):
        generation = _run(_SAMPLED)
        self._check(generation)
        ids = np.asarray(generation.token_ids)
        assert len(np.unique(ids.reshape(-1, N), axis=0)) > K
        assert generation.token_ids.dtype == jnp.int32 and int(generation.num_tokens) == N
        first, last = _TOKENS.traj_token_start_idx, _TOKENS.traj_token_end_idx - 1
        assert not ((ids >= first) & (ids <= last)).any()

    def test_greedy(self):
        generation = _run(_GREEDY)
        masked, drawn = self._check(generation)
        ids = np.asarray(generation.token_ids)
        np.testing.assert_array_equal(ids[drawn], np.asarray(masked.argmax(-1))[drawn])
        np.testing.assert_array_equal(ids, np.broadcast_to(ids[:, :1], ids.shape))
        assert (ids[0] != ids[1]).any()

    def test_the_key_decides(self):
        first, again, other = (np.asarray(_run(_SAMPLED, seed=s).token_ids) for s in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first[..., 0] != other[..., 0]).mean() > 0.5

    def test_a_sample_does_not_depend_on_how_many_there_are(self):
        few = _run(SampleSettings(num_samples=3, max_new_tokens=N))
        many = _run(_SAMPLED)
        np.testing.assert_array_equal(few.token_ids, many.token_ids[:, :3])
        np.testing.assert_allclose(few.logprobs, many.logprobs[:, :3], atol=1e-5)


class ScriptedTest(parameterized.TestCase):
    """Every way in which a sample can end; all of them in one batch."""

    def test_forced_ends(self):
        params = _chains((A, END, B), (B, EOS, B), (C, C), (END, A), (EOS, A))
        share = round(float(-np.log(5)), 3)
        got = _rows(_run(_SAMPLED, params))
        assert got == {
            A: ([A, END, PAD, PAD, PAD, PAD], 1, [share, 0, 0, 0, 0, 0]),
            # The end token follows an end of text, although the model would go on.
            B: ([B, EOS, END, PAD, PAD, PAD], 2, [share, 0, 0, 0, 0, 0]),
            C: ([C, C, C, C, C, END], 5, [share, 0, 0, 0, 0, 0]),
            END: ([END, PAD, PAD, PAD, PAD, PAD], 0, [share, 0, 0, 0, 0, 0]),
            EOS: ([EOS, END, PAD, PAD, PAD, PAD], 1, [share, 0, 0, 0, 0, 0]),
        }

    def test_free_ends(self):
        settings = SampleSettings(num_samples=K, max_new_tokens=N, force_end=False)
        params = _chains((A, END, B), (B, EOS, B), (C, C), (EOS, A))
        generation = _run(settings, params)
        assert {token: row[:2] for token, row in _rows(generation).items()} == {
            A: ([A, END, PAD, PAD, PAD, PAD], 1),
            B: ([B, EOS, PAD, PAD, PAD, PAD], -1),
            C: ([C] * 6, -1),
            EOS: ([EOS, PAD, PAD, PAD, PAD, PAD], -1),
        }
        assert int(generation.num_tokens) == N
        # An end token that would only come after the limit does not count.
        late = _run(settings, _chains((A, A + 1, A + 2, A + 3, A + 4, A + 5, END)))
        assert set(np.asarray(late.end_index).ravel()) == {-1}
        # All stopped by an end of text: nothing more is computed.
        short = _run(settings, _chains((B, EOS, B), (EOS, A)))
        assert int(short.num_tokens) == 2

    def test_the_loop_ends_with_the_last_sample(self):
        generation = _run(_SAMPLED, _chains((A, END, B), (B, A + 10, END)))
        assert int(generation.num_tokens) == 3
        for part in (generation.cache.k, generation.cache.v):
            filled = np.abs(part).max((0, 1, 2, 3, 5))
            assert (filled[:3] > 0).all() and (filled[3:] == 0).all()

    def test_the_log_probability_is_that_of_temperature_one(self):
        logits = {A: 60.0, B: 60.0 + np.log(0.5), END: 60.0 + np.log(0.25)}
        params = _script(
            *((START, token, logit) for token, logit in logits.items()),
            *((token, END, 60.0) for token in (A, B)),
        )
        got = _rows(_run(_SAMPLED, params))
        assert set(got) <= set(logits) and len(got) > 1
        for token, (_, _, logprob) in got.items():
            want = logits[token] - 60 - np.log(1.75)
            np.testing.assert_allclose(logprob[0], want, atol=2e-3)

    def test_temperature_and_nucleus_are_applied(self):
        # At temperature 1/4 the shares are 0.71, 0.29 and 0.01: the nucleus of 0.6 is one token. At
        # temperature 1 it would be two, and without a nucleus the second would often be drawn.
        settings = SampleSettings(num_samples=K, max_new_tokens=N, temperature=0.25, top_p=0.6)
        arrows = [(START, A, 60.0), (START, B, 60 + np.log(0.8)), (START, C, 60 + np.log(0.3))]
        ids = np.asarray(_run(settings, _script(*arrows)).token_ids)
        assert set(ids[..., 0].ravel()) == {A}

    def test_trajectory_ids_are_drawn_in_answers_only(self):
        params = _script((START, BIN, 60.0), (START, A, 50.0), (BIN, EOS, 60.0), (A, END, 60.0))
        assert set(_rows(_run(_SAMPLED, params))) == {A}
        got = _run(_SAMPLED, params, answer=True)
        assert _rows(got) == {BIN: ([BIN, EOS, PAD, PAD, PAD, PAD], 1, [0.0] * 6)}
        # The end-of-thought token is a token like others in an answer; nothing is forced.
        params = _chains((A, END, B, EOS), (C, C))
        assert {t: row[:2] for t, row in _rows(_run(_SAMPLED, params, answer=True)).items()} == {
            A: ([A, END, B, EOS, PAD, PAD], 3),
            C: ([C] * 6, -1),
        }

    def test_one_token_skips_reasoning(self):
        generation = _run(SampleSettings(num_samples=K, max_new_tokens=1))
        assert (np.asarray(generation.token_ids) == END).all()
        assert (np.asarray(generation.end_index) == 0).all()
        assert (np.asarray(generation.logprobs) == 0).all()
        assert int(generation.num_tokens) == 1
        assert np.abs(generation.cache.k).min((0, 1, 2, 3, 5)).all()
