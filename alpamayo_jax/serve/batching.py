"""Concurrent requests as batches: what waits while a batch runs goes together into the next."""

import collections
from concurrent.futures import Future
import threading
import time
from typing import Callable, Generic, Hashable, Sequence, TypeVar

from absl import logging

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Runs one function, on one thread, on as many waiting items as there are.

    Args:
      run: items -> one result each, in order. An exception fails the items; of several items each
        is run again alone first, so that one bad item does not spoil the others.
      max_batch: most items at once.
      wait_s: how long an item waits for company when nothing is running.
      kind: only items of the same kind share a batch.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        max_batch: int,
        wait_s: float = 0.005,
        kind: Callable[[Item], Hashable] = lambda item: None,
    ):
        self._run, self._max_batch, self._wait_s, self._kind = run, max_batch, wait_s, kind
        self._waiting: collections.deque[tuple[Item, Future]] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future:
        """A future of the item's result; cancelling it before its batch runs drops the item.

        Raises:
          RuntimeError: the batcher is closed.
        """
        future: Future = Future()
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append((item, future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finishes the batch that runs, cancels what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            for _, future in self._waiting:
                future.cancel()
            self._waiting.clear()
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            batch = self._next_batch()
            if batch is None:
                return
            items = [(item, future) for item, future in batch
                     if future.set_running_or_notify_cancel()]  # fmt: skip
            if items:
                self._finish(items)

    def _next_batch(self) -> list[tuple[Item, Future]] | None:
        """The first item and those of its kind behind it; None when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            end = time.monotonic() + self._wait_s
            while not self._closed and len(self._waiting) < self._max_batch:
                if not self._changed.wait(max(end - time.monotonic(), 0.0)):
                    break
            if self._closed:
                return None
            kind = self._kind(self._waiting[0][0])
            batch, others = [], collections.deque()
            for entry in self._waiting:
                same = len(batch) < self._max_batch and self._kind(entry[0]) == kind
                (batch if same else others).append(entry)
            self._waiting = others
            return batch

    def _finish(self, batch: list[tuple[Item, Future]]) -> None:
        try:
            results = self._run([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # the thread must outlive whatever a batch does
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            logging.warning("a batch of %d failed (%s); its items run alone", len(batch), error)
            for entry in batch:
                self._finish([entry])
            return
        for (_, future), result in zip(batch, results):
            future.set_result(result)
