"""Batches of what waits: order, kinds, failures, cancellation, closing."""

import threading
import time

import pytest

from alpamayo_jax.serve.batching import Batcher


class Work:
    """Doubles numbers, but not 13; the first batch can be held."""

    def __init__(self):
        self.batches, self.gate, self.busy = [], threading.Event(), threading.Event()

    def __call__(self, items):
        self.batches.append(list(items))
        self.busy.set()
        self.gate.wait(10.0)
        if 13 in items:
            raise ValueError("13")
        return [2 * item for item in items]


@pytest.fixture
def work():
    return Work()


def held(work, batcher, first=0):
    """Submits one item and waits until it runs, so that what follows has to wait."""
    future = batcher.submit(first)
    assert work.busy.wait(10.0)
    return future


def test_what_waits_runs_together(work):
    batcher = Batcher(work, max_batch=3, wait_s=0.0)
    futures = [held(work, batcher), *(batcher.submit(i) for i in range(1, 6))]
    work.gate.set()
    assert [f.result(10.0) for f in futures] == [0, 2, 4, 6, 8, 10]
    assert work.batches == [[0], [1, 2, 3], [4, 5]]
    batcher.close()


def test_only_equal_kinds_share_a_batch(work):
    batcher = Batcher(work, max_batch=8, wait_s=0.0, kind=lambda item: item % 2)
    futures = [held(work, batcher), *(batcher.submit(i) for i in (1, 2, 3, 4))]
    work.gate.set()
    assert [f.result(10.0) for f in futures] == [0, 2, 4, 6, 8]
    assert work.batches == [[0], [1, 3], [2, 4]]
    batcher.close()


def test_one_bad_item_does_not_spoil_the_others(work):
    batcher = Batcher(work, max_batch=8, wait_s=0.0)
    futures = [held(work, batcher), *(batcher.submit(i) for i in (1, 13, 2))]
    work.gate.set()
    assert [futures[i].result(10.0) for i in (0, 1, 3)] == [0, 2, 4]
    with pytest.raises(ValueError, match="13"):
        futures[2].result(10.0)
    assert batcher.submit(5).result(10.0) == 10  # and the thread is alive
    batcher.close()


def test_too_few_results_are_a_failure():
    batcher = Batcher(lambda items: [], max_batch=2)
    with pytest.raises(RuntimeError, match="0 results for 1"):
        batcher.submit(1).result(10.0)
    batcher.close()


def test_what_is_cancelled_is_not_run(work):
    batcher = Batcher(work, max_batch=8, wait_s=0.0)
    first = held(work, batcher)
    gone, stays = batcher.submit(1), batcher.submit(2)
    assert gone.cancel()
    work.gate.set()
    assert first.result(10.0) == 0 and stays.result(10.0) == 4
    assert work.batches == [[0], [2]]
    batcher.close()


def test_an_item_waits_for_company(work):
    work.gate.set()
    batcher = Batcher(work, max_batch=2, wait_s=5.0)
    begin = time.monotonic()
    first = batcher.submit(1)
    time.sleep(0.05)
    second = batcher.submit(2)
    assert (first.result(10.0), second.result(10.0)) == (2, 4)
    assert work.batches == [[1, 2]] and time.monotonic() - begin < 4.0  # full: no more waiting
    batcher.close()


def test_closing_gives_up_what_waits(work):
    batcher = Batcher(work, max_batch=1, wait_s=0.0)
    first, second = held(work, batcher), batcher.submit(1)
    work.gate.set()
    batcher.close()
    assert first.result(10.0) == 0
    assert second.cancelled() or second.result(10.0) == 2
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(2)
