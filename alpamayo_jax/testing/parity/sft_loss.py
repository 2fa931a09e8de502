"""Training losses and gradients against recorded ones."""

from typing import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ModelConfig
from alpamayo_jax.convert import table
from alpamayo_jax.flow import matching
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.testing.parity.model import CHECKPOINT, batch_inputs, load
from alpamayo_jax.train import objectives
from alpamayo_jax.types import TrainBatch

REQUIRES = ("sft_loss.npz", "tiny_checkpoint")
MODULE = "sft_loss"
BATCHES = ("traj", "cot")
_STRIDE_ABOVE = 60_000  # recorded gradients larger than this are thinned


def checks(reference: Reference) -> list[Check]:
    """Stage 1 (tokens) and the expert, on both recorded batches."""
    arrays = reference.arrays("sft_loss.npz")
    config, params = load(reference.path(CHECKPOINT))
    found = []
    for name in BATCHES:
        batch = recorded_batch(name, arrays, config)
        ids = jnp.asarray(arrays[f"s1_{name}:fused_input_ids"], jnp.int32)
        found += _fusion(name, arrays, config, batch, ids)
        found += _tokens(name, arrays, config, params, batch, ids)
        found += _expert(name, arrays, config, params, batch, ids)
    return found


def recorded_batch(
    name: str, arrays: Mapping[str, np.ndarray], config: ModelConfig
) -> TrainBatch:
    """The recorded conversations called `name`, placeholders still in place."""
    names = ("input_ids", "attention_mask", "pixel_values", "image_grid_thw")
    names += ("ego_history_xyz", "ego_history_rot")
    inputs = batch_inputs(config, *(arrays[f"{name}:{n}"] for n in names))
    rows = inputs.input_ids.shape[0]
    return TrainBatch(
        inputs=inputs,
        labels_mask=jnp.asarray(arrays[f"{name}:labels_mask"]),
        ego_future_xyz=jnp.asarray(arrays[f"{name}:ego_future_xyz"].reshape(rows, -1, 3)),
        ego_future_rot=jnp.asarray(arrays[f"{name}:ego_future_rot"].reshape(rows, -1, 3, 3)),
    )


def _fusion(name, arrays, config, batch, ids) -> list[Check]:
    actions = jax.jit(objectives.future_actions, static_argnums=1)(batch, config)
    fused = jax.jit(objectives.fused_ids, static_argnums=2)(batch, actions, config)
    return [
        compare(MODULE, f"{name}: actions", actions, arrays[f"s2_{name}:x"], 3e-3),
        compare(MODULE, f"{name}: fused ids", fused, ids, 1),
    ]


def _tokens(name, arrays, config, params, batch, ids) -> list[Check]:
    def loss(params):
        logits = objectives.conversation_logits(params, batch.inputs, ids, config)
        parts = objectives.token_losses(logits, ids, batch.labels_mask, config)
        everything = objectives.token_losses(logits, ids, jnp.ones_like(ids, bool), config)
        total = parts["loss_future_traj"] + parts["loss_others"]
        without = everything["loss_future_traj"] + everything["loss_others"]
        return total, (parts, without, jnp.abs(logits).sum(-1))

    (total, (parts, without, sums)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    get = lambda key: arrays[f"s1_{name}:{key}"]  # noqa: E731
    real = np.asarray(batch.inputs.attention_mask)
    want_sums = np.where(real, get("logits_sum_abs"), 0)
    return [
        compare(MODULE, f"{name}: stage 1 loss", total, get("loss"), 1e-4),
        compare(MODULE, f"{name}: loss of the future", parts["loss_future_traj"],
                get("loss_future_traj"), 1e-4),
        compare(MODULE, f"{name}: loss of the others", parts["loss_others"], get("loss_others"),
                1e-4),
        compare(MODULE, f"{name}: loss of all tokens", without, get("loss_no_labels_mask"), 1e-4),
        compare(MODULE, f"{name}: logits, sum of magnitudes", np.where(real, sums, 0), want_sums,
                1e-4, relative=True),
        *_gradients(f"s1_{name}", arrays, config, grads),
    ]  # fmt: skip


def _expert(name, arrays, config, params, batch, ids) -> list[Check]:
    get = lambda key: arrays[f"s2_{name}:{key}"]  # noqa: E731
    t = jnp.asarray(get("timesteps"))
    x, noise = jnp.asarray(get("x")), jnp.asarray(get("noise"))
    found = [
        compare(MODULE, f"{name}: noisy actions", matching.interpolate(x, noise, t), get("noisy_x"),
                1e-4),
    ]  # fmt: skip

    def loss(params):
        noisy = jnp.asarray(get("noisy_x"))[:, None]
        velocity = objectives.expert_velocity(
            params, batch.inputs, ids, noisy, t[:, :, 0], config
        )[:, 0]
        return matching.loss(velocity, matching.target(x, noise)), velocity

    case = f"s2_{name}_bidirectional"
    padded = not np.asarray(batch.inputs.attention_mask).all()
    if padded or f"{case}:loss" not in arrays:
        _, velocity = jax.jit(loss)(params)
    else:
        (total, velocity), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
        found += [
            compare(MODULE, f"{name}: expert loss", total, arrays[f"{case}:loss"], 1e-4),
            compare(MODULE, f"{name}: velocity", velocity, arrays[f"{case}:pred"], 1e-4),
            *_gradients(case, arrays, config, grads),
        ]
    # Rows with padding are recorded one by one without it: ours never look at padding.
    for row in range(len(x)):
        key = f"s2_{name}_row{row}_unpadded_bidirectional:loss"
        if key in arrays:
            own = matching.loss(velocity[row], matching.target(x[row], noise[row]))
            found.append(compare(MODULE, f"{name}: expert loss, row {row}", own, arrays[key], 1e-4))
    return found


def _gradients(case, arrays, config, grads) -> list[Check]:
    """The recorded gradients by released name, and the norm of all."""
    flat = table.flatten(grads)
    by_name = {
        hf_name: (row, index)
        for row in table.parameters(config)
        for hf_name, index in row.tensors()
    }
    found = []
    prefix = f"{case}:grad:"
    for key in arrays:
        if not key.startswith(prefix):
            continue
        row, index = by_name[key[len(prefix):]]
        ours = np.asarray(flat[row.path])
        ours = row.to_hf(ours if index is None else ours[index])
        if ours.size > _STRIDE_ABOVE:
            ours = ours.reshape(-1)[:: ours.size // 20_000]
        label = f"{case}: gradient of {key[len(prefix):]}"
        found.append(compare(MODULE, label, ours, arrays[key], 1e-4))
    norm = np.sqrt(sum(float(np.sum(np.square(g, dtype=np.float64))) for g in flat.values()))
    found.append(
        compare(MODULE, f"{case}: gradient norm", norm, arrays[f"{case}:grad_norm"], 1e-4,
                relative=True)
    )  # fmt: skip
    return found
