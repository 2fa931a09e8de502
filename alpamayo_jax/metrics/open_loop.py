"""Open-loop metrics: sampled trajectories against the recorded future.

Predictions are `pred_xyz` [..., N, K, W, 3] and `pred_rot` [..., N, K, W, 3, 3]: N independent sets
of K samples with W waypoints; the recorded future is `gt_xyz` [..., W, 3], `gt_rot` [..., W, 3, 3].
All in one frame, metres. `released_metrics` are the released model's definitions to the letter
(paper section 6.1); two of them flatter or surprise, so the plain ones stand beside them under
their own names in `further_metrics`.
"""

import chex
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.types import Array

HORIZONS_S = (0.5, 1.0, 3.0, 5.0)
BOX_LWH = (4.0, 3.0, 2.0)  # the vehicle box of the released corner distance, metres
MISS_M = 2.0

# Bottom face, then top face; each (-, -), (+, -), (+, +), (-, +) in (length, width).
_CORNERS = np.array(
    [(x, y, z) for z in (-1, 1) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], np.float32
)


def displacement(pred_xyz: Array, gt_xyz: Array, planar: bool = True) -> Array:
    """Distance at every waypoint in metres, [..., N, K, W]; over x and y only if `planar`."""
    chex.assert_shape(pred_xyz, (..., 3))
    chex.assert_shape(gt_xyz, (*pred_xyz.shape[:-4], *pred_xyz.shape[-2:]))
    difference = (pred_xyz - gt_xyz[..., None, None, :, :])[..., : 2 if planar else 3]
    return jnp.sqrt(jnp.sum(difference**2, axis=-1))


def sample_ade(pred_xyz: Array, gt_xyz: Array, planar: bool = True) -> Array:
    """Average displacement error of every sample over the whole horizon, [..., N, K]."""
    return jnp.mean(displacement(pred_xyz, gt_xyz, planar), axis=-1)


def _horizons(distance: Array, name: str, horizons_s: tuple[float, ...], dt: float) -> dict:
    """Means of `distance` [..., W] over the whole horizon and over shorter ones."""
    out = {name: jnp.mean(distance, axis=-1)}
    for seconds in horizons_s:
        steps = round(seconds / dt)
        if not 1 <= steps <= distance.shape[-1]:
            raise ValueError(
                f"horizon {seconds} s is {steps} waypoints; trajectories have {distance.shape[-1]}"
            )
        out[f"{name}/by_t={float(seconds)}"] = jnp.mean(distance[..., :steps], axis=-1)
    return out


def _pick(values: Array, index: Array) -> Array:
    """values[..., index, :] of [..., K, W] for one index [...] each."""
    return jnp.take_along_axis(values, index[..., None, None], axis=-2)[..., 0, :]


def min_ade(
    pred_xyz: Array,
    gt_xyz: Array,
    horizons_s: tuple[float, ...] = HORIZONS_S,
    dt: float = 0.1,
    planar: bool = True,
) -> dict[str, Array]:
    """minADE_K: the sample nearest over the whole horizon, its mean distance, each [..., N].

    "min_ade/by_t=s" follows the same sample over the first s seconds; it is not chosen anew.
    """
    distance = displacement(pred_xyz, gt_xyz, planar)
    best = jnp.argmin(jnp.mean(distance, axis=-1), axis=-1)
    return _horizons(_pick(distance, best), "min_ade", horizons_s, dt)


def ade(
    pred_xyz: Array,
    gt_xyz: Array,
    log_probs: Array | None = None,
    horizons_s: tuple[float, ...] = (3.0,),
    dt: float = 0.1,
) -> dict[str, Array]:
    """ADE of the most likely sample, each [..., N].

    Args:
      pred_xyz, gt_xyz: trajectories.
      log_probs: [..., N, K]; without them the first sample stands in, as in the released model.
      horizons_s: further horizons in seconds.
      dt: seconds between waypoints.
    """
    distance = displacement(pred_xyz, gt_xyz)
    return _horizons(_pick(distance, _most_likely(distance, log_probs)), "ade", horizons_s, dt)


def _most_likely(distance: Array, log_probs: Array | None) -> Array:
    if log_probs is None:
        return jnp.zeros(distance.shape[:-2], jnp.int32)
    chex.assert_shape(log_probs, distance.shape[:-1])
    return jnp.argmax(log_probs, axis=-1)


def box_corners(
    xyz: Array, rot: Array, lwh: tuple[float, float, float] | Array = BOX_LWH
) -> Array:
    """The 8 corners of a box of length, width, height `lwh` centred on each pose: [..., 8, 3]."""
    chex.assert_shape(xyz, (..., 3))
    chex.assert_shape(rot, (*xyz.shape, 3))
    offsets = _CORNERS * (jnp.asarray(lwh, jnp.float32) / 2)
    return xyz[..., None, :] + jnp.einsum("...ij,cj->...ci", rot, offsets)


def corner_displacement(pred_xyz: Array, pred_rot: Array, gt_xyz: Array, gt_rot: Array) -> Array:
    """Distance of every box corner at every waypoint in metres, [..., N, K, W, 8]."""
    pred = box_corners(pred_xyz, pred_rot)
    recorded = box_corners(gt_xyz, gt_rot)[..., None, None, :, :, :]
    chex.assert_equal_shape_suffix([pred, recorded], 3)
    return jnp.sqrt(jnp.sum((pred - recorded) ** 2, axis=-1))


def corner_distance(pred_xyz: Array, pred_rot: Array, gt_xyz: Array, gt_rot: Array) -> Array:
    """The released corner distance, [..., N]: nearest sample *per waypoint and corner*, averaged.

    It mixes samples within one trajectory, so it is never above that of the best sample.
    """
    distance = corner_displacement(pred_xyz, pred_rot, gt_xyz, gt_rot)
    return jnp.mean(jnp.min(distance, axis=-3), axis=(-2, -1))


def corner_distance_best_sample(
    pred_xyz: Array, pred_rot: Array, gt_xyz: Array, gt_rot: Array
) -> Array:
    """Mean corner distance of the sample where it is smallest, [..., N]."""
    distance = corner_displacement(pred_xyz, pred_rot, gt_xyz, gt_rot)
    return jnp.min(jnp.mean(distance, axis=(-2, -1)), axis=-1)


def over_sets(metrics: dict[str, Array], with_std: bool = True) -> dict[str, Array]:
    """Mean over the N sets (the last axis); beside it `<name>_std`, the population standard
    deviation, where N > 1 and `with_std`."""
    out = {}
    for name, value in metrics.items():
        out[name] = jnp.mean(value, axis=-1)
        if with_std and value.shape[-1] > 1:
            out[f"{name}_std"] = jnp.std(value, axis=-1)
    return out


def released_metrics(
    pred_xyz: Array, pred_rot: Array, gt_xyz: Array, gt_rot: Array, dt: float = 0.1
) -> dict[str, Array]:
    """The released model's evaluation, each [...]: min_ade, ade (first sample), corner_distance."""
    flattering = min_ade(pred_xyz, gt_xyz, dt=dt)
    flattering["corner_distance"] = corner_distance(pred_xyz, pred_rot, gt_xyz, gt_rot)
    return over_sets(flattering) | over_sets(ade(pred_xyz, gt_xyz, dt=dt), with_std=False)


def further_metrics(
    pred_xyz: Array,
    pred_rot: Array,
    gt_xyz: Array,
    gt_rot: Array,
    log_probs: Array | None = None,
) -> dict[str, Array]:
    """What the released metrics leave out, each [...].

    mean_ade: over all samples. fde: final displacement of the first sample; min_fde: of the one
    nearest at the end. miss_rate: share of sets with min_fde above 2 m.
    corner_distance_best_sample: see there.
    With `log_probs` [..., N, K] also ade_most_likely and fde_most_likely.
    """
    distance = displacement(pred_xyz, gt_xyz)
    final = distance[..., -1]
    nearest = jnp.min(final, axis=-1)
    out = {
        "mean_ade": jnp.mean(distance, axis=(-2, -1)),
        "fde": final[..., 0],
        "min_fde": nearest,
        "miss_rate": (nearest > MISS_M).astype(jnp.float32),
        "corner_distance_best_sample": corner_distance_best_sample(
            pred_xyz, pred_rot, gt_xyz, gt_rot
        ),
    }
    if log_probs is not None:
        likely = _pick(distance, _most_likely(distance, log_probs))
        out["ade_most_likely"] = jnp.mean(likely, axis=-1)
        out["fde_most_likely"] = likely[..., -1]
    return over_sets(out, with_std=False)
