"""The weights of the best evaluation on held-out training subjects, kept in a run's workdir.

The test subjects have no part in it: picking an epoch by their own score, as some published
micro-expression code does, reports the luck of many draws as skill (Varanka et al., "Data leakage
and evaluation issues in micro-expression analysis", arXiv:2211.11425).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import orbax.checkpoint as ocp

from jax_me.models import model_folder
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.state import State


@dataclasses.dataclass(frozen=True)
class Selected:
  """An evaluation whose weights are kept: its step, its score, and the folder of its weights."""

  step: int
  score: float
  folder: pathlib.Path


class Selection:
  """Keeps the weights of the best evaluation of one workdir; of equal ones the first.

  A folder counts once its record is there, which is written last, and older ones are removed only
  then: a run that is killed at any moment leaves whole weights. Going on from a checkpoint repeats
  evaluations with equal scores, and so ends with the same choice.
  """

  def __init__(self, workdir: pathlib.Path):
    self._folder = pathlib.Path(workdir).absolute() / model_folder.SELECTED_FOLDER

  def best(self) -> Selected | None:
    """The evaluation whose weights are kept, None before the first."""
    folder = model_folder.selected_folder(self._folder.parent)
    if folder is None:
      return None
    record = json.loads((folder / model_folder.RECORD_FILE).read_text(encoding="utf-8"))
    return Selected(int(record["step"]), float(record["score"]), folder)

  def offer(self, weights: Mapping[str, Any], step: int, score: float) -> None:
    """Keeps the weights {"params", "model_state"} if their score is the highest so far."""
    before = self.best()
    if before is not None and score <= before.score:
      return
    folder = self._folder / str(step)
    wait_for_all("selection read")
    if is_writer() and folder.exists():
      shutil.rmtree(folder)  # Left by a run that was killed while it wrote, or went back.
    wait_for_all("selection cleared")
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(folder / model_folder.WEIGHTS_FOLDER, dict(weights))
    if is_writer():
      model_folder.write_json(folder / model_folder.RECORD_FILE, {"step": step, "score": score})
      for other in self._folder.iterdir():
        if other != folder:
          shutil.rmtree(other)
    wait_for_all("selection kept")

  def apply(self, state: State) -> State:
    """The state with the kept weights in place of those to be judged.

    Raises:
      SavedModelError: nothing is kept, or it is damaged.
    """
    name = "ema" if "ema" in state else "params"
    weights = {"params": state[name], "model_state": state["model_state"]}
    found = self.best()
    if found is None:
      raise model_folder.SavedModelError(
        f"{self._folder} holds no selected weights: the run stopped before its first evaluation"
      )
    weights = model_folder.read_weights(found.folder, weights)
    return {**state, name: weights["params"], "model_state": weights["model_state"]}
