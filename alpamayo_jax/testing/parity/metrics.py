"""Parity of the open-loop metrics, the box corners and the aggregation over sets."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.metrics import open_loop
from alpamayo_jax.testing.parity.base import Check, Reference, compare

REQUIRES = ("metrics.npz",)

_TOLERANCE = 1e-5


def compare_float32(module: str, quantity: str, got, want: np.ndarray, tolerance: float) -> Check:
    """`compare`, where a value beyond 1 is judged relative to itself.

    At 100 m neighbouring float32 numbers are 8e-6 apart, so an absolute 1e-5 would judge rounding.
    """
    scale = np.maximum(1.0, np.abs(want.astype(np.float64)))
    if np.shape(got) == want.shape:
        got, want = np.asarray(got, np.float64) / scale, want / scale
    return compare(module, quantity, got, want, tolerance)


def checks(reference: Reference) -> list[Check]:
    """Compares with metrics.npz."""
    want = reference.arrays(REQUIRES[0])
    gt_xyz, gt_rot = jnp.asarray(want["gt_xyz"]), jnp.asarray(want["gt_rot"])
    got = {"corners": open_loop.box_corners(gt_xyz, gt_rot, want["dims"])}
    sums = open_loop.over_sets({"sum": jnp.asarray(want["sum_in"])})
    got |= {"sum_mean": sums["sum"], "sum_std": sums["sum_std"]}
    for name in want:
        if match := re.fullmatch(r"(N\d+)_pred_xyz", name):
            got |= _case(match.group(1), want, gt_xyz, gt_rot)
    recorded = {n for n in want if re.match(r"N\d+_(metric|minade3d|sample_ade|ade_3d)", n)}
    recorded |= {"corners", "sum_mean", "sum_std"}
    if missing := recorded - set(got):
        raise ValueError(f"recorded but not computed: {', '.join(sorted(missing))}")
    return [
        compare_float32("metrics", name, got[name], want[name], _TOLERANCE)
        for name in sorted(recorded)
    ]


def _case(case: str, want, gt_xyz, gt_rot) -> dict:
    """Every recorded quantity of one case, by its recorded name."""
    xyz, rot = jnp.asarray(want[f"{case}_pred_xyz"]), jnp.asarray(want[f"{case}_pred_rot"])
    got = {f"{case}_sample_ade": open_loop.sample_ade(xyz, gt_xyz)}
    released = jax.jit(open_loop.released_metrics)(xyz, rot, gt_xyz, gt_rot)
    for name, value in released.items():
        got[f"{case}_metric:{name}"] = value
    spatial = open_loop.over_sets(open_loop.min_ade(xyz, gt_xyz, planar=False))
    for name, value in spatial.items():
        got[f"{case}_minade3d:{name}"] = value
    for name in want:
        if match := re.fullmatch(rf"{case}_ade_3d_h(\d+)", name):
            h = int(match.group(1))
            got[name] = open_loop.sample_ade(xyz[..., :h, :], gt_xyz[:, :h], planar=False)
    return got
