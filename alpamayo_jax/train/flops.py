"""Operations of a program, counted from what JAX traces: matrix products and convolutions.

A multiply-add is two operations. What rematerialisation computes again is not work of the model, so
count programs traced without it.
"""

import math
from typing import Any, Callable

import jax

from alpamayo_jax.train import partition
from alpamayo_jax.train.objective import LossFn


def program_flops(function: Callable, *args: Any) -> float:
    """Operations of one call of `function`; nothing is computed.

    Loops count as often as they run (`lax.scan`), once where that is unknown (`lax.while_loop`); of
    `lax.cond` the cheapest branch counts, so the number is a lower bound.

    Args:
      function: what to trace.
      *args: arrays or shapes.
    """
    return _jaxpr_flops(jax.make_jaxpr(function)(*args).jaxpr)


def train_flops(objective: LossFn, factors: dict, params: dict, batch: Any) -> float:
    """Operations of the loss and its gradient on one batch.

    Args:
      objective: built without rematerialisation.
      factors: learning-rate factors of the parameters, 0 for frozen ones, whose gradients cost
        nothing.
      params: arrays or shapes.
      batch: arrays or shapes.
    """
    trainable, frozen = partition.split(params, factors)

    def gradient(trainable, frozen, batch, rng):
        def loss(trainable):
            return objective(partition.merge(trainable, frozen), batch, rng)

        return jax.value_and_grad(loss, has_aux=True)(trainable)

    rng = jax.eval_shape(lambda: jax.random.key(0))
    return program_flops(gradient, trainable, frozen, batch, rng)


def _jaxpr_flops(jaxpr: Any) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name == "dot_general":
            total += _dot_flops(equation)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
            macs = math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / out_features
            total += 2 * macs
        elif name == "cond":
            total += min(_jaxpr_flops(branch.jaxpr) for branch in params["branches"])
        else:
            times = params["length"] if name == "scan" else 1
            total += times * sum(map(_jaxpr_flops, _inner(params)))
    return total


def _dot_flops(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    macs = math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
    return 2.0 * macs


def _inner(params: dict) -> list[Any]:
    """Programs among the parameters of an operation that is called, looped or differentiated."""
    found = []
    for name in ("jaxpr", "call_jaxpr", "body_jaxpr", "fun_jaxpr"):
        if name in params:
            inner = params[name]
            found.append(getattr(inner, "jaxpr", inner))
    return found[:1]
