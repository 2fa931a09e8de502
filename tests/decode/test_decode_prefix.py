import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.decode.prefix import fuse_history, prefill
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import GRIDS, quick_jit, random_inputs, random_params, tiny_config
from alpamayo_jax.tokens.history import encode_history
from alpamayo_jax.tokens.vocabulary import history_ids, special_token_id

_CONFIG = tiny_config()


def test_history_takes_its_placeholders():
    inputs = random_inputs(_CONFIG, GRIDS[::-1])
    got = np.asarray(fuse_history(inputs, _CONFIG))
    place = np.asarray(inputs.input_ids) == special_token_id(_CONFIG, "traj_history")
    tokens = _CONFIG.trajectory_tokens
    bins = encode_history(inputs.ego_history_xyz, inputs.ego_history_rot, tokens)
    want = np.asarray(bins) + tokens.history_start_idx
    assert place.sum(-1).tolist() == [tokens.tokens_per_history_traj] * 2
    np.testing.assert_array_equal(got[place].reshape(2, -1), want)
    np.testing.assert_array_equal(got[~place], np.asarray(inputs.input_ids)[~place])
    ids = history_ids(tokens)
    assert ids.start <= got[place].min() and got[place].max() < ids.stop
    assert len(np.unique(want[0])) > 2 and (want[0] != want[1]).any()


def test_prefix_is_the_networks_prefill_of_fused_ids():
    inputs, params = random_inputs(_CONFIG, GRIDS[::-1]), random_params(_CONFIG)
    prefix = quick_jit(prefill, static_argnums=2)(params, inputs, _CONFIG)
    hidden, cache = quick_jit(
        lambda p, inputs, ids: Alpamayo(_CONFIG).apply({"params": p}, inputs, ids, method="prefill")
    )(params, inputs, fuse_history(inputs, _CONFIG))
    np.testing.assert_allclose(prefix.last_hidden, hidden[:, -1], atol=1e-6)
    np.testing.assert_allclose(prefix.cache.k, cache.k, atol=1e-6)
    np.testing.assert_allclose(prefix.cache.v, cache.v, atol=1e-6)
    np.testing.assert_array_equal(prefix.mask, inputs.attention_mask)
    np.testing.assert_array_equal(prefix.rope_delta, inputs.rope_delta)
    assert prefix.length == inputs.input_ids.shape[1]
    assert prefix.cache.k.shape == (2, 2, 2, prefix.length, 16)


def test_a_prefix_can_be_passed_between_programs():
    inputs = random_inputs(_CONFIG)
    prefix = jax.eval_shape(
        lambda p: prefill(p, inputs, _CONFIG), jax.eval_shape(lambda: random_params(_CONFIG))
    )
    leaves = jax.tree.leaves(prefix)
    assert len(leaves) == 5 and prefix.last_hidden.dtype == jnp.float32
