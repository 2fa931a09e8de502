"""A host program that drives the stages: what a deployment does, in NumPy."""

from typing import Any, Callable, Mapping

import numpy as np

# (stage, values) -> outputs; a call takes of the values what its stage has as inputs.
Call = Callable[[str, Mapping[str, Any]], Mapping[str, np.ndarray]]


def drive(
    call: Call, facts: Mapping[str, Any], inputs: Mapping[str, Any], noise: np.ndarray, limit: int
) -> dict[str, np.ndarray]:
    """One observation through the stages, with greedy reasoning: as stage "policy" in one program.

    Args:
      call: runs a stage, such as `Exported.run`.
      facts: `stages.host_facts`, as `Manifest.model` has them.
      inputs: the fields of `ModelInputs` by name.
      noise: float32 [B, K, W, 2].
      limit: N, the slots of the samples' cache.

    Returns:
      token_ids int32 [B, K, N], end_index int32 [B, K], actions, xyz and rot.
    """
    values = {**inputs, **call("vision", inputs)}
    prefix = dict(call("prefill", values))
    batch, samples, waypoints, _ = noise.shape
    layers, _, heads, length, size = prefix["prefix_k"].shape
    logits = np.repeat(np.asarray(prefix.pop("logits"))[:, None], samples, axis=1)
    values |= prefix
    empty = np.zeros((layers, batch, samples, heads, limit, size), prefix["prefix_k"].dtype)
    values |= {"cache_k": empty, "cache_v": empty}
    position = length + np.asarray(inputs["rope_delta"])[:, None]

    ids = np.full((batch, samples, limit), facts["pad_id"], np.int32)
    end_index = np.full((batch, samples), -1, np.int32)
    stopped = np.zeros((batch, samples), bool)
    first, last = facts["no_reasoning_ids"]
    for step in range(limit):
        allowed = logits.copy()
        allowed[..., first:last] = -np.inf
        token = allowed.argmax(-1).astype(np.int32)
        token = np.where(stopped | (step == limit - 1), facts["end_id"], token)
        over = end_index >= 0
        token = np.where(over, facts["pad_id"], token).astype(np.int32)
        end_index = np.where(~over & (token == facts["end_id"]), step, end_index).astype(np.int32)
        stopped = ~over & (token == facts["eos_id"])
        ids[..., step] = token
        values |= {
            "token_ids": token,
            "step": np.array(step, np.int32),
            "position_ids": np.broadcast_to(
                (position + step)[None, ..., None], (3, batch, samples, 1)
            ).astype(np.int32),
        }
        out = call("decode_step", values)
        logits = np.asarray(out["logits"])
        values |= {"cache_k": out["next_cache_k"], "cache_v": out["next_cache_v"]}
        if (end_index >= 0).all():
            break

    positions = (position + end_index + 1)[..., None] + np.arange(waypoints)
    values |= {
        "noise": noise,
        "position_ids": np.broadcast_to(positions, (3, *positions.shape)).astype(np.int32),
        "cache_mask": np.arange(limit) <= end_index[..., None],
    }
    actions = dict(call("flow_loop", values))
    driven = call("trajectory", {**values, **actions})
    return {"token_ids": ids, "end_index": end_index, **actions, **driven}
