"""Calls of an operation at the shapes of a real model, for tests and for the benchmark."""

import dataclasses
from typing import Any, Callable, Mapping

import jax


@dataclasses.dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
      name: of the call within its operation.
      arguments: makes the positional arguments; traceable, so that `specs` allocates nothing.
      flops: operations that it needs, a multiply-add is two.
      moved: bytes that have to cross the device's memory once: what is read and what is written.
      options: keyword arguments of the operation.
      wrt: positions of the arguments whose gradient training takes; () for none.
    """

    name: str
    arguments: Callable[[], tuple[Any, ...]]
    flops: float
    moved: float
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wrt: tuple[int, ...] = ()

    def specs(self) -> tuple[Any, ...]:
        """Shapes and types of the arguments."""
        return jax.eval_shape(self.arguments)


def bytes_of(*trees: Any) -> int:
    """Bytes of all arrays (or their specs) of some trees."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(trees))
