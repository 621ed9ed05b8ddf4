"""Log of a run: `metrics.jsonl` and writers of learning curves."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Protocol, TextIO

from jax_me.training.logging.history import read_history

METRICS_FILE = "metrics.jsonl"


def metrics_row(values: Mapping[str, float], epoch: float, rate: float) -> dict[str, float]:
  """A row of metrics.jsonl.

  Args:
    values: metrics of the step function, without `skipped`.
    epoch: finished epochs, may be fractional.
    rate: images per second, of all folds that train together; 0 = unknown, in the first row.

  Returns:
    {column: value}.
  """
  rest = dict(values)
  return {
    "epoch": epoch,
    "learning_rate": rest.pop("learning_rate"),
    "grad_norm": rest.pop("grad_norm"),
    **{f"train/{key}": value for key, value in rest.items()},
    **({"images_per_second": rate} if rate else {}),
  }


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
  """Replaces Tracker in the processes of a run that do not write."""

  def write(self, step: int, values: Mapping[str, object]) -> None: ...
  def rewind(self, step: int) -> None: ...
  def close(self) -> None: ...
