"""Action space and discrete future tokens against the recorded values of the release."""

import dataclasses
import functools
import re

import jax
import numpy as np

from alpamayo_jax.action import unicycle
from alpamayo_jax.config import ActionSpaceConfig, TrajectoryTokenConfig
from alpamayo_jax.ops import banded
from alpamayo_jax.testing.parity.base import Check, Reference, compare
from alpamayo_jax.tokens import trajectory

FILE = "action_space.npz"
REQUIRES = (FILE,)

XYZ_TOLERANCE = 1e-4  # m
ROT_TOLERANCE = 1e-4
STATE_TOLERANCE = 1e-4  # m/s, rad
ACTION_TOLERANCE = 3e-3  # normalised; acceleration in m/s^2
TIE = 2e-3  # bins; float32 steps of a bin position reach 2.4e-4


def _configs(num_waypoints: int) -> dict[str, ActionSpaceConfig]:
    release = ActionSpaceConfig(n_waypoints=num_waypoints)
    default = dataclasses.replace(
        release, accel_mean=0.0, accel_std=1.0, curvature_mean=0.0, curvature_std=1.0,
        curvature_bounds=(-0.2, 0.2),
    )
    return {"default": default, "release": release}


_states = jax.jit(unicycle.trajectory_to_states, static_argnames="cfg")
_speed = jax.jit(unicycle.history_speed, static_argnames="cfg")
_forward = jax.jit(unicycle.action_to_trajectory, static_argnames=("cfg", "bf16_constants"))
_encode = jax.jit(trajectory.encode_future, static_argnames="cfg")
_decode = jax.jit(trajectory.decode_future, static_argnames="cfg")


def checks(reference: Reference) -> list[Check]:
    """One check for every recorded array, on all recorded trajectories at once."""
    values = reference.arrays(FILE)
    check = functools.partial(compare, "action_space")
    history = values["hist_xyz"], values["hist_rot"]
    future = values["fut_xyz"], values["fut_rot"]
    configs = _configs(values["fut_xyz"].shape[1])
    release = configs["release"]
    found = _penalties(values)

    def drive(name: str, actions: np.ndarray, cfg: ActionSpaceConfig, **options) -> None:
        got = _forward(actions, *history, cfg=cfg, **options)
        found.append(check(f"{name}_xyz", got.xyz, values[f"{name}_xyz"], XYZ_TOLERANCE))
        if f"{name}_rot" in values:
            found.append(check(f"{name}_rot", got.rot, values[f"{name}_rot"], ROT_TOLERANCE))

    def bounds(name: str, actions: np.ndarray, cfg: ActionSpaceConfig) -> None:
        found.append(check(name, unicycle.is_within_bounds(actions, cfg), values[name], 0))

    # Scale and bounds do not enter the states: one compilation serves every configuration.
    states = _states(*history, *future, cfg=release)
    speeds = _speed(*history, cfg=release)
    for name, cfg in configs.items():
        actions = unicycle.states_to_action(states, cfg)
        recorded = values[f"{name}_action"]
        found.append(check(f"{name}_action", actions, recorded, ACTION_TOLERANCE))
        in_float64 = f"{name}_action_f64"
        found.append(check(in_float64, actions, values[in_float64], ACTION_TOLERANCE))
        stacked = np.stack([states.v[:, :-1], actions[..., 0], states.theta[:, :-1]], axis=-1)
        key = f"{name}_states_v_accel_theta"
        found.append(check(key, stacked, values[key], ACTION_TOLERANCE))
        drive(f"{name}_roundtrip", recorded, cfg, v0=speeds[:, -1])
        bounds(f"{name}_within_bounds", recorded, cfg)

    kappa_tolerance = ACTION_TOLERANCE * release.curvature_std
    found += [
        check("hist_v", speeds, values["hist_v"], STATE_TOLERANCE),
        check("t0_v", speeds[:, -1], values["t0_v"], STATE_TOLERANCE),
        check("v", states.v, values["v"], STATE_TOLERANCE),
        check("theta_smooth", states.theta, values["theta_smooth"], STATE_TOLERANCE),
        check("accel_raw", states.accel, values["accel_raw"], ACTION_TOLERANCE),
        check("kappa_raw", states.kappa, values["kappa_raw"], kappa_tolerance),
    ]
    means, stds = unicycle.constants(release, bf16=True)
    rounded = np.stack([means, stds], axis=-1).reshape(-1)
    found.append(check("bf16_constants", rounded, values["bf16_constants"], 0))

    random = values["rand_action"]
    drive("rand_action", random, release, v0=values["t0_v"])
    drive("bf16_rand_action", random, release, v0=values["t0_v"], bf16_constants=True)
    drive("given_v0", random, release, v0=values["given_v0"])
    bounds("rand_action_within_bounds", random, release)
    bounds("rand_action_within_bounds_x6", 6 * random, release)
    for key in sorted(k for k in values if k.startswith("batched_action_")):
        batch = values[key].shape[:-2]
        rows = [x[: np.prod(batch)].reshape(batch + x.shape[1:]) for x in (*history, *future)]
        got = unicycle.states_to_action(_states(*rows, cfg=release), release)
        found.append(check(key, got, values[key], ACTION_TOLERANCE))

    tokens = TrajectoryTokenConfig(tokens_per_future_traj=values["discrete_tokens"].shape[-1])
    found += _discrete(values, actions, tokens)
    drive("discrete_decode", _decode(values["discrete_tokens"], cfg=tokens), release)
    drive("rand_tokens", _decode(values["rand_tokens"], cfg=tokens), release)
    return found


def _penalties(values) -> list[Check]:
    """Difference penalties as bands; the recorded first-order one has the weight 0.01."""
    found = []
    for key in sorted(values):
        if match := re.fullmatch(r"DTD_order(\d+)_N(\d+)", key):
            order, n = map(int, match.groups())
            band = banded.difference_penalty(n, order, 0.01 if order == 1 else 1.0)
            found.append(compare("action_space", key, banded.to_dense(band), values[key], 1e-6))
    return found


def _discrete(values, actions: np.ndarray, cfg: TrajectoryTokenConfig) -> list[Check]:
    """Bins of our own actions to within one; exact where no rounding can reach a boundary."""
    check = functools.partial(compare, "future_tokens")
    want, distance = values["discrete_tokens"], values["discrete_frac_dist_to_boundary"]
    own, given = (
        np.asarray(_encode(a, cfg=cfg)) for a in (actions, values["release_action"])
    )
    bins_per_unit = (cfg.num_future_bins - 1) / np.subtract(cfg.future_max, cfg.future_min).min()
    certain = distance > ACTION_TOLERANCE * bins_per_unit
    clear = distance > TIE
    return [
        check("discrete_tokens", own, want, 1),
        check("discrete_tokens, far from ties", own[certain], want[certain], 0),
        check("discrete_tokens of recorded actions", given, want, 1),
        check("discrete_tokens of recorded actions, no ties", given[clear], want[clear], 0),
    ]
