"""Conversations about all prefixes in one row say what each would say alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alpamayo_jax.config import ConfigError
from alpamayo_jax.models.alpamayo import Alpamayo
from alpamayo_jax.testing.tiny import (
    compressed,
    quick_jit,
    random_observation,
    random_params,
    random_target,
    tiny_config,
)
from alpamayo_jax.tokens.interleaved import interleave
from alpamayo_jax.tokens.processor import BUCKET, Processor
from alpamayo_jax.tokens.tokenizer import tiny_tokenizer
from alpamayo_jax.train.objectives import expert_velocity
from alpamayo_jax.train.targets import fused_ids, future_actions
from alpamayo_jax.types import InputError

CONFIG = compressed(tiny_config(), "flex", prefix=True, num_steps=2)
PROCESSOR = Processor(CONFIG, tiny_tokenizer(CONFIG))
PER_STEP = CONFIG.tokens_per_step


def _parts():
    """The same two frames seen after the first and after the second, with histories of their own."""
    seen = random_observation(CONFIG)
    parts = []
    for k in (1, 2):
        cameras = tuple(
            dataclasses.replace(c, images=c.images[:k], times=c.times[:k]) for c in seen.cameras
        )
        other = random_observation(CONFIG, seed=k)
        observation = dataclasses.replace(other, cameras=cameras)
        target = random_target(CONFIG, seed=k, reasoning="abc"[:k])
        parts.append(([observation] * 2, [target] * 2))
    return parts, [PROCESSOR.train_batch(*part) for part in parts]


def test_each_prefix_has_the_logits_of_its_own_conversation():
    _, parts = _parts()
    joined = jax.tree.map(jnp.asarray, interleave(parts, CONFIG))
    model, params = Alpamayo(CONFIG), random_params(CONFIG)
    scene = quick_jit(lambda p, i: model.apply({"params": p}, i, method="scene_tokens"))(
        params, joined.inputs
    )
    hidden = quick_jit(
        lambda p, i, s: model.apply({"params": p}, i, i.input_ids, s, method="prefill")[0]
    )
    together = hidden(params, joined.inputs, scene)
    for k, part in enumerate(parts, 1):
        # Alone, the conversation about the first k steps reads the first k chunks.
        index = np.asarray(part.inputs.image_index)
        first = np.where(index >= 0, index - index[index >= 0].min(), -1)
        own = jax.tree.map(jnp.asarray, part.inputs.replace(image_index=first))
        alone = hidden(params, own, scene)
        tail = np.asarray(joined.inputs.prefix[0]) == -k
        np.testing.assert_allclose(together[:, tail], alone[:, -tail.sum() :], atol=2e-4)
        assert np.abs(alone).max() > 0.1


def test_an_earlier_prefix_does_not_see_later_frames():
    _, parts = _parts()
    joined = jax.tree.map(jnp.asarray, interleave(parts, CONFIG))
    model, params = Alpamayo(CONFIG), random_params(CONFIG)
    run = quick_jit(lambda p, i: model.apply({"params": p}, i, i.input_ids, method="prefill")[0])
    later = np.asarray(joined.inputs.step_images)[0, 1]
    pixels = joined.inputs.pixel_values.at[:, later].add(0.5)
    change = np.abs(run(params, joined.inputs.replace(pixel_values=pixels)) - run(params, joined.inputs))
    prefix = np.asarray(joined.inputs.prefix[0])
    assert change[:, prefix == -1].max() == 0 and change[:, prefix == -2].max() > 1e-4


def test_labels_are_those_of_all_parts():
    _, parts = _parts()
    joined = interleave(parts, CONFIG)
    assert joined.labels_mask.sum() == sum(p.labels_mask.sum() for p in parts)
    assert set(np.unique(joined.inputs.prefix)) == {-2, -1, 0, 1, 2}
    assert (joined.inputs.image_index[0] >= 0).sum() == 2 * PER_STEP


def test_what_does_not_fit_is_refused():
    _, parts = _parts()
    with pytest.raises(InputError, match="row 0: part 1"):
        interleave(parts[::-1], CONFIG)
    with pytest.raises(ConfigError, match="scene.flex.prefix"):
        interleave(parts, compressed(tiny_config(), "flex"))


def test_every_part_has_its_own_trajectory_ids():
    _, parts = _parts()
    joined = interleave(parts, CONFIG)

    fuse = quick_jit(lambda batch: fused_ids(batch, future_actions(batch, CONFIG), CONFIG))
    fused = lambda batch: np.asarray(fuse(batch))  # noqa: E731
    together = fused(joined)
    for k, part in enumerate(parts, 1):
        tail = joined.inputs.prefix[0] == -k
        np.testing.assert_array_equal(together[:, tail], fused(part)[:, -tail.sum() :])
    first, last = (together[:, joined.inputs.prefix[0] == -k][:, -40:-10] for k in (1, 2))
    assert (first != last).any()


def test_the_flow_sees_the_last_conversation_as_if_it_were_alone():
    _, parts = _parts()
    joined, alone = (jax.tree.map(jnp.asarray, b) for b in (interleave(parts, CONFIG), parts[-1]))
    params, waypoints = random_params(CONFIG), CONFIG.action.n_waypoints
    x = jax.random.normal(jax.random.key(0), (2, 1, waypoints, 2))
    t = jnp.full((2, 1), 0.3)
    run = quick_jit(lambda p, i: expert_velocity(p, i, i.input_ids, x, t, CONFIG))
    np.testing.assert_allclose(
        run(params, joined.inputs), run(params, alone.inputs), atol=2e-4, rtol=1e-3
    )


def test_rows_are_padded_as_asked():
    wanted, parts = _parts()
    joined = PROCESSOR.interleaved_batch(wanted, pad_to="bucket")
    real = interleave(parts, CONFIG)
    length, count = joined.labels_mask.shape[1], real.labels_mask.shape[1]
    assert length % BUCKET == 0 and 0 <= length - count < BUCKET
    shift = length - count
    np.testing.assert_array_equal(joined.inputs.input_ids[:, shift:], real.inputs.input_ids)
    assert not joined.inputs.attention_mask[:, :shift].any()
    np.testing.assert_array_equal(joined.inputs.rope_delta, real.inputs.rope_delta - shift)
    with pytest.raises(InputError, match=f"needs {count} tokens, more than pad_to 100"):
        PROCESSOR.interleaved_batch(wanted, pad_to=100)
