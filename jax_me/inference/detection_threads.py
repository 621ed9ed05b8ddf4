"""Threads in which images are decoded and faces detected, beside the model."""

import concurrent.futures
import functools
import os
from collections.abc import Generator
from typing import TypeVar

from jax_me.cpu_cores import available_cores

_Item = TypeVar("_Item")
_END = object()


@functools.cache
def detection_threads() -> concurrent.futures.ThreadPoolExecutor:
  """Kept for the next call: each thread has its own face detector, whose loading takes 0.5 s."""
  return concurrent.futures.ThreadPoolExecutor(available_cores(), "detection")


if hasattr(os, "register_at_fork"):
  # A forked process has no threads.
  os.register_at_fork(after_in_child=detection_threads.cache_clear)


def read_ahead(items: Generator[_Item, None, None]) -> Generator[_Item, None, None]:
  """The items of a generator, which computes the next one in a thread while one is used.

  When the caller stops, also by an exception, the item in progress is completed and dropped, and
  the generator is closed.

  Args:
    items: used by one thread at a time.

  Yields:
    the items, in order.

  Raises:
    Exception: what the generator raises.
  """
  threads = detection_threads()
  following = threads.submit(next, items, _END)
  try:
    while (item := following.result()) is not _END:
      following = threads.submit(next, items, _END)
      yield item  # type: ignore[misc]
  finally:
    if not following.cancel():
      concurrent.futures.wait([following])
    items.close()
