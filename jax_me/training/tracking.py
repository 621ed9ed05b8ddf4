"""What a run leaves to look at: `metrics.jsonl`, TensorBoard curves, and a progress line."""

import json
import os
import pathlib
import sys
import time
from typing import Any, TextIO

from tensorboardX import SummaryWriter
from tqdm import tqdm

from jax_me.training.history import read_history

METRICS_FILE = "metrics.jsonl"


class Tracker:
  """Writes scalars to `metrics.jsonl` and TensorBoard; one process of a run should own it.

  Rows after `resume_step` are dropped first: a resumed run writes those steps again.
  """

  def __init__(self, workdir: pathlib.Path, *, resume_step: int = 0):
    self._path = pathlib.Path(workdir) / METRICS_FILE
    kept = [row for row in read_history(self._path) if row["step"] <= resume_step]
    temporary = self._path.with_name(f".{METRICS_FILE}.new")
    temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(temporary, self._path)
    self._file = self._path.open("a", encoding="utf-8")
    self._board = SummaryWriter(
      str(pathlib.Path(workdir) / "tensorboard"), purge_step=resume_step + 1 if kept else None
    )

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Appends one row; scalars go to TensorBoard too."""
    self._file.write(json.dumps({"step": step, **values}) + "\n")
    self._file.flush()
    for name, value in values.items():
      if isinstance(value, int | float):
        self._board.add_scalar(name, value, step)

  def close(self) -> None:
    self._file.close()
    self._board.close()


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

  def say(self, line: str) -> None:
    """A line of its own, above the bar where there is one."""
    if self._bar is not None:
      self._bar.write(line, file=self._stream)
    else:
      print(line, file=self._stream, flush=True)

  def close(self) -> None:
    if self._bar is not None:
      self._bar.close()
