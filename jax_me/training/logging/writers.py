"""Writers of learning curves for TensorBoard, Weights & Biases and Trackio."""

import importlib
import json
import pathlib
import secrets
import types
from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.files import write_atomically
from jax_me.training.logging.metrics_log import Writer

WRITERS = ("tensorboard", "wandb", "trackio")
RUN_ID_FILE = "tracker_run.json"  # In the workdir: id of the run at Weights & Biases or Trackio.


def open_writers(
  names: Sequence[str],
  workdir: pathlib.Path,
  config: Mapping[str, object],
  resume_step: int = 0,
  run_name: str = "",
) -> list[Writer]:
  """Opens the writers of the setting `trackers`.

  Args:
    names: some of WRITERS.
    workdir: folder of the run.
    config: the recipe, displayed with the curves.
    resume_step: step from which the run resumes.
    run_name: display name of the run; the name of its folder by default.

  Returns:
    a writer for each name.

  Raises:
    ValueError: unknown name, or its package is not installed.
  """
  writers: list[Writer] = []
  for name in names:
    if name not in WRITERS:
      raise ValueError(f"trackers must be some of {', '.join(WRITERS)}, got {name!r}")
    if name == "tensorboard":
      writers.append(TensorBoardWriter(workdir, resume_step))
    else:
      writers.append(
        ServiceWriter(_import_service(name), workdir, config, run_name or workdir.name)
      )
  return writers


def _import_service(name: str) -> types.ModuleType:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
      f"trackers names {name}, which is not installed: pip install {name}, or leave it out"
    ) from error


class TensorBoardWriter:
  """TensorBoard event files in `workdir/tensorboard`, written without TensorFlow."""

  def __init__(self, workdir: pathlib.Path, resume_step: int):
    from tensorboardX import SummaryWriter  # Importing takes half a second.

    purge = resume_step + 1 if resume_step else None
    self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge)

  def write(self, step: int, scalars: dict[str, float]) -> None:
    """Adds scalars at `step`."""
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)

  def close(self) -> None:
    """Writes what is buffered."""
    self._board.close()


class ServiceWriter:
  """Weights & Biases or Trackio, which share the functions `init`, `log` and `finish`.

  A resumed run continues its curves, because its id is a file in the workdir (`run_id`).
  """

  def __init__(
    self,
    service: types.ModuleType,
    workdir: pathlib.Path,
    config: Mapping[str, object],
    run_name: str,
  ):
    self._service = service
    options: dict[str, Any] = {"project": "jax_me", "config": dict(config), "resume": "allow"}
    identifier = run_id(workdir)
    if service.__name__ == "wandb":
      options |= {"id": identifier, "name": run_name, "dir": str(workdir)}
    else:  # Trackio has no ids: two runs of one name are one run.
      options |= {"name": f"{run_name}-{identifier}"}
    service.init(**options)

  def write(self, step: int, scalars: dict[str, float]) -> None:
    """Sends scalars at `step`."""
    self._service.log(scalars, step=step)

  def close(self) -> None:
    """Marks the run as finished."""
    self._service.finish()


def run_id(workdir: pathlib.Path) -> str:
  """Random id of a run, kept in the workdir.

  Other workdirs have other ids, also on other machines and with the same folder name (`fold1`). A
  workdir that is moved keeps its id.
  """
  path = workdir / RUN_ID_FILE
  try:
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])
  except (OSError, ValueError, KeyError, TypeError):
    identifier = secrets.token_hex(4)
    write_atomically(path, json.dumps({"id": identifier}).encode())
    return identifier
