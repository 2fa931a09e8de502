"""Batches of rows of like length: no row lost, any batch at any time."""

import collections
import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpamayo_jax.config import ConfigError
from alpamayo_jax.data.packing import Packed
from alpamayo_jax.types import InputError

LENGTHS = (10, 20, 40)


class Order:
    """Rows are numbers, endless."""

    def __getitem__(self, index):
        return index


def _needed(row):
    return 1 + row * 7919 % 40


def _packed(batch_size=4, block=5, lengths=LENGTHS, seed=0, needed=_needed):
    return Packed(Order(), batch_size, list(lengths), needed, seed, batches_per_block=block)


@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 3), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_every_row_once_in_a_batch_that_holds_it(batch_size, block, number, spread):
    packed = _packed(batch_size, block, needed=lambda row: 1 + (row * (2 * spread + 1)) % 40)
    rows = []
    for place in range(block):
        batch, length = packed(number * block + place)
        assert len(batch) == batch_size and length in LENGTHS
        assert all(1 + (row * (2 * spread + 1)) % 40 <= length for row in batch)
        rows += batch
    first = number * block * batch_size
    assert sorted(rows) == list(range(first, first + block * batch_size))


def test_like_lengths_share_a_batch():
    packed = _packed(batch_size=4, block=64)
    found = collections.Counter()
    padding = 0
    for number in range(64):
        batch, length = packed(number)
        found[length] += 1
        padding += sum(length - _needed(row) for row in batch)
    assert set(found) == set(LENGTHS)
    # In the order as it comes nearly every batch of four would need the longest bucket.
    assert padding < 0.4 * sum(40 - _needed(row) for row in range(256))


def test_any_batch_in_any_order_in_any_copy():
    packed = _packed()
    expected = [packed(number) for number in range(20)]
    other = copy.deepcopy(_packed())
    assert [other(number) for number in reversed(range(20))] == expected[::-1]
    assert [_packed(seed=1)(number) for number in range(20)] != expected


@pytest.mark.parametrize("lengths", [(), (0, 5), (5, 5), (9, 3)])
def test_impossible_lengths(lengths):
    with pytest.raises(ConfigError, match="data.pack_lengths must rise from 1"):
        _packed(lengths=lengths)


def test_a_row_that_no_bucket_holds():
    with pytest.raises(InputError, match="needs 40 tokens, more than the last of .*39"):
        packed = _packed(lengths=(10, 39))
        for number in range(20):
            packed(number)
