"""Parity of flow matching: the path, the loss, the law of t, and every Euler step."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from alpamayo_jax.config import FlowConfig
from alpamayo_jax.flow import matching, samplers
from alpamayo_jax.testing.parity.base import Check, Reference, compare

REQUIRES = ("flow_matching.npz",)

_TOLERANCE = 1e-5
_MEAN_TOLERANCE = 1e-3
_DRAWS = 1 << 22  # the mean of so many is known to about 1e-4


def _field(x, t):
    """The analytic field that the recorded integrations use."""
    return (1 - t) * jnp.sin(3 * x) + 0.5 * jnp.cos(2 * t) - 0.3 * t * x


def checks(reference: Reference) -> list[Check]:
    """Compares with flow_matching.npz."""
    want = reference.arrays(REQUIRES[0])
    return _euler(want) + _training(want) + _times(want)


def _euler(want) -> list[Check]:
    out, shapes = [], []

    def field(x, t):
        shapes.append(t.shape)
        return _field(x, t)

    noise = want["noise"]
    for name in sorted(want):
        if not (match := re.fullmatch(r"all_steps_(\d+)", name)):
            continue
        n = int(match.group(1))
        for how, unroll in (("scan", False), ("unrolled", True)):
            states = samplers.euler(field, noise, n, return_all=True, unroll=unroll)
            states = np.moveaxis(np.asarray(states), 0, 1)
            out.append(compare("flow", f"{name} ({how})", states, want[name], _TOLERANCE))
        grid = samplers.time_grid(n)
        out.append(compare("flow", f"time_steps_{n}", grid, want[f"time_steps_{n}"], _TOLERANCE))
    out.append(compare("flow", "step_t_shape", shapes[0], want["step_t_shape"], 0))
    return out


def _training(want) -> list[Check]:
    x, noise, t = (jnp.asarray(want[f"train_{name}"]) for name in ("x", "noise", "t"))
    got = {
        "train_noisy_x": matching.interpolate(x, noise, t),
        "train_target": matching.target(x, noise),
        "train_loss": matching.loss(jnp.asarray(want["train_pred"]), matching.target(x, noise)),
    }
    return [compare("flow", name, value, want[name], _TOLERANCE) for name, value in got.items()]


def _times(want) -> list[Check]:
    rng = jax.random.key(0)
    beta = np.asarray(matching.sample_time(rng, (_DRAWS,), FlowConfig()), np.float64)
    uniform = FlowConfig(train_time="uniform")
    uniform = np.asarray(matching.sample_time(rng, (_DRAWS,), uniform), np.float64)
    quantiles = np.quantile(beta, want["beta_t_q"])
    got = (
        ("beta_t_mean", beta.mean(), want["beta_t_mean"]),
        ("beta_t_var", beta.var(), want["beta_t_var"]),
        ("beta_t_quantiles_exact", quantiles, want["beta_t_quantiles_exact"]),
        # How many uniform draws were recorded is not known, so the law itself is the measure.
        ("uniform_t_mean (exact)", uniform.mean(), 1 / 2),
        ("uniform_t_var (exact)", uniform.var(), 1 / 12),
    )
    # A name of its own: the deviation of random draws is not a numerical error of the flow.
    return [compare("flow_time", name, ours, law, _MEAN_TOLERANCE) for name, ours, law in got]
