import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.decode.generate import Generation
from alpamayo_jax.decode.prefix import fuse_history, prefill
from alpamayo_jax.decode.score import trajectory_logprob
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import (
    GRIDS,
    continued,
    quick_jit,
    random_inputs,
    random_params,
    tiny_config,
)
from alpamayo_jax.tokens import trajectory
from alpamayo_jax.tokens.vocabulary import future_ids, special_token_id
from alpamayo_jax.types import KVCache

K, N = 3, 4
_CONFIG = tiny_config()
_END_INDEX = np.array([[0, 3, 1], [2, -1, 3]])


@functools.cache
def _params():
    return random_params(_CONFIG)


def _inputs():
    return random_inputs(_CONFIG, GRIDS[::-1])


def _ids():
    ids = np.random.default_rng(0).integers(0, 200, (2, K, N)).astype(np.int32)
    for place in zip(*np.nonzero(_END_INDEX >= 0)):
        ids[place][_END_INDEX[place]] = special_token_id(_CONFIG, "traj_future_start")
    return ids


@quick_jit
def _all_at_once(params, inputs):
    """Logits and cache of whole conversations."""
    model = Alpamayo(_CONFIG)
    ids = fuse_history(inputs, _CONFIG)
    hidden, cache = model.apply({"params": params}, inputs, ids, method="prefill")
    return model.apply({"params": params}, hidden, method="logits"), cache


def _naive(actions):
    """Every sample's prompt, reasoning and trajectory in one teacher-forced pass."""
    bins = trajectory.encode_future(actions, _CONFIG.trajectory_tokens)
    future = np.asarray(bins) + _CONFIG.trajectory_tokens.traj_token_start_idx
    size = future.shape[-1]
    new = np.zeros((2, K, N + size), np.int32)
    new[..., :N] = _ids()
    begin = _END_INDEX + 1
    for place in np.ndindex(2, K):
        new[place][begin[place] : begin[place] + size] = future[place]
    inputs = _inputs()
    logits, cache = _all_at_once(_params(), continued(inputs, new))
    logprob = np.asarray(jax.nn.log_softmax(logits)).reshape(2, K, -1, logits.shape[-1])
    length = inputs.input_ids.shape[1]
    want = np.zeros((2, K))
    for place in np.ndindex(2, K):
        for i, token in enumerate(future[place]):
            want[place] += logprob[place][length + begin[place] + i - 1, token]
    own = jax.tree.map(
        lambda a: a[..., length : length + N, :].reshape(len(a), 2, K, *a.shape[2:3], N, -1), cache
    )
    return want, own, future


@pytest.fixture(scope="module")
def scored():
    rng = np.random.default_rng(1)
    actions = 4 * rng.standard_normal((2, K, _CONFIG.action.n_waypoints, 2)).astype(np.float32)
    want, cache, future = _naive(actions)
    generation = Generation(
        token_ids=jnp.asarray(_ids()),
        logprobs=jnp.zeros((2, K, N)),
        end_index=jnp.asarray(_END_INDEX),
        num_tokens=jnp.int32(N),
        cache=cache,
    )
    prefix = quick_jit(prefill, static_argnums=2)(_params(), _inputs(), _CONFIG)
    run = quick_jit(trajectory_logprob, static_argnums=3)
    score = lambda g, a: np.asarray(run(_params(), prefix, g, _CONFIG, a))  # noqa: E731
    return want, score, generation, actions, future


def test_equals_a_teacher_forced_pass_over_everything(scored):
    want, score, generation, actions, future = scored
    got = score(generation, actions)
    has_end = _END_INDEX >= 0
    np.testing.assert_allclose(got[has_end], want[has_end], rtol=1e-5)
    assert np.isneginf(got[~has_end]).all()
    ids = future_ids(_CONFIG.trajectory_tokens)
    assert ids.start <= future.min() and future.max() < ids.stop


def test_what_follows_the_end_token_is_not_read(scored):
    _, score, generation, actions, _ = scored
    # The end token itself is fed again, so its slot is not read either.
    hidden = (np.arange(N) >= _END_INDEX[..., None])[None, :, :, None, :, None]
    loud = jax.tree.map(lambda a: jnp.where(hidden, 8.0, a), generation.cache)
    got = score(generation.replace(cache=loud), actions)
    np.testing.assert_array_equal(got, score(generation, actions))


def test_each_sample_is_scored_on_its_own_actions(scored):
    _, score, generation, actions, _ = scored
    other = actions.copy()
    other[0, 2] = 0
    moved = score(generation, other) != score(generation, actions)
    assert moved.tolist() == [[False, False, True], [False] * 3]


def test_caches_of_other_samples_do_not_mix(scored):
    _, score, generation, actions, _ = scored
    cache = KVCache(*(a.at[:, 0, 1].add(1.0) for a in (generation.cache.k, generation.cache.v)))
    moved = score(generation.replace(cache=cache), actions) != score(generation, actions)
    assert moved.tolist() == [[False, True, False], [False] * 3]
