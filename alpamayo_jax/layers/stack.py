"""Layers of one kind, their parameters stacked on a leading axis.

`run_stack` scans over that axis (small programs, quick to compile) or unrolls it (for exporters
that take no loop). Both read the same parameters and give the same bits.
"""

from typing import Any, Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError
from alpamayo_jax.ops.number_formats import Quantised

REMAT_POLICIES = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def stacked_params(
    module: nn.Module, name: str, block: nn.Module, num_layers: int, *example: Any
) -> Any:
    """Declares parameter `name` of `module`: `num_layers` independent copies of `block`'s.

    Args:
      module: the module that owns the parameters (inside its `@nn.compact` or `setup`).
      name: name of the subtree.
      block: the unbound layer (built with `parent=None`).
      num_layers: length of the leading axis.
      *example: small arguments that initialise one block.

    Returns:
      The subtree; when applied, also what the block does not declare itself, such as adapters.

    Raises:
      ConfigError: when applied, a parameter that is absent or of another shape.
    """

    def init(rng):
        keys = jax.random.split(rng, num_layers)
        return jax.vmap(lambda key: block.init(key, *example)["params"])(keys)

    if not module.has_variable("params", name):
        return module.param(name, init)
    stored = module.get_variable("params", name)
    leaves = jax.tree_util.tree_leaves_with_path(
        stored, is_leaf=lambda leaf: isinstance(leaf, Quantised)
    )
    found = {path: leaf.shape for path, leaf in leaves}
    declared = jax.eval_shape(init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_leaves_with_path(declared):
        if found.get(path) != leaf.shape:
            raise ConfigError(
                f"parameter {name}{jax.tree_util.keystr(path)} must be {leaf.shape}, "
                f"got {found.get(path)}"
            )
    return stored


def run_stack(
    layer: Callable[[Any, Any, Any], tuple[Any, Any]],
    params: Any,
    carry: Any,
    xs: Any = None,
    *,
    unroll: bool = False,
    remat: str = "none",
) -> tuple[Any, Any]:
    """Applies layer(params_l, carry, x_l) -> (carry, y_l) for every layer l in order.

    Args:
      layer: one layer.
      params: tree with a leading layer axis.
      carry: what flows from layer to layer.
      xs: per-layer inputs with a leading layer axis, or None.
      unroll: no loop in the program.
      remat: "none", "full" (keep only the carry) or "dots" (keep matrix products too).

    Returns:
      The last carry, and the y_l stacked.

    Raises:
      ConfigError: unknown `remat`.
    """
    if remat not in REMAT_POLICIES:
        raise ConfigError(f"remat {remat!r} is unknown; known: {', '.join(REMAT_POLICIES)}")

    def body(carry, inputs):
        params_l, x_l = inputs
        return layer(params_l, carry, x_l)

    if remat != "none":
        body = jax.checkpoint(body, policy=REMAT_POLICIES[remat], prevent_cse=unroll)
    if not unroll:
        return jax.lax.scan(body, carry, (params, xs))

    num_layers = jax.tree.leaves(params)[0].shape[0]
    ys = []
    for index in range(num_layers):
        inputs = jax.tree.map(lambda a: a[index], (params, xs))
        # The barrier keeps the compiler from fusing across layers, as the loop's edge does;
        # otherwise the two forms differ in the last bit.
        carry, inputs = jax.lax.optimization_barrier((carry, inputs))
        carry, y = body(carry, inputs)
        ys.append(y)
    return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)
