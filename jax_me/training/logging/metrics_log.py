"""Log of a run: `metrics.jsonl`, writers of learning curves, and the progress bar."""

import json
import os
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from tqdm import tqdm

from jax_me.training.logging.history import read_history

METRICS_FILE = "metrics.jsonl"


class Writer(Protocol):
  """A service for learning curves: TensorBoard, Weights & Biases, ... (`writers.py`)."""

  def write(self, step: int, scalars: dict[str, float]) -> None: ...
  def close(self) -> None: ...


class Tracker:
  """Writes scalars to `metrics.jsonl` and to the writers, in one process of a run.

  Rows after `resume_step` are removed first, as a resumed run repeats these steps.
  """

  def __init__(
    self, workdir: pathlib.Path, *, resume_step: int = 0, writers: Sequence[Writer] = ()
  ):
    self._path = pathlib.Path(workdir) / METRICS_FILE
    self._writers = writers
    self._file = self._open_truncated(resume_step)

  def _open_truncated(self, last_step: int) -> TextIO:
    kept = [row for row in read_history(self._path) if row["step"] <= last_step]
    temporary = self._path.with_name(f".{METRICS_FILE}.new")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(temporary, self._path)
    return self._path.open("a", encoding="utf-8")

  def rewind(self, step: int) -> None:
    """Removes the rows after `step`, to which the run rolled back."""
    self._file.close()
    self._file = self._open_truncated(step)

  def write(self, step: int, values: Mapping[str, object]) -> None:
    """Appends a row; its numbers go to the writers too."""
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    self._file.flush()
    scalars = {key: float(v) for key, v in values.items() if isinstance(v, int | float)}
    for writer in self._writers:
      writer.write(step, scalars)

  def close(self) -> None:
    self._file.close()
    for writer in self._writers:
      writer.close()


class NullLog:
  """Replaces Tracker and Progress in the processes of a run that do not write."""

  def write(self, step: int, values: Mapping[str, object]) -> None: ...
  def advance(self, displayed: dict[str, str]) -> None: ...
  def print_line(self, line: str) -> None: ...
  def rewind(self, step: int) -> None: ...
  def close(self) -> None: ...


class Progress:
  """Progress bar on a terminal; otherwise a line every `seconds`, to keep log files short."""

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
    self._seconds, self._start_time = seconds, time.monotonic()
    self._next_line = self._start_time + min(seconds, 2.0)

  def advance(self, displayed: dict[str, str]) -> None:
    """Counts a step; `displayed` values appear beside the bar (loss, images/s)."""
    self._done += 1
    if self._bar is not None:
      self._bar.set_postfix(displayed, refresh=False)
      self._bar.update(1)
      return
    now = time.monotonic()
    if now < self._next_line and self._done < self._total:
      return
    self._next_line = now + self._seconds
    rate = (self._done - self._start) / max(now - self._start_time, 1e-9)
    left = (self._total - self._done) / rate
    values = "  ".join(f"{key} {value}" for key, value in displayed.items())
    self.print_line(
      f"{self._description}: step {self._done}/{self._total}  {values}  ETA {left:.0f} s"
    )

  def rewind(self, step: int) -> None:
    """Returns to an earlier step."""
    self._done = self._start = step
    self._start_time = time.monotonic()
    if self._bar is not None:
      self._bar.n = step
      self._bar.refresh()

  def skip(self, steps: int) -> None:
    """Counts steps of an earlier call."""
    self._done += steps
    self._start += steps
    if self._bar is not None:
      self._bar.update(steps)

  def print_line(self, line: str) -> None:
    """Prints a line, above the bar if there is one."""
    if self._bar is not None:
      self._bar.write(line, file=self._stream)
    else:
      print(line, file=self._stream, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
