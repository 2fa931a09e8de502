"""Which parameters train, by path: factors of the learning rate, and trees cut in two.

A frozen parameter has no gradient, no moments and no update, so it neither costs memory nor moves by
one bit.
"""

import re
from typing import Any, Sequence

import jax
import jax.numpy as jnp

from alpamayo_jax.config import ConfigError

Groups = Sequence[tuple[str, float]]


def path_name(path: Sequence[Any]) -> str:
    """A key path of `jax.tree_util` as "a/b/c"."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def parameter_factors(params: dict, groups: Groups) -> dict:
    """The learning-rate factor of every parameter, as a tree like `params`.

    Args:
      params: arrays or shapes.
      groups: (pattern of the whole path, factor); the first that matches decides, 0 freezes.

    Raises:
      ConfigError: lists parameters that no pattern matches, or patterns that match nothing.
    """
    unmatched, used = [], set()

    def factor(path, _):
        name = path_name(path)
        for pattern, value in groups:
            if re.fullmatch(pattern, name):
                used.add(pattern)
                return value
        unmatched.append(name)
        return 0.0

    factors = jax.tree_util.tree_map_with_path(factor, params)
    if unmatched:
        raise ConfigError(f"no parameter group matches {', '.join(unmatched)}")
    unused = [pattern for pattern, _ in groups if pattern not in used]
    if unused:
        raise ConfigError(f"parameter group(s) {', '.join(unused)} match no parameter")
    return factors


def split(tree: dict, factors: dict) -> tuple[dict, dict]:
    """(what trains, what is frozen): each a tree like `tree` with None in place of the other."""
    trainable = jax.tree.map(lambda factor, leaf: leaf if factor else None, factors, tree)
    frozen = jax.tree.map(lambda factor, leaf: None if factor else leaf, factors, tree)
    return trainable, frozen


def merge(first: dict, second: dict) -> dict:
    """Inverse of `split`: where `first` is None, the leaf of `second`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, first, second, is_leaf=lambda leaf: leaf is None
    )


def cast_frozen(params: dict, factors: dict, dtype: str) -> dict:
    """`params` with what is frozen in `dtype`: half the memory, and exact for a checkpoint of that type.

    Args:
      params: arrays; shapes under `jax.eval_shape`.
      factors: from `parameter_factors`.
      dtype: a float type.
    """
    return jax.tree.map(lambda f, p: p if f else p.astype(jnp.dtype(dtype)), factors, params)
