"""The trajectory as tokens, on scripted models whose every next token is known."""

import functools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.decode.draw import draw
from alpamayo_jax.decode.generate import generate
from alpamayo_jax.decode.prefix import prefill
from alpamayo_jax.decode.settings import SampleSettings
from alpamayo_jax.decode.trajectory import generate_trajectory
from alpamayo_jax.testing.tiny import quick_jit, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.vocabulary import special_token_id

K, N = 8, 4
CONFIG = tiny_config()
TOKENS = CONFIG.trajectory_tokens
M = TOKENS.tokens_per_future_traj + 1
START = special_token_id(CONFIG, "traj_future_start")
END = special_token_id(CONFIG, "traj_future_end")
EOS, PAD = CONFIG.text_tokens.eos_token_id, CONFIG.text_tokens.pad_token_id
COT, A, B, C = special_token_id(CONFIG, "cot_start"), 65, 66, 67
BIN = TOKENS.traj_token_start_idx + 5
SETTINGS = SampleSettings(num_samples=K, max_new_tokens=N, force_end=False)


def _script(*arrows):
    """Parameters of a model whose next token depends on the last: (token, next, logit); else 0."""
    params = jax.tree.map(np.array, random_params(CONFIG))
    language = params["vlm"]["language_model"]
    language["layers"]["self_attn"]["o_proj"]["kernel"][:] = 0
    language["layers"]["mlp"]["down_proj"]["kernel"][:] = 0
    language["norm"]["scale"][:] = 1
    embedding, head = language["embed_tokens"]["embedding"], params["vlm"]["lm_head"]["kernel"]
    embedding[:], head[:] = 0, 0
    for row, token in enumerate(sorted({token for token, _, _ in arrows})):
        embedding[token, row] = 1
        for origin, following, logit in arrows:
            if origin == token:
                head[row, following] = logit / embedding.shape[1] ** 0.5
    return params


@functools.partial(quick_jit, static_argnums=(1, 2))
def _run(params, settings, constrained):
    prefix = prefill(params, random_inputs(CONFIG), CONFIG)
    keys = jax.random.split(jax.random.key(0))
    thought = generate(params, prefix, CONFIG, settings, keys[0])
    said = generate_trajectory(
        params, prefix, thought, CONFIG, settings, keys[1], constrained=constrained
    )
    return thought, said


def _by_start(thought, said):
    """What each sample says, by the first token of its reasoning."""
    found = {}
    for b, k in np.ndindex(2, K):
        ids, length = np.asarray(said.token_ids[b, k]), int(said.num_tokens[b, k])
        assert (ids[length:] == PAD).all() and (np.asarray(said.logprobs[b, k, length:]) == 0).all()
        logprobs = [round(float(p), 2) for p in said.logprobs[b, k, :length]]
        entry = ids[:length].tolist(), logprobs
        assert found.setdefault(int(thought.token_ids[b, k, 0]), entry) == entry
    return found


class TrajectoryTest(parameterized.TestCase):
    def test_every_way_to_end(self):
        """What follows the start is the same in all samples, for the model has no memory."""
        chains = [(COT, A, 60.0), (COT, B, 60.0), (A, START, 60.0), (B, C, 60.0), (C, C, 60.0)]
        for rest, want in (
            ([(START, BIN, 60.0), (BIN, END, 60.0)], [BIN, END]),
            ([(START, A, 60.0), (A, EOS, 99.0)], [A, EOS]),
            ([(START, END, 60.0)], [END]),
            ([(START, BIN, 60.0), (BIN, BIN, 60.0)], [BIN] * M),
            ([(START, BIN, 60.0), (BIN, START, 60.0)], ([BIN, START] * M)[:M]),
        ):
            if any(arrow[0] == A for arrow in rest):  # then A cannot lead to the start
                chains_now = [(COT, B, 60.0), (COT, START, 60.0), (B, C, 60.0), (C, C, 60.0)]
                first = START
            else:
                chains_now, first = chains, A
            got = _by_start(*_run(_script(*chains_now, *rest), SETTINGS, False))
            assert got == {first: (want, [0.0] * len(want)), B: ([], [])}, want

    def test_constrained_draws_bins_and_then_the_end(self):
        # The model would rather say something else everywhere.
        likes = [(COT, A, 60.0), (A, START, 60.0), (START, C, 90.0), (START, BIN, 60.0)]
        rest = [(BIN, END, 90.0), (BIN, TOKENS.history_start_idx, 80.0), (BIN, BIN + 1, 60.0)]
        script = _script(*likes, *rest, (BIN + 1, BIN, 60.0))
        got = _by_start(*_run(script, SETTINGS, True))
        assert got == {A: ([BIN, BIN + 1] * (M // 2) + [END], [0.0] * M)}

    def test_log_probabilities_are_over_what_can_be_drawn(self):
        likes = [(COT, START, 60.0), (START, BIN, 60.0), (START, A, 60.0 + np.log(3))]
        script = _script(*likes, (BIN, END, 60.0), (A, END, 60.0))
        _, said = _run(script, SETTINGS, False)
        first = np.asarray(said.token_ids[..., 0])
        assert set(first.ravel()) == {BIN, A}
        want = np.where(first == BIN, np.log(1 / 4), np.log(3 / 4))
        np.testing.assert_allclose(said.logprobs[..., 0], want, atol=1e-3)
        _, said = _run(script, SETTINGS, True)
        assert (np.asarray(said.token_ids[..., 0]) == BIN).all()
        np.testing.assert_allclose(said.logprobs[..., 0], 0, atol=1e-3)
        # From a bin of which nothing is known, all bins are alike.
        np.testing.assert_allclose(
            said.logprobs[..., 1], -np.log(TOKENS.num_future_bins), rtol=1e-3
        )

    def test_nothing_is_computed_where_no_reasoning_ended(self):
        _, said = _run(_script((COT, C, 60.0), (C, C, 60.0)), SETTINGS, True)
        assert (np.asarray(said.token_ids) == PAD).all() and not np.asarray(said.num_tokens).any()


class DrawTest(parameterized.TestCase):
    def test_frequencies_and_log_probabilities(self):
        logits = jnp.broadcast_to(jnp.log(jnp.float32([0.5, 0.3, 0.2])), (1, 4000, 3))
        token, logprob = draw(
            logits, jax.random.key(0), 0, SampleSettings(temperature=1.0, top_p=1.0)
        )
        shares = np.bincount(np.asarray(token).ravel(), minlength=3) / 4000
        np.testing.assert_allclose(shares, [0.5, 0.3, 0.2], atol=0.03)
        np.testing.assert_allclose(logprob, np.log([0.5, 0.3, 0.2])[np.asarray(token)], rtol=1e-5)

    def test_colder_draws_have_log_probabilities_at_temperature_one(self):
        logits = jnp.broadcast_to(jnp.log(jnp.float32([0.5, 0.3, 0.2])), (1, 2000, 3))
        token, logprob = draw(
            logits, jax.random.key(0), 0, SampleSettings(temperature=0.5, top_p=0.85)
        )
        # 0.25, 0.09 and 0.04 of 0.38; the last one lies outside the nucleus.
        shares = np.bincount(np.asarray(token).ravel(), minlength=3) / 2000
        np.testing.assert_allclose(shares, [25 / 34, 9 / 34, 0], atol=0.03)
        np.testing.assert_allclose(logprob, np.log([0.5, 0.3, 0.2])[np.asarray(token)], rtol=1e-5)

    def test_the_number_of_the_token_and_the_place_of_the_sample_decide(self):
        logits = jnp.zeros((2, 5, 1000))
        options = SampleSettings(temperature=1.0, top_p=1.0)
        first, again, other = (
            np.asarray(draw(logits, jax.random.key(0), index, options)[0]) for index in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).mean() > 0.8 and len(set(first.ravel())) > 8
        few = np.asarray(draw(logits[:1, :2], jax.random.key(0), 0, options)[0])
        np.testing.assert_array_equal(few, first[:1, :2])
