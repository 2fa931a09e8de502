"""Rows of like length in one batch, so that little of it is padding.

Blocks of rows of the endless order are sorted into batches by bucket of length. What does not fill
a batch of its bucket moves up into the next, so no row is lost, and all of it is a function of the
order alone: any batch can be asked for at any time, by any process, and resuming needs no more than
its number.
"""

import functools
from typing import Any, Callable, Sequence

import numpy as np

from alpamayo_jax.config import ConfigError
from alpamayo_jax.types import InputError


class Packed:
    """Batch number -> (its rows, the length to pad them to).

    A copy that is sent to another process computes its plans anew.
    """

    def __init__(
        self,
        order: Sequence[Any],
        batch_size: int,
        lengths: Sequence[int],
        length_of: Callable[[Any], int],
        seed: int,
        batches_per_block: int = 32,
    ):
        """Computes nothing yet.

        Args:
          order: row number -> row, endless in practice.
          batch_size: rows per batch, of all hosts.
          lengths: tokens per row of each bucket, rising.
          length_of: tokens of a row; cheap.
          seed: of the order of a block's batches.
          batches_per_block: more leave less padding.

        Raises:
          ConfigError: lengths that do not rise from 1.
        """
        if not lengths or lengths[0] < 1 or list(lengths) != sorted(set(lengths)):
            raise ConfigError(f"data.pack_lengths must rise from 1 without repeats, got {lengths}")
        self._order, self._batch_size = order, batch_size
        self._lengths, self._length_of, self._seed = tuple(lengths), length_of, seed
        self._count = batches_per_block
        self._remember()

    def __call__(self, number: int) -> tuple[list[Any], int]:
        """Batch `number`; raises `InputError` for a row longer than the last bucket."""
        block, place = divmod(int(number), self._count)
        return self._plan(block)[place]

    def _remember(self) -> None:
        self._plan = functools.lru_cache(maxsize=4)(self._make_plan)

    def _make_plan(self, block: int) -> list[tuple[list[Any], int]]:
        first = block * self._count * self._batch_size
        rows = [self._order[first + i] for i in range(self._count * self._batch_size)]
        waiting: dict[int, list[Any]] = {length: [] for length in self._lengths}
        for row in rows:
            needed = self._length_of(row)
            bucket = next((length for length in self._lengths if needed <= length), None)
            if bucket is None:
                raise InputError(
                    f"window {row} needs {needed} tokens, more than the last of "
                    f"data.pack_lengths {self._lengths}"
                )
            waiting[bucket].append(row)
        batches, left = [], []
        for length, own in waiting.items():
            pool = left + own
            full = len(pool) // self._batch_size * self._batch_size
            for start in range(0, full, self._batch_size):
                batches.append((pool[start : start + self._batch_size], length))
            left = pool[full:]
        # A block is whole batches, so the last bucket leaves nothing.
        shuffled = np.random.default_rng([self._seed, block]).permutation(len(batches))
        return [batches[place] for place in shuffled]

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_plan"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._remember()
