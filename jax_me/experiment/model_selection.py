"""Model selection: the weights with the best score on held-out training subjects.

Test subjects are not used. Selecting an epoch by the score of the test subjects, as some published
micro-expression code does, overestimates the score (Varanka et al., "Data leakage and evaluation
issues in micro-expression analysis", arXiv:2211.11425).
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping

import orbax.checkpoint as ocp

from jax_me.manifest import write_manifest
from jax_me.models import model_folder
from jax_me.models.model_folder import ArrayTree
from jax_me.training.processes import is_writer, wait_for_all
from jax_me.training.state import State


@dataclasses.dataclass(frozen=True)
class Selected:
  """The selected evaluation: its step, its score, and the folder with its weights."""

  step: int
  score: float
  folder: pathlib.Path


class Selection:
  """Keeps the weights of the best evaluation of a workdir; of equal ones the first.

  A folder gets its name when it is complete, with a record and checksums; older folders are removed
  after that, so a killed run always leaves complete weights. A resumed run repeats evaluations with
  equal scores, so it selects the same weights.
  """

  def __init__(self, workdir: pathlib.Path):
    self._folder = pathlib.Path(workdir).absolute() / model_folder.SELECTED_FOLDER

  def best(self) -> Selected | None:
    """The selected evaluation; None before the first."""
    folder = model_folder.selected_folder(self._folder.parent)
    if folder is None:
      return None
    record = json.loads((folder / model_folder.RECORD_FILE).read_text(encoding="utf-8"))
    return Selected(int(record["step"]), float(record["score"]), folder)

  def offer(self, weights: Mapping[str, ArrayTree], step: int, score: float) -> None:
    """Keeps the weights if their score is the highest so far.

    Args:
      weights: {"params", "model_state"}.
      step: of the evaluation.
      score: of the evaluation; higher is better.
    """
    best = self.best()
    if best is not None and score <= best.score:
      return
    folder, staging = self._folder / str(step), self._folder / f".{step}.partial"
    wait_for_all("selection read")
    if is_writer():
      for old in (folder, staging):  # Of a run that was killed while writing it, or rolled back.
        shutil.rmtree(old, ignore_errors=True)
    wait_for_all("selection cleared")
    with ocp.StandardCheckpointer() as checkpointer:
      checkpointer.save(staging / model_folder.WEIGHTS_FOLDER, dict(weights))
    if is_writer():
      model_folder.write_json(staging / model_folder.RECORD_FILE, {"step": step, "score": score})
      write_manifest(staging)
      staging.rename(folder)
      for other in self._folder.iterdir():
        if other != folder:
          shutil.rmtree(other)
    wait_for_all("selection saved")

  def apply(self, state: State) -> State:
    """The state with the selected weights instead of the evaluated ones.

    Raises:
      SavedModelError: there are no selected weights, or they are damaged.
    """
    name = "ema" if "ema" in state else "params"
    weights = {"params": state[name], "model_state": state["model_state"]}
    found = self.best()
    if found is None:
      raise model_folder.SavedModelError(
        f"{self._folder} holds no selected weights: the run stopped before its first evaluation"
      )
    weights = model_folder.read_selected(found.folder, weights)
    return {**state, name: weights["params"], "model_state": weights["model_state"]}
