"""Checkpoints of a run: weights, optimiser state and data position of the same step."""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax.traverse_util import flatten_dict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from jax_me.manifest import MANIFEST_FILE, DamagedFolder, verify_manifest, write_manifest
from jax_me.models.model_folder import WEIGHTS_FOLDER, checkpoints_folder
from jax_me.training.processes import broadcast_from_writer, is_writer
from jax_me.training.state import State

JsonValue = Any  # A value that the json module can write.

ITEMS = (WEIGHTS_FOLDER, "training", "position")

logger = logging.getLogger(__name__)


class CheckpointError(ValueError):
  """A checkpoint that cannot be written or read; the message has a remedy."""


class Checkpoints:
  """The checkpoints of one workdir.

  Each holds three items: `weights` (for evaluation and `jax_me.load`: the moving average if there
  is one), `training` (step, optimiser state, and the raw parameters if there is an average) and
  `position` (state of the data iterator, and its step). Writing is asynchronous. A folder gets its
  final name only when it is complete, with the checksums of its files in `manifest.json`, so a
  killed run keeps its previous checkpoint. Checkpoints in a bucket have no checksums of ours.
  """

  def __init__(self, workdir: pathlib.Path, *, keep: int = 2, read_only: bool = False):
    """Opens the checkpoints of a workdir.

    Args:
      workdir: folder of the run.
      keep: number of checkpoints to keep.
      read_only: removes no incomplete checkpoints, as another process may be writing them.

    Raises:
      CheckpointError: not writable, or, if read-only, missing.
    """
    self.folder = checkpoints_folder(workdir)
    self._read_only = read_only
    self._being_saved: int | None = None
    if read_only and not self.folder.is_dir():
      raise CheckpointError(f"{workdir} holds no checkpoints")
    try:
      self._manager = ocp.CheckpointManager(
        self.folder,
        item_names=ITEMS,
        options=ocp.CheckpointManagerOptions(
          preservation_policy=preservation_policy.LatestN(keep),
          cleanup_tmp_directories=not read_only,
          create=not read_only,
          read_only=read_only,
          async_options=ocp.AsyncOptions(post_finalization_callback=self._add_manifest),
        ),
      )
    except OSError as error:
      raise CheckpointError(
        f"cannot keep checkpoints in {self.folder}: {error}. Choose another --workdir"
      ) from error

  def latest_step(self) -> int | None:
    """Step of the newest finished checkpoint."""
    return self._manager.latest_step()

  def save(self, state: State, position: JsonValue) -> None:
    """Starts writing the checkpoint of `state["step"]`, unless it exists.

    For a state of several folds, the step is the largest of the folds.

    Raises:
      CheckpointError: the disk is full or not writable; earlier checkpoints stay.
    """
    step = int(np.max(jax.device_get(state["step"])))
    if step in self._manager.all_steps():
      return
    weights, training = _split_items(state)
    self.wait()
    self._being_saved = step
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          weights=ocp.args.StandardSave(weights),
          training=ocp.args.StandardSave(training),
          position=ocp.args.JsonSave({"iterator": position, "step": step}),
        ),
      )
    except (OSError, ValueError, RuntimeError) as error:
      raise self._failed_to_write(error) from error

  def wait(self) -> None:
    """Blocks until everything is on disk.

    Raises:
      CheckpointError: a background write failed.
    """
    try:
      self._manager.wait_until_finished()
    except (OSError, ValueError, RuntimeError) as error:
      raise self._failed_to_write(error) from error

  def restore(self, abstract: State) -> tuple[State, JsonValue]:
    """The newest undamaged checkpoint as (state without run parameters, data position).

    Damaged ones that are newer are removed, which is logged; then `latest_step` is that of the
    state.

    Args:
      abstract: the state's shapes, dtypes and shardings (`abstract_state`).

    Raises:
      CheckpointError: all are damaged, or it belongs to another model or optimiser.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    if not steps:
      raise CheckpointError(f"{self.folder} holds no finished checkpoint")
    problems: dict[int, str] = {}
    for step in steps:
      problem = self._problem(step) if is_writer() else ""
      if broadcast_from_writer(not problem):
        break
      problems[step] = problem or "it is damaged"
    else:
      raise CheckpointError(
        f"no checkpoint in {self.folder} can be used: {problems[steps[0]]}. Start anew with "
        "another --workdir, or copy the checkpoints again"
      )
    restored = self._read(step, abstract)
    for damaged, problem in problems.items():
      logger.warning("checkpoint %s: going on from the one before, of step %d", problem, step)
      if not self._read_only:
        self._manager.delete(damaged)
    return restored

  def _read(self, step: int, abstract: State) -> tuple[State, JsonValue]:
    weights, training = _split_items(abstract)
    folder = self.folder / str(step)
    try:
      restored = self._manager.restore(
        step,
        args=ocp.args.Composite(
          weights=ocp.args.StandardRestore(weights),
          training=ocp.args.StandardRestore(training),
          position=ocp.args.JsonRestore(),
        ),
      )
      state, position = _join_items(restored.weights, restored.training), restored.position
      steps = {step, int(np.max(jax.device_get(state["step"]))), position.get("step", step)}
      iterator = position["iterator"]
    except Exception as error:  # Orbax and tensorstore raise many types for a damaged folder.
      raise CheckpointError(
        f"checkpoint {folder} cannot be read: {error}. Remove that folder to go on from the one "
        "before it, or start anew with another --workdir"
      ) from error
    if len(steps) > 1:
      raise CheckpointError(
        f"the parts of checkpoint {folder} are of different steps ({sorted(steps)}). Remove that "
        "folder to go on from the one before it"
      )
    return state, iterator

  def _problem(self, step: int) -> str:
    """What is wrong with the files of a checkpoint; "" if they are what was written."""
    folder = self.folder / str(step)
    if _is_remote(folder):
      return ""
    if not (folder / MANIFEST_FILE).exists():
      if self._lists_step(folder):
        return f"{folder / MANIFEST_FILE} is missing"
      logger.warning("checkpoint %s is of an earlier version, which wrote no checksums", folder)
      return ""
    try:
      verify_manifest(folder)
    except DamagedFolder as error:
      return str(error)
    return ""

  def _lists_step(self, folder: epath.Path) -> bool:
    """Whether the checkpoint is of a version that writes manifests, which adds the step."""
    return any(b'"step"' in path.read_bytes() for path in (folder / "position").glob("*metadata*"))

  def _add_manifest(self) -> None:
    """Writes the checksums of the checkpoint that gets its final name next."""
    if not is_writer() or _is_remote(self.folder):
      return
    for folder in pathlib.Path(self.folder).glob(f"{self._being_saved}.orbax-checkpoint-tmp*"):
      write_manifest(folder, *ITEMS)

  def close(self) -> None:
    self._manager.close()

  def _failed_to_write(self, error: Exception) -> CheckpointError:
    return CheckpointError(
      f"cannot write a checkpoint to {self.folder}: {error}. The last finished one is step "
      f"{self.latest_step()}; free some space and run the same command again"
    )


def _is_remote(folder: epath.Path) -> bool:
  return "://" in str(folder)


def _split_items(state: State) -> tuple[dict[str, Any], dict[str, Any]]:
  training = {"step": state["step"], "opt_state": state["opt_state"]}
  if "ema" in state:
    training["params"] = state["params"]
  return {
    "params": state.get("ema", state["params"]),
    "model_state": state["model_state"],
  }, training


def _join_items(weights: dict[str, Any], training: dict[str, Any]) -> State:
  state = {
    "step": training["step"],
    "params": training.get("params", weights["params"]),
    "model_state": weights["model_state"],
    "opt_state": training["opt_state"],
  }
  if "params" in training:
    state["ema"] = weights["params"]
  return state


def changed_settings(
  path: pathlib.Path, settings: Mapping[str, JsonValue]
) -> dict[str, tuple[JsonValue, JsonValue]]:
  """Compares the settings stored in a workdir with those of this command.

  Returns:
    {dotted key: (stored, now)} for every key that differs; empty for a new workdir.

  Raises:
    ValueError: the file is damaged.
  """
  if not path.exists():
    return {}
  try:
    stored = flatten_dict(json.loads(path.read_text(encoding="utf-8")), sep=".")
  except (OSError, ValueError, TypeError, AttributeError, AssertionError) as error:
    raise ValueError(
      f"{path} is damaged ({error}); copy it from the run's run.json (the entry config), or use "
      "another --workdir"
    ) from error
  now = flatten_dict(json.loads(json.dumps(settings)), sep=".")
  return {
    key: (stored.get(key), now.get(key))
    for key in sorted(stored.keys() | now.keys())
    if stored.get(key) != now.get(key)
  }
