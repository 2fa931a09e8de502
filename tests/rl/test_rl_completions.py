"""Log-probabilities of completions: the decoder's, and those of a plain pass over each sequence."""

import dataclasses

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.decode.prefix import fuse_history
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.rl import completions
from alpamayo_jax.rl.completions import completion_logprobs, put_together, take_apart
from alpamayo_jax.testing.tiny import continued, quick_jit

from rollout_cases import (
    CONFIG, CONSTRAINED, END, FIRST_BIN, FLOW, FREE, K, M, NUM_BINS, PAD, R, START, inputs, params,
    rollouts,
)  # fmt: skip

_logprobs = quick_jit(completion_logprobs, static_argnums=(4, 5), static_argnames=("remat",))


@quick_jit
def _plain_logits(params, inputs, ids):
    """What predicts each token of completions [B, K, N], by a forward pass of B K whole rows."""
    rows = continued(inputs, ids)
    model = Alpamayo(CONFIG)
    fused = fuse_history(rows, CONFIG)
    hidden, _ = model.apply({"params": params}, rows, fused, method="prefill")
    logits = model.apply({"params": params}, hidden[:, -ids.shape[-1] - 1 : -1], method="logits")
    return logits.reshape(*ids.shape, -1)


def _by_hand(logits, ids, settings):
    """Log-probability and entropy of one completion, token by token, float64."""
    tokens, logits = CONFIG.trajectory_tokens, np.asarray(logits, np.float64)
    trajectory = np.zeros(logits.shape[-1], bool)
    trajectory[FIRST_BIN : tokens.traj_token_end_idx] = True
    bins = np.zeros_like(trajectory)
    bins[FIRST_BIN : FIRST_BIN + NUM_BINS] = True
    started, out = 0, []
    for row, token in zip(logits, ids):
        allowed = ~trajectory
        if started:
            allowed = np.ones_like(trajectory)
            if settings.constrained:
                allowed = bins if started < M else np.arange(len(bins)) == END
        kept = row[allowed] - row[allowed].max()
        share = np.exp(kept) / np.exp(kept).sum()
        place = np.flatnonzero(allowed).tolist().index(token)
        out.append((np.log(share[place]), -(share * np.log(np.maximum(share, 1e-300))).sum()))
        started += bool(started) or token == START
    return np.array(out)


class LogprobsTest(parameterized.TestCase):
    @parameterized.parameters(
        CONSTRAINED, FREE, FLOW, dataclasses.replace(CONSTRAINED, force_end=True)
    )
    def test_they_are_the_decoders(self, settings):
        found = rollouts(settings)
        got, entropy = _logprobs(
            params(), inputs(), found.token_ids, found.mask, CONFIG, settings
        )
        np.testing.assert_allclose(got, found.logprobs, atol=1e-4)
        mask = np.asarray(found.mask)
        assert (np.asarray(got)[~mask] == 0).all() and (np.asarray(entropy)[~mask] == 0).all()
        assert (np.asarray(entropy) >= -1e-5).all() and len(set(mask.sum(-1).ravel())) > 2

    @parameterized.parameters(CONSTRAINED, FREE)
    def test_they_are_those_of_a_plain_pass_over_each_sequence(self, settings):
        assert not np.asarray(inputs().attention_mask).all()  # one row is padded
        found = rollouts(settings)
        ids = np.asarray(found.token_ids)
        got = _logprobs(params(), inputs(), ids, found.mask, CONFIG, settings)
        logits = _plain_logits(params(), inputs(), ids)
        for b, k in np.ndindex(2, K):
            length = int(found.num_tokens[b, k])
            want = _by_hand(logits[b, k, :length], ids[b, k, :length], settings)
            for mine, theirs in zip(got, want.T):
                np.testing.assert_allclose(mine[b, k, :length], theirs, atol=1e-4)

    def test_what_follows_a_sample_has_no_effect(self):
        found = rollouts(CONSTRAINED)
        ids, mask = np.asarray(found.token_ids), np.asarray(found.mask)
        noise = np.random.default_rng(0).integers(0, 200, ids.shape)
        want, got = (
            _logprobs(params(), inputs(), i, mask, CONFIG, CONSTRAINED)
            for i in (ids, np.where(mask, ids, noise))
        )
        np.testing.assert_array_equal(got[0], want[0])

    def test_chunks_and_remat_change_nothing(self):
        found = rollouts(CONSTRAINED)
        args = (found.token_ids, found.mask, CONFIG, CONSTRAINED)
        weight = np.random.default_rng(0).standard_normal(found.mask.shape)
        head = params()["vlm"]["lm_head"]

        @quick_jit
        def gradients(head):
            def loss(head, **stack):
                vlm = {**params()["vlm"], "lm_head": head}
                found = completion_logprobs({**params(), "vlm": vlm}, inputs(), *args, **stack)
                return sum((weight * a).sum() for a in found)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(completions, "LOGITS_CHUNK", 3)
                parts = jax.grad(loss)(head, remat="full")
            return parts, jax.grad(loss)(head)

        got, want = gradients(head)
        scale = np.abs(want["kernel"]).max()
        np.testing.assert_allclose(got["kernel"], want["kernel"], atol=1e-4 * scale)
        assert scale > 1

    def test_only_logits_that_can_be_drawn_are_computed(self):
        found = rollouts(CONSTRAINED)
        text = str(jax.make_jaxpr(
            lambda p: completion_logprobs(
                p, inputs(), found.token_ids, found.mask, CONFIG, CONSTRAINED
            )
        )(params()))  # fmt: skip
        vocabulary = CONFIG.language.vocab_size
        assert f"2,{K},{M - 1},{NUM_BINS}]" in text and f"2,{K},{R},{vocabulary}]" in text
        assert f"2,{K},{M - 1},{vocabulary}]" not in text

    def test_shapes_that_do_not_fit(self):
        found = rollouts(CONSTRAINED)
        longer = dataclasses.replace(CONSTRAINED, max_reasoning_tokens=R + 1)
        with pytest.raises(AssertionError):
            completion_logprobs(params(), inputs(), found.token_ids, found.mask, CONFIG, longer)


class PartsTest(parameterized.TestCase):
    def test_apart_and_together_again(self):
        for settings in (CONSTRAINED, FREE):
            found = rollouts(settings)
            parts = take_apart(found.token_ids, CONFIG, settings)
            lengths = jnp.where(parts.end_index < 0, R, parts.end_index + 1)
            again = put_together(parts.thought, parts.trajectory, lengths, PAD)
            mask = np.asarray(found.mask)
            np.testing.assert_array_equal(
                np.asarray(again)[mask], np.asarray(found.token_ids)[mask]
            )

    def test_by_hand(self):
        settings = dataclasses.replace(FREE, max_reasoning_tokens=3)
        rows = [[5, START, *range(100, 100 + M), PAD], [5, 6, 7, *[PAD] * M],
                [START, *range(100, 100 + M), PAD, PAD]]  # fmt: skip
        parts = take_apart(jnp.int32([rows]), CONFIG, settings)
        assert parts.end_index[0].tolist() == [1, -1, 0]
        assert parts.thought[0].tolist() == [row[:3] for row in rows]
        assert parts.trajectory[0, 0].tolist() == list(range(100, 100 + M))
        assert parts.trajectory[0, 2].tolist() == list(range(100, 100 + M))
        got = put_together(
            jnp.float32([[[1, 2, 3]]]), jnp.float32([[[4, 5]]]), jnp.int32([[1]]), -1.0
        )
        assert got.tolist() == [[[1, 4, 5, -1, -1]]]
        got = put_together(jnp.float32([[[1, 2]]]), jnp.zeros((1, 1, 0)), jnp.int32([[1]]), -1.0)
        assert got.tolist() == [[[1, -1]]]
