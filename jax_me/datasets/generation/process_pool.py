"""Work spread over processes, results in order, memory bounded.

dlib holds Python's lock while it looks for faces, so threads would not help.
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

  At most `4 * workers` items are under way or waiting, so a slow consumer does not fill memory.
  Processes are spawned, not forked: a fork of a process that runs JAX's threads can hang.

  Args:
    function: a module-level function; it, the items and the results must pickle.
    items: taken lazily.
    workers: number of processes; 0 or 1 runs everything in this process.

  Raises:
    ValueError: workers is negative.
    RuntimeError: a worker died (most often: out of memory). Errors of `function` pass through.
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
      'lacks `if __name__ == "__main__":` around its work, which every worker then repeats'
    ) from error
  finally:
    pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches all processes; the parent decides
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  # Otherwise the workers of a killed build would wait for tasks for ever.
  parent = multiprocessing.parent_process()
  assert parent is not None
  multiprocessing.connection.wait([parent.sentinel])
  os._exit(1)
