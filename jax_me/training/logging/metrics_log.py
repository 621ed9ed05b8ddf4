"""What a run leaves to look at: `metrics.jsonl`, learning curves elsewhere, and a progress line."""

import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, Protocol, TextIO

from tqdm import tqdm

from jax_me.training.logging.history import read_history

METRICS_FILE = "metrics.jsonl"


class Writer(Protocol):
  """Somebody who draws learning curves: TensorBoard, Weights & Biases, ... (`writers.py`)."""

  def write(self, step: int, scalars: dict[str, float]) -> None: ...
  def close(self) -> None: ...


class Tracker:
  """Writes scalars to `metrics.jsonl` and to the writers; one process of a run owns it.

  Rows after `resume_step` are dropped first: a resumed run writes those steps again.
  """

  def __init__(
    self, workdir: pathlib.Path, *, resume_step: int = 0, writers: Sequence[Writer] = ()
  ):
    self._path = pathlib.Path(workdir) / METRICS_FILE
    self._writers = writers
    self._file = self._shortened(resume_step)

  def _shortened(self, last_step: int) -> TextIO:
    kept = [row for row in read_history(self._path) if row["step"] <= last_step]
    temporary = self._path.with_name(f".{METRICS_FILE}.new")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(temporary, self._path)
    return self._path.open("a", encoding="utf-8")

  def rewind(self, step: int) -> None:
    """Forgets the rows after `step`: the run went back to it."""
    self._file.close()
    self._file = self._shortened(step)

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Appends one row; its numbers go to the writers too."""
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    self._file.flush()
    scalars = {key: float(v) for key, v in values.items() if isinstance(v, int | float)}
    for writer in self._writers:
      writer.write(step, scalars)

  def close(self) -> None:
    self._file.close()
    for writer in self._writers:
      writer.close()


class Silent:
  """Stands in for Tracker and Progress in the processes of a run that do not write."""

  def write(self, step: int, values: dict[str, Any]) -> None: ...
  def advance(self, facts: dict[str, str]) -> None: ...
  def say(self, line: str) -> None: ...
  def rewind(self, step: int) -> None: ...
  def close(self) -> None: ...


class Progress:
  """A bar on a terminal; elsewhere a log line every `seconds`, so that logs stay short."""

  def __init__(
    self,
    total: int,
    *,
    start: int = 0,
    description: str = "training",
    stream: TextIO | None = None,
    seconds: float = 10.0,
  ):
    self._stream = stream or sys.stderr
    self._bar = None
    if self._stream.isatty():
      self._bar = tqdm(total=total, initial=start, desc=description, unit="step", file=self._stream)
    self._description, self._total, self._start, self._done = description, total, start, start
    self._seconds, self._born = seconds, time.monotonic()
    self._next_line = self._born + min(seconds, 2.0)

  def advance(self, facts: dict[str, str]) -> None:
    """One step further; `facts` are shown beside the bar (loss, images/s)."""
    self._done += 1
    if self._bar is not None:
      self._bar.set_postfix(facts, refresh=False)
      self._bar.update(1)
      return
    now = time.monotonic()
    if now < self._next_line and self._done < self._total:
      return
    self._next_line = now + self._seconds
    rate = (self._done - self._start) / max(now - self._born, 1e-9)
    left = (self._total - self._done) / rate
    shown = "  ".join(f"{key} {value}" for key, value in facts.items())
    self.say(f"{self._description}: step {self._done}/{self._total}  {shown}  ETA {left:.0f} s")

  def rewind(self, step: int) -> None:
    """Back to an earlier step."""
    self._done = self._start = step
    self._born = time.monotonic()
    if self._bar is not None:
      self._bar.n = step
      self._bar.refresh()

  def skip(self, steps: int) -> None:
    """Steps that an earlier call has done."""
    self._done += steps
    self._start += steps
    if self._bar is not None:
      self._bar.update(steps)

  def say(self, line: str) -> None:
    """A line of its own, above the bar where there is one."""
    if self._bar is not None:
      self._bar.write(line, file=self._stream)
    else:
      print(line, file=self._stream, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
