"""Where learning curves go besides `metrics.jsonl`: one small class a service."""

import importlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jax_me.training.logging.metrics_log import Writer

WRITERS = ("tensorboard", "wandb", "trackio")


def open_writers(
  names: Sequence[str],
  workdir: pathlib.Path,
  config: Mapping[str, Any],
  resume_step: int = 0,
) -> list[Writer]:
  """Opens the services of `trackers`.

  Args:
    names: some of WRITERS.
    workdir: folder of the run; its name names the run.
    config: the recipe, shown beside the curves.
    resume_step: step from which the run goes on.

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
      writers.append(ServiceWriter(_service(name), workdir, config))
  return writers


def _service(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise ValueError(
      f"trackers names {name}, which is not installed: pip install {name}, or leave it out"
    ) from error


class TensorBoardWriter:
  """Event files in `workdir/tensorboard`, written without TensorFlow."""

  def __init__(self, workdir: pathlib.Path, resume_step: int):
    from tensorboardX import SummaryWriter  # half a second to import

    purge = resume_step + 1 if resume_step else None
    self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=purge)

  def write(self, step: int, scalars: dict[str, float]) -> None:
    for name, value in scalars.items():
      self._board.add_scalar(name, value, step)

  def close(self) -> None:
    self._board.close()


class ServiceWriter:
  """Weights & Biases or Trackio, which share `init`, `log` and `finish`.

  The run's id is its workdir, so a resumed run continues its curves.
  """

  def __init__(self, service: Any, workdir: pathlib.Path, config: Mapping[str, Any]):
    self._service = service
    options: dict[str, Any] = {"project": "jax_me", "name": workdir.name, "config": dict(config)}
    if service.__name__ == "wandb":
      options |= {"id": workdir.name, "resume": "allow", "dir": str(workdir)}
    else:
      options |= {"resume": "allow"}
    service.init(**options)

  def write(self, step: int, scalars: dict[str, float]) -> None:
    self._service.log(scalars, step=step)

  def close(self) -> None:
    self._service.finish()
