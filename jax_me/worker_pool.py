"""Map over worker processes: ordered or not, with bounded memory, and safe against crashes.

Tasks that decode images or detect faces run in processes: dlib holds the GIL, and a damaged file
may crash a decoder. Workers are programs of their own (`python -m jax_me.worker_pool`), not forks:
a fork of a process with JAX threads can hang, and multiprocessing's spawn runs the caller's main
module again.
"""

import concurrent.futures
import contextlib
import itertools
import os
import pathlib
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from typing import Any, BinaryIO, TypeVar

from jax_me.command_errors import starting_processes

T = TypeVar("T")
R = TypeVar("R")

# Items in progress or waiting, per worker: a slow consumer does not fill the memory.
_ITEMS_PER_WORKER = 4


class WorkerDied(RuntimeError):
  """A worker process could not start or has ended; the message says how."""


def map_in_processes(
  function: Callable[[T], R],
  items: Iterable[T],
  *,
  workers: int,
  ordered: bool = True,
  on_death: Callable[[T, str], R] | None = None,
) -> Generator[R]:
  """Yields function(item) for every item.

  Args:
    function: it, the items and the results must pickle, so it must not be of the main module.
    items: consumed lazily.
    workers: number of processes; 0 or 1 runs everything in this process.
    ordered: whether the results are in the order of the items; else each comes when it is ready.
    on_death: gives the result of an item whose process died, from the item and a description.

  Yields:
    The results.

  Raises:
    ValueError: workers is negative.
    WorkerDied: a worker could not start, or died and there is no `on_death`. Errors of `function`
      propagate. In each case all workers are stopped.
  """
  if workers < 0:
    raise ValueError(f"workers must be 0 or more, got {workers}")
  if workers <= 1:
    yield from map(function, items)
    return
  pool = _Pool(function, on_death)
  threads = concurrent.futures.ThreadPoolExecutor(workers)
  remaining = iter(items)
  pending: list[concurrent.futures.Future[R]] = []

  def submit(count: int) -> None:
    pending.extend(threads.submit(pool.run, item) for item in itertools.islice(remaining, count))

  try:
    submit(_ITEMS_PER_WORKER * workers)
    while pending:
      future = pending[0]
      if not ordered:
        first = concurrent.futures.FIRST_COMPLETED
        future = concurrent.futures.wait(pending, return_when=first).done.pop()
      result = future.result()
      pending.remove(future)
      submit(1)
      yield result
  finally:
    threads.shutdown(wait=False, cancel_futures=True)
    pool.kill()
    threads.shutdown(wait=True)
    pool.close()


class _Pool:
  """Worker processes, started when a thread needs one more."""

  def __init__(self, function: Callable[[T], R], on_death: Callable[[T, str], R] | None):
    self._program = pickle.dumps(sys.path) + pickle.dumps(function)
    self._on_death = on_death
    self._started: list[_Worker] = []
    self._idle: list[_Worker] = []
    self._stopping = threading.Event()

  def run(self, item: Any) -> Any:
    """Runs one item in an idle or a new worker; called by one thread per worker."""
    try:
      worker = self._idle.pop()
    except IndexError:
      worker = self._start()
    try:
      return worker.call(item)
    except WorkerDied as error:
      if self._on_death is not None:
        return self._on_death(item, str(error))
      raise WorkerDied(f"{error}; if memory ran out, use fewer workers") from error
    finally:
      if worker.process.poll() is None:
        self._idle.append(worker)

  def kill(self) -> None:
    """Kills all workers, also those that are just being started."""
    self._stopping.set()
    for worker in list(self._started):
      worker.process.kill()

  def close(self) -> None:
    """Frees the resources of the killed workers, after their threads have ended."""
    for worker in self._started:
      with contextlib.suppress(BrokenPipeError), worker.process:
        pass  # closes its pipes

  def _start(self) -> "_Worker":
    worker = _Worker()
    self._started.append(worker)
    if self._stopping.is_set():
      worker.process.kill()
    worker.load(self._program)
    return worker


class _Worker:
  """One worker process, started by the constructor."""

  def __init__(self):
    root = str(pathlib.Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with starting_processes():
      self.process = subprocess.Popen(
        [sys.executable, "-m", "jax_me.worker_pool"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
      )

  def load(self, program: bytes) -> None:
    """Sends import path and function, and waits until they are loaded."""
    try:
      self._exchange(program)
    except WorkerDied as error:
      raise WorkerDied("a worker process could not start; its message is above") from error

  def call(self, item: Any) -> Any:
    """Returns the result for one item, or raises the error of the function, or WorkerDied."""
    result, error = self._exchange(pickle.dumps(item))
    if error is not None:
      raise error
    return result

  def _exchange(self, message: bytes) -> Any:
    assert self.process.stdin is not None and self.process.stdout is not None
    try:
      self.process.stdin.write(message)
      self.process.stdin.flush()
      return pickle.load(self.process.stdout)
    except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
      raise WorkerDied(_describe_exit(self.process.wait())) from error


def _describe_exit(code: int) -> str:
  if code == -signal.SIGKILL:
    return "the worker process was killed, most likely for lack of memory"
  cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
  return f"the worker process crashed ({cause})"


def _serve() -> None:
  """Runs the items on stdin; ends when the input ends, also when the parent is killed."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # For systems without signal masks.
  # Anything a library prints must not mix with the results.
  replies = os.fdopen(os.dup(1), "wb")
  os.dup2(2, 1)
  import cv2

  cv2.setNumThreads(1)  # there is already one process per core
  requests = sys.stdin.buffer
  sys.path[:] = pickle.load(requests)
  function = pickle.load(requests)
  items: queue.SimpleQueue[Any] = queue.SimpleQueue()
  # A thread of its own notices the end of the input while an item is processed.
  threading.Thread(target=_receive, args=(requests, items), daemon=True).start()
  reply: tuple[Any, Exception | None] = (None, None)
  while True:
    replies.write(pickle.dumps(reply))
    replies.flush()
    item = items.get()
    try:
      reply = (function(item), None)
    except Exception as error:
      reply = (None, _portable(error))


def _receive(requests: BinaryIO, items: queue.SimpleQueue[Any]) -> None:
  try:
    while True:
      items.put(pickle.load(requests))
  except EOFError:
    os._exit(0)


def _portable(error: Exception) -> Exception:
  """The error with the worker's traceback as a note, or a RuntimeError if it cannot be pickled."""
  error.add_note(f"In a worker process:\n{traceback.format_exc()}")
  try:
    return pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
  try:
    _serve()
  except BrokenPipeError:  # the parent has ended
    os._exit(1)
