"""Tasks spread over worker processes.

Workers are programs of their own (`worker`), not forks: a fork of a process that runs JAX's threads
can hang, and multiprocessing's spawn runs the caller's main module again. Each loads the models
itself: 0.9 s and 75 MB a worker, little beside what the shared memory of a fork would put at risk.
A worker that dies (a decoder crashes, memory runs out) costs the file at hand, not the run.
"""

import collections
import dataclasses
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterable, Iterator

import jax_me.faces
from jax_me.faces import input_files, process_files


def run_tasks(
  work: Iterable[input_files.Task], settings: process_files.Settings, *, workers: int
) -> Generator[dict]:
  """Runs all tasks; yields report rows as they come, in no fixed order.

  Args:
    work: the tasks.
    settings: the same for all.
    workers: number of processes; 1 runs everything in this process.

  Raises:
    OutputError: a result cannot be written; the other workers are stopped.
    RuntimeError: a worker could not start.
  """
  if workers <= 1:
    for task in work:
      yield from process_files.run_task(task, settings)
    return
  pool = _Pool(work, settings, workers)
  try:
    yield from pool.rows()
  finally:
    pool.stop()


class _Worker:
  """One worker process, started when it is made."""

  def __init__(self, settings: process_files.Settings):
    root = pathlib.Path(jax_me.faces.__path__[0]).parents[1]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    self.process = subprocess.Popen(
      [sys.executable, "-m", "jax_me.faces.worker"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    self._send(dataclasses.asdict(settings))
    if self._receive() != b"ready\n":
      self.close()
      raise RuntimeError("a worker process of `faces` could not start; its message is above")

  def run(self, task: input_files.Task) -> Iterator[dict]:
    """Yields a row per picture, whatever happens to the process."""
    answered = 0
    self._send([task.names, task.outputs, task.is_clip])
    while (line := self._receive()) != b"\n":
      if not line.endswith(b"\n"):
        reason = _cause_of_death(self.process.wait())
        yield from (
          process_files.empty_row(name, "failed", reason) for name in task.names[answered:]
        )
        return
      row = json.loads(line)
      if "fatal" in row:
        raise process_files.OutputError(row["fatal"])
      answered += 1
      yield row

  def _send(self, message: object) -> None:
    assert self.process.stdin is not None
    try:
      self.process.stdin.write(json.dumps(message).encode() + b"\n")
      self.process.stdin.flush()
    except BrokenPipeError:  # it has died: reading its answer will tell
      pass

  def _receive(self) -> bytes:
    assert self.process.stdout is not None
    return self.process.stdout.readline()

  @property
  def alive(self) -> bool:
    return self.process.poll() is None

  def close(self) -> None:
    self.process.kill()
    self.process.wait()
    for pipe in (self.process.stdin, self.process.stdout):
      if pipe is not None:
        try:
          pipe.close()
        except BrokenPipeError:
          pass


def _cause_of_death(code: int) -> str:
  if code == -signal.SIGKILL:
    return "the worker process was killed at this file, most likely for want of memory"
  what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
  return f"the worker process crashed at this file ({what})"


class _Pool:
  """One thread per worker process hands it tasks and collects its rows."""

  def __init__(
    self, work: Iterable[input_files.Task], settings: process_files.Settings, workers: int
  ):
    self._work = collections.deque(work)
    self._settings = settings
    # Rows; an exception; or None when a thread has ended.
    self._results: queue.SimpleQueue[dict | Exception | None] = queue.SimpleQueue()
    self._workers: list[_Worker | None] = [None] * min(workers, len(self._work))
    self._stopping = threading.Event()
    self._threads = [
      threading.Thread(target=self._serve, args=(slot,), daemon=True)
      for slot in range(len(self._workers))
    ]

  def rows(self) -> Iterator[dict]:
    for thread in self._threads:
      thread.start()
    running = len(self._threads)
    while running:
      result = self._results.get()
      if isinstance(result, Exception):
        raise result
      if result is None:
        running -= 1
      else:
        yield result

  def _serve(self, slot: int) -> None:
    try:
      while not self._stopping.is_set() and self._work:
        worker = self._workers[slot]
        if worker is None or not worker.alive:
          worker = self._workers[slot] = _Worker(self._settings)
        try:
          task = self._work.popleft()
        except IndexError:  # another thread took the last one
          break
        for row in worker.run(task):
          self._results.put(row)
    except Exception as error:
      self._results.put(error)
    self._results.put(None)

  def stop(self) -> None:
    """Ends all workers at once; what they were writing is left in the scratch folder only."""
    self._stopping.set()
    self._work.clear()
    for worker in self._workers:
      if worker is not None:
        worker.process.kill()
    for thread in self._threads:
      if thread.is_alive():
        thread.join()
    for worker in self._workers:
      if worker is not None:
        worker.close()
