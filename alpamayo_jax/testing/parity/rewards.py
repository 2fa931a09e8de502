"""Parity of derivatives, comfort checks and rewards, malformed trajectories included."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import ActionSpaceConfig, TrajectoryTokenConfig
from alpamayo_jax.convert import read_config
from alpamayo_jax.metrics import dynamics, open_loop
from alpamayo_jax.rl.rewards import trajectory
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.testing.parity.metrics import compare_float32
from alpamayo_jax.tokens.tokenizer import Tokenizer
from alpamayo_jax.tokens.trajectory import extract_future

REQUIRES = ("rewards.npz",)

_CHECKPOINT = "tiny_checkpoint"
_TOLERANCE = 1e-5
_XYZ_TOLERANCE = 1e-4  # positions decoded from tokens: that of the action space, metres

# Recorded name -> ours.
_DYNAMICS = {
    "ego_yaw_rate": "yaw_rate",
    "ego_yaw_accel": "yaw_accel",
    "ego_dv": "accel",
    "ego_jerk": "jerk",
    "ego_dv_lon": "lon_accel",
    "ego_jerk_lon": "lon_jerk",
    "ego_dv_lat": "lat_accel",
}


def checks(reference: Reference) -> list[Check]:
    """Compares with rewards.npz."""
    want = reference.arrays(REQUIRES[0])
    return _motion(want) + _rewards(want) + _texts(reference, want)


def _motion(want) -> list[Check]:
    xyz, rot = jnp.asarray(want["pred_xyz"]), jnp.asarray(want["pred_rot"])
    motion = jax.jit(dynamics.dynamics)(xyz, rot)
    out = []
    for name in want:
        if name.startswith("dyn:"):
            ours = getattr(motion, _DYNAMICS[name.removeprefix("dyn:")])
            out.append(compare("rewards", name, ours, want[name], _TOLERANCE, relative=True))
    passed = jax.jit(dynamics.comfort_checks)(xyz, rot)
    keys = [str(key) for key in want["comfort_keys"]]
    bounds = dataclasses.asdict(dynamics.ComfortBounds())
    ours = [bounds[key.removeprefix("comfort/")] for key in keys]
    out.append(compare("rewards", "comfort_bounds", ours, want["comfort_bounds"], 0))
    table = jnp.stack([passed[key.removeprefix("comfort/")] for key in keys], axis=-1)
    table = np.asarray(table, np.float32)  # [B, N, K, 6]
    for i, key in enumerate(keys):
        ours = np.mean(table[..., i], axis=(1, 2))
        out.append(compare("rewards", key, ours, want[key], _TOLERANCE))
    for name in want:
        if match := re.fullmatch(r"comfort_k(\d+)", name):
            ours = table[:, 0, int(match.group(1))]
            out.append(compare("rewards", name, ours, want[name], _TOLERANCE))
    ade = open_loop.sample_ade(xyz, jnp.asarray(want["fut_xyz"]))[:, 0, 1]
    return out + [compare_float32("rewards", "ade", ade, want["ade"], _TOLERANCE)]


def _rewards(want) -> list[Check]:
    num_ids = want["extract_traj_tokens"].shape[-1]
    tokens = TrajectoryTokenConfig(
        traj_token_start_idx=int(want["traj_token_start_idx"]), tokens_per_future_traj=num_ids
    )
    action = ActionSpaceConfig(n_waypoints=num_ids // 2)
    start, end = (int(i) for i in want["special_start_end_ids"])

    @jax.jit
    def compute(ids, history_xyz, history_rot, future_xyz):
        bins, _ = extract_future(ids, tokens, start, end)
        given = (ids, history_xyz, history_rot)
        decoded, _ = trajectory.decode_generated(*given, tokens, action, start, end)
        reward = trajectory.reward_from_ids(*given, future_xyz, tokens, action, start, end)
        return bins, decoded, reward

    ids = want["reward_ids"].astype(np.int32)
    bins, decoded, got = compute(ids, want["hist_xyz"], want["hist_rot"], want["fut_xyz"])
    xyz = want["reward_decoded_xyz"]
    out = [
        compare("rewards", "extract_traj_tokens", bins, want["extract_traj_tokens"], 0),
        compare("rewards", "reward_decoded_xyz", decoded.xyz, xyz, _XYZ_TOLERANCE),
    ]
    ours = {"traj_L2": got.ade, "comfort_reward": got.comfort - 1.0, "reward": got.reward}
    # A distance between positions is as good as float32 positions are that far out.
    reach = np.maximum(1.0, np.abs(xyz).max(axis=(-2, -1)).astype(np.float64))
    for name, column in zip(want["reward_cols"], want["reward"].T):
        scale = reach if name == "traj_L2" else 1.0
        value = np.asarray(ours[str(name)], np.float64) / scale
        out.append(compare("rewards", f"reward:{name}", value, column / scale, _TOLERANCE))
    return out


def _texts(reference: Reference, want) -> list[Check]:
    """The recorded texts, through the tokenizer of the checkpoint beside them if there is one."""
    if not reference.has(_CHECKPOINT):
        return []
    checkpoint = reference.path(_CHECKPOINT)
    tokenizer = Tokenizer.from_directory(checkpoint, read_config(checkpoint)[0])
    ids = trajectory.ids_of_texts([str(text) for text in want["reward_texts"]], tokenizer.encode)
    return [compare("rewards", "reward_ids of reward_texts", ids, want["reward_ids"], 0)]
