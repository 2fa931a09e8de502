"""The rules by which samples go on and end, on tokens that somebody else has drawn."""

import dataclasses
import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.trace import Rules
from alpamayo_jax.testing.tiny import quick_jit, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

_CONFIG = tiny_config()
END = special_token_id(_CONFIG, "traj_future_start")
CLOSE = special_token_id(_CONFIG, "cot_end")
EOS, PAD = _CONFIG.text_tokens.eos_token_id, _CONFIG.text_tokens.pad_token_id
A, B = 65, 66


def _settings(size, **fields):
    return SampleSettings(num_samples=1, max_new_tokens=size, **fields)


@functools.cache
def _write(rules):
    return quick_jit(rules.write)


def _written(rules, *rows):
    """What the rules make of rows of drawn tokens; one sample each."""
    rows = np.array(rows, np.int32)[None]
    trace = rules.begin(1, rows.shape[1])
    for index in range(rows.shape[-1]):
        logprob = jnp.full(rows.shape[:2], -1.0)
        trace, said = _write(rules)(trace, index, jnp.asarray(rows[..., index]), logprob)
        np.testing.assert_array_equal(said, trace.token_ids[..., index])
    return trace


class ClosingTest(parameterized.TestCase):
    """Reasoning that may have three tokens, drawn up to the limit of five."""

    @parameterized.named_parameters(
        ("is closed", [A, A, A, A, A], [A, A, A, CLOSE, END], 4, [1, 1, 1, 0, 0]),
        ("had closed itself", [A, CLOSE, B, B, B], [A, CLOSE, B, END, PAD], 3, [1, 1, 1, 0, 0]),
        ("closes just then", [A, A, A, CLOSE, B], [A, A, A, CLOSE, END], 4, [1, 1, 1, 1, 0]),
        ("ends just then", [A, A, A, END, B], [A, A, A, END, PAD], 3, [1, 1, 1, 1, 0]),
        ("ended before", [A, CLOSE, END, B, B], [A, CLOSE, END, PAD, PAD], 2, [1, 1, 1, 0, 0]),
        ("stopped before", [A, EOS, B, B, B], [A, EOS, END, PAD, PAD], 2, [1, 1, 0, 0, 0]),
        ("stops just then", [A, A, EOS, B, B], [A, A, EOS, END, PAD], 3, [1, 1, 1, 0, 0]),
    )
    def test_reasoning_that(self, drawn, want, end, own):
        rules = Rules(_CONFIG, _settings(256, max_reasoning_tokens=3))
        assert rules.limit == 5
        trace = _written(rules, drawn)
        assert trace.token_ids[0, 0, :5].tolist() == want
        assert int(trace.end_index[0, 0]) == end
        assert (-trace.logprobs[0, 0, :5]).tolist() == own
        assert bool(trace.forced[0, 0]) == (not own[end])

    def test_no_reasoning_at_all(self):
        rules = Rules(_CONFIG, _settings(256, max_reasoning_tokens=0))
        trace = _written(rules, [A, A], [CLOSE, A], [END, A])
        assert trace.token_ids[0, :, :2].tolist() == [[CLOSE, END], [CLOSE, END], [END, PAD]]
        assert trace.forced.tolist() == [[True, True, False]]

    def test_the_limit_of_all_tokens_still_holds(self):
        settings = _settings(1, max_reasoning_tokens=7)
        assert settings.limit == 1
        assert _written(Rules(_CONFIG, settings), [A]).token_ids[0, 0, 0] == END


class WritingTest(parameterized.TestCase):
    def test_only_where_asked(self):
        rules = Rules(_CONFIG, _settings(4))
        trace = rules.begin(1, 2)
        token, logprob = jnp.array([[END, END]]), jnp.array([[-1.0, -2.0]])
        trace, _ = rules.write(trace, 0, token, logprob, jnp.array([[True, False]]))
        assert trace.token_ids[0, :, 0].tolist() == [END, PAD]
        assert trace.end_index.tolist() == [[0, -1]] and trace.logprobs[0, 1, 0] == 0

    def test_every_sample_at_its_own_place(self):
        rules = Rules(_CONFIG, _settings(4))
        trace, _ = rules.write(
            rules.begin(1, 2), jnp.array([[2, 0]]), jnp.array([[A, B]]), jnp.zeros((1, 2))
        )
        assert trace.token_ids[0].tolist() == [[PAD, PAD, A, PAD, PAD], [B, PAD, PAD, PAD, PAD]]

    def test_an_answer_is_never_forced(self):
        rules = Rules(_CONFIG, _settings(3, max_reasoning_tokens=1), answer=True)
        assert rules.end == EOS
        trace = _written(rules, [A, B, A], [A, EOS, B])
        assert trace.token_ids[0, :, :3].tolist() == [[A, B, A], [A, EOS, PAD]]
        assert trace.end_index.tolist() == [[-1, 1]] and not trace.forced.any()

    def test_finished(self):
        rules = Rules(_CONFIG, _settings(4))
        trace = _written(rules, [A, A, A], [A, END, PAD])
        # The end token has to be cached before the trajectory can follow.
        assert rules.finished(trace, 1).tolist() == [[False, False]]
        assert rules.finished(trace, 2).tolist() == [[False, True]]
        assert rules.finished(trace, jnp.array([[4, 1]])).tolist() == [[True, False]]

    def test_trajectory_ids_cannot_be_drawn_but_in_answers(self):
        first = _CONFIG.trajectory_tokens.traj_token_start_idx
        logits = jnp.zeros((1, 1, _CONFIG.language.vocab_size)).at[..., first].set(50.0)
        for answer in (False, True):
            rules = Rules(_CONFIG, _settings(4, greedy=True), answer)
            token, _ = rules.draw(logits, jax.random.key(0), 0)
            assert (int(token[0, 0]) == first) == answer

    def test_keys_of_places(self):
        """A sample at its own place draws what it would draw with all others there."""
        rules = Rules(_CONFIG, dataclasses.replace(_settings(4), num_samples=3))
        logits = jax.random.normal(jax.random.key(1), (2, 3, _CONFIG.language.vocab_size))
        draw = quick_jit(rules.draw)
        for key in (jax.random.key(2), jax.random.split(jax.random.key(3))):
            places = np.array([[0, 2, 1], [2, 2, 0]])
            mixed, _ = draw(logits, key, jnp.asarray(places))
            for place in range(3):
                together, _ = draw(logits, key, place)
                at = places == place
                np.testing.assert_array_equal(np.asarray(mixed)[at], np.asarray(together)[at])


@pytest.mark.parametrize(
    "fields",
    [dict(max_reasoning_tokens=-1), dict(max_reasoning_tokens=3, force_end=False),
     dict(draft_block=0)],
)  # fmt: skip
def test_settings_are_refused(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        SampleSettings(**fields)
