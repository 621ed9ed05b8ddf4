"""Threads in which images are decoded and faces detected, beside the model."""

import concurrent.futures
import contextlib
import functools
import os
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

import cv2

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


class _OpenCVThreads:
  """Number of threads of OpenCV, which is one setting for the whole process."""

  def __init__(self) -> None:
    self._lock = threading.Lock()
    self._users = 0
    self._before = 0

  @contextlib.contextmanager
  def one(self) -> Iterator[None]:
    """One thread for each call, until the last of several overlapping users has finished."""
    with self._lock:
      if not self._users:
        self._before = cv2.getNumThreads()
        cv2.setNumThreads(1)
      self._users += 1
    try:
      yield
    finally:
      with self._lock:
        self._users -= 1
        if not self._users:
          cv2.setNumThreads(self._before)


# Images are processed in several threads already: more of them within a call of OpenCV cost a
# quarter more processor time for a video, and wait for each other.
one_opencv_thread = _OpenCVThreads().one


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
