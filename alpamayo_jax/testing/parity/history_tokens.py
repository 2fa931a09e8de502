"""History tokens against the recorded values of the release."""

import dataclasses
import functools

import jax
import numpy as np

from alpamayo_jax.config import TrajectoryTokenConfig
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.tokens import history, trajectory

FILE = "delta_tokenizer.npz"
REQUIRES = (FILE,)

XYZ_TOLERANCE = 1e-4  # m
ROT_TOLERANCE = 1e-4
TIE = 1e-3  # bins; float32 steps of a bin position reach 6e-5
PLACEHOLDER_ID = -1

_encode = jax.jit(history.encode_history, static_argnames="cfg")
_decode = jax.jit(history.decode_history, static_argnames="cfg")
_fuse = jax.jit(trajectory.fuse, static_argnames=("cfg", "history_placeholder_id"))


def checks(reference: Reference) -> list[Check]:
    """One check for every recorded array, on all recorded trajectories at once."""
    values = reference.arrays(FILE)
    check = functools.partial(compare, "history_tokens")
    plain = TrajectoryTokenConfig()
    with_yaw = dataclasses.replace(plain, history_predict_yaw=True)
    found = []
    for cfg, prefix in ((plain, ""), (with_yaw, "yaw_")):
        for span in ("hist", "fut"):
            key = f"{prefix}{span}_tokens"
            got = np.asarray(_encode(values[f"{span}_xyz"], values[f"{span}_rot"], cfg=cfg))
            found.append(check(key, got, values[key], 1))
            if key == "hist_tokens":
                clear = values["hist_frac_dist_to_boundary"] > TIE
                want = values[key][clear]
                found.append(check("hist_tokens, no ties", got[clear], want, 0))
            name = f"{prefix}{span}_decode"
            if f"{name}_xyz" not in values:
                continue
            want_xyz, want_rot = values[f"{name}_xyz"], values[f"{name}_rot"]
            poses = _decode(values[key][: len(want_xyz)], cfg=cfg)
            # The release returns the clockwise heading of its tokens as counter-clockwise.
            rot = np.swapaxes(poses.rot, -1, -2) if cfg.history_predict_yaw else poses.rot
            found.append(check(f"{name}_xyz", poses.xyz, want_xyz, XYZ_TOLERANCE))
            found.append(check(f"{name}_rot", rot, want_rot, ROT_TOLERANCE))

    # Where history ids start depends on the vocabulary of the recording.
    ids, bins = values["tokenize_history"], values["hist_tokens"]
    start = int(ids.flat[0] - bins.flat[0]) - plain.num_future_bins
    cfg = dataclasses.replace(plain, traj_token_start_idx=start)
    placeholders = np.full(ids.shape, PLACEHOLDER_ID, np.int32)
    own = _encode(values["hist_xyz"], None, cfg=cfg)
    fused = _fuse(placeholders, cfg=cfg, history_placeholder_id=PLACEHOLDER_ID, history_bins=own)
    found.append(check("tokenize_history", fused, ids, 1))
    return found
