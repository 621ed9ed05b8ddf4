"""Ordered parallel map over processes with bounded memory.

dlib holds the GIL while it detects faces, so threads would not help.
"""

import collections
import concurrent.futures
import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_processes(
  function: Callable[[T], R], items: Iterable[T], *, workers: int
) -> Iterator[R]:
  """Yields function(item) for every item, in order.

  At most `4 * workers` items are in progress or waiting, so a slow consumer does not fill memory.
  Processes are spawned, not forked: a fork of a process with JAX threads can hang.

  Args:
    function: a module-level function; it, the items and the results must pickle.
    items: consumed lazily.
    workers: number of processes; 0 or 1 runs everything in this process.

  Yields:
    The results, in the order of the items.

  Raises:
    ValueError: workers is negative.
    RuntimeError: a worker died (usually out of memory). Errors of `function` propagate.
  """
  if workers < 0:
    raise ValueError(f"workers must be 0 or more, got {workers}")
  if workers <= 1:
    yield from map(function, items)
    return
  remaining = iter(items)
  context = multiprocessing.get_context("spawn")
  pool = concurrent.futures.ProcessPoolExecutor(
    workers, mp_context=context, initializer=_start_worker
  )
  try:
    pending = collections.deque(
      pool.submit(function, item) for item in itertools.islice(remaining, 4 * workers)
    )
    while pending:
      result = pending.popleft().result()
      for item in itertools.islice(remaining, 1):
        pending.append(pool.submit(function, item))
      yield result
  except concurrent.futures.process.BrokenProcessPool as error:
    raise RuntimeError(
      "a worker process died. Either memory ran out: use fewer workers; or the calling script "
      'lacks `if __name__ == "__main__":` around its work, so that every worker repeats it'
    ) from error
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches all processes; the parent decides
  threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
  # Otherwise the workers of a killed build would wait for tasks forever.
  parent = multiprocessing.parent_process()
  assert parent is not None
  multiprocessing.connection.wait([parent.sentinel])
  os._exit(1)
