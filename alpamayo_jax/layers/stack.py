"""Layers of one kind, their parameters stacked on a leading axis.

`run_stack` scans over that axis (small programs, quick to compile) or unrolls it (for exporters
that take no loop). Both read the same parameters and give the same bits.

A loop over stacked parameters cuts every layer's matrices out of the stack before a library
multiplies with them: where few tokens are computed at a time, decoding, most bytes that move are
these copies. `separate` keeps every layer's parameters in arrays of their own, which costs a longer
program and no copies.
"""

from typing import Any, Callable, Mapping, Sequence

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


STACKS = ("blocks", "layers")  # subtrees that `separate` takes apart


@jax.tree_util.register_pytree_node_class
class Layers:
    """Arrays (or `Quantised`) of one parameter of all layers, in place of what stacks them.

    It has what a loop over layers asks of a stacked array: `shape`, `dtype`, one layer by number and
    a run of layers by slice.
    """

    def __init__(self, arrays: Sequence[Any]):
        self.arrays = tuple(arrays)

    @classmethod
    def of(cls, stack: Any) -> "Layers":
        """The layers of an array (or `Quantised`) that stacks them."""
        return cls([jax.tree.map(lambda a: a[i], stack) for i in range(stack.shape[0])])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.arrays), *self.arrays[0].shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.arrays[0].dtype

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Layers(self.arrays[index])
        return self.arrays[int(index)]

    def tree_flatten(self) -> tuple[tuple, None]:
        return self.arrays, None

    @classmethod
    def tree_unflatten(cls, aux: None, arrays: Sequence[Any]) -> "Layers":
        del aux
        return cls(arrays)


def separate(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters with the towers' layers in arrays of their own, see the top of this module.

    Programs of such parameters have no loop over layers. They compute the same up to rounding.

    Args:
      params: nested dict, stacked; matrices may be quantised.
    """

    def walk(tree: Any, inside: bool) -> Any:
        if isinstance(tree, Mapping):
            return {key: walk(value, inside or key in STACKS) for key, value in tree.items()}
        return Layers.of(tree) if inside and not _is_layers(tree) else tree

    return walk(params, False)


def are_separate(params: Any) -> bool:
    """Whether any parameter has its layers in arrays of their own."""
    return any(map(_is_layers, jax.tree.leaves(params, is_leaf=_is_layers)))


def stacked(params: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `separate`."""

    def join(leaf: Any) -> Any:
        if not _is_layers(leaf):
            return leaf
        return jax.tree.map(lambda *arrays: jnp.stack(arrays), *leaf.arrays)

    return jax.tree.map(join, dict(params), is_leaf=_is_layers)


def one_layer(params: Any, index: int) -> Any:
    """Layer `index` of a stacked tree, whichever way its leaves hold the layers."""
    return jax.tree.map(lambda leaf: leaf[index], params, is_leaf=_is_layers)


def _is_layers(leaf: Any) -> bool:
    return isinstance(leaf, Layers)


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
        stored, is_leaf=lambda leaf: isinstance(leaf, (Quantised, Layers))
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
    layers: tuple[int, int] | None = None,
) -> tuple[Any, Any]:
    """Applies layer(params_l, carry, x_l) -> (carry, y_l) for every layer l in order.

    Parameters in host memory (see `decode.offload`) come to the device layer by layer, the next one
    while one is computed.

    Args:
      layer: one layer.
      params: tree with a leading layer axis.
      carry: what flows from layer to layer.
      xs: per-layer inputs with a leading layer axis, or None.
      unroll: no loop in the program.
      remat: "none", "full" (keep only the carry) or "dots" (keep matrix products too).
      layers: first, and one after the last, of those that are applied; None: all. `xs` has only theirs.

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
    leaves = jax.tree.leaves(params, is_leaf=_is_layers)
    start, stop = layers or (0, leaves[0].shape[0])
    if any(map(_on_host, leaves)):
        return _run_from_host(body, params, carry, xs, start, stop)
    if layers is not None:
        params = jax.tree.map(lambda a: a[start:stop], params, is_leaf=_is_layers)
    apart = are_separate(leaves)
    if not unroll and not apart:
        return jax.lax.scan(body, carry, (params, xs))

    ys = []
    for index in range(stop - start):
        inputs = one_layer((params, xs), index)
        # The barrier keeps the compiler from fusing across layers, as the loop's edge does;
        # otherwise the two forms differ in the last bit. A slice behind it would be a copy.
        if apart:
            carry = jax.lax.optimization_barrier(carry)
        else:
            carry, inputs = jax.lax.optimization_barrier((carry, inputs))
        carry, y = body(carry, inputs)
        ys.append(y)
    return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)


def _on_host(leaf: Any) -> bool:
    # What is no array (the layers of an exported program, one by one) is never there.
    return isinstance(leaf, jax.Array) and jax.typeof(leaf).memory_space == jax.memory.Space.Host


def _run_from_host(body, params, carry, xs, start: int, stop: int) -> tuple[Any, Any]:
    """Scans over layers `start` to `stop` of parameters in host memory."""

    def fetch(index):
        def one(leaf):
            own = jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False)
            return jax.device_put(own, jax.memory.Space.Device) if _on_host(leaf) else own

        return jax.tree.map(one, params)

    def step(state, inputs):
        (carry, params_l), (index, x_l) = state, inputs
        # Nothing in this layer waits for the copy, so a device can do both at once.
        following = fetch(jnp.minimum(index + 1, stop - 1))
        carry, y = body(carry, (params_l, x_l))
        return (carry, following), y

    indices = jnp.arange(start, stop)
    (carry, _), ys = jax.lax.scan(step, (carry, fetch(start)), (indices, xs))
    return carry, ys
