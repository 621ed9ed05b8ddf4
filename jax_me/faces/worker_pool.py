"""Pool of worker processes that run alignment tasks.

Workers are separate programs (`worker`), not forks: a fork of a process with JAX threads can hang,
and multiprocessing's spawn runs the caller's main module again. Each worker loads the models
itself (0.9 s, 75 MB). If a worker dies (decoder crash, out of memory), only the current file fails.
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
from jax_me.faces import alignment_task, input_files
from jax_me.faces.alignment_report import ReportRow


def run_tasks(
  tasks: Iterable[input_files.AlignmentTask],
  settings: alignment_task.AlignmentSettings,
  *,
  workers: int,
) -> Generator[ReportRow]:
  """Runs all tasks.

  Args:
    tasks: the tasks.
    settings: shared by all tasks.
    workers: number of processes; 1 runs everything in this process.

  Yields:
    report rows as they are finished, in no fixed order.

  Raises:
    OutputError: a result cannot be written; the other workers are stopped.
    RuntimeError: a worker could not start.
  """
  if workers <= 1:
    for task in tasks:
      yield from alignment_task.run_task(task, settings)
    return
  pool = _Pool(tasks, settings, workers)
  try:
    yield from pool.rows()
  finally:
    pool.stop()


class _Worker:
  """One worker process, started by the constructor."""

  def __init__(self, settings: alignment_task.AlignmentSettings):
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

  def run(self, task: input_files.AlignmentTask) -> Iterator[ReportRow]:
    """Yields one row per image, even if the process dies."""
    answered = 0
    self._send([task.names, task.outputs, task.is_clip])
    while (line := self._receive()) != b"\n":
      if not line.endswith(b"\n"):
        reason = _describe_exit(self.process.wait())
        yield from (
          alignment_task.make_empty_row(name, "failed", reason) for name in task.names[answered:]
        )
        return
      row = json.loads(line)
      if "fatal" in row:
        raise alignment_task.OutputError(row["fatal"])
      answered += 1
      yield row

  def _send(self, message: object) -> None:
    assert self.process.stdin is not None
    try:
      self.process.stdin.write(json.dumps(message).encode() + b"\n")
      self.process.stdin.flush()
    except BrokenPipeError:  # the process has died; `_receive` then returns no line
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


def _describe_exit(code: int) -> str:
  if code == -signal.SIGKILL:
    return "the worker process was killed at this file, most likely for lack of memory"
  cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
  return f"the worker process crashed at this file ({cause})"


class _Pool:
  """Worker processes, each driven by one thread that sends tasks and collects rows."""

  def __init__(
    self,
    tasks: Iterable[input_files.AlignmentTask],
    settings: alignment_task.AlignmentSettings,
    workers: int,
  ):
    self._tasks = collections.deque(tasks)
    self._settings = settings
    # A row, an exception, or None when a thread has ended.
    self._results: queue.SimpleQueue[ReportRow | Exception | None] = queue.SimpleQueue()
    self._tasksers: list[_Worker | None] = [None] * min(workers, len(self._tasks))
    self._stopping = threading.Event()
    self._threads = [
      threading.Thread(target=self._drive_worker, args=(slot,), daemon=True)
      for slot in range(len(self._tasksers))
    ]

  def rows(self) -> Iterator[ReportRow]:
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

  def _drive_worker(self, slot: int) -> None:
    try:
      while not self._stopping.is_set() and self._tasks:
        worker = self._tasksers[slot]
        if worker is None or not worker.alive:
          worker = self._tasksers[slot] = _Worker(self._settings)
        try:
          task = self._tasks.popleft()
        except IndexError:  # another thread took the last one
          break
        for row in worker.run(task):
          self._results.put(row)
    except Exception as error:
      self._results.put(error)
    self._results.put(None)

  def stop(self) -> None:
    """Kills all workers; partial files remain only in the scratch folder."""
    self._stopping.set()
    self._tasks.clear()
    for worker in self._tasksers:
      if worker is not None:
        worker.process.kill()
    for thread in self._threads:
      if thread.is_alive():
        thread.join()
    for worker in self._tasksers:
      if worker is not None:
        worker.close()
