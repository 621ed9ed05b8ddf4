"""Matches the arrays of a file with the arrays of a model: every key on both sides is settled."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convert.errors import ConversionError
from convert.families import Family
from convert.rules import COPY, RuleTable, Transform
from jax_me.models.positions import resize_positions
from jax_me.models.weight_mapping import Passage


@dataclasses.dataclass
class Match:
  """The outcome, in the words of the load report.

  Attributes:
    values: {path: array in our layout} of everything the file gives.
    loaded, dropped, fresh: see LoadReport.
  """

  values: dict[str, np.ndarray]
  loaded: list[dict[str, Any]]
  dropped: list[dict[str, Any]]
  fresh: list[dict[str, Any]]


def match_arrays(
  arrays: Mapping[str, np.ndarray],
  targets: Mapping[str, Sequence[int]],
  family: Family,
  rules: RuleTable,
  way: Passage,
  *,
  new_head: str = "",
  resize: bool = False,
  problems: Sequence[str] = (),
) -> Match:
  """Settles every key of the file and every array of the model.

  Args:
    arrays: {torch key: array}.
    targets: {path: shape} of the model's arrays.
    family: of the model.
    rules: from the file's names to the model's.
    way: what the file's content leaves out and lacks on purpose.
    new_head: why the head starts afresh; empty when the file's head is to be loaded.
    resize: whether position tables may be resized to the model's image size.
    problems: found before; listed with those found here.

  Raises:
    ConversionError: all that is missing, unexpected or of the wrong shape, in one list.
  """
  match = Match({}, [], [], [])
  problems = list(problems)
  settled: set[str] = set()
  for path, shape in targets.items():
    rule = rules.key_of(path)
    if rule is None:
      problems.append(f"{path} {list(shape)}: the model's array has no rule (a fault of jax_me)")
      continue
    key, transform = rule
    settled.add(key)
    reason = new_head if new_head and key.startswith(family.head) else ""
    if key not in arrays:
      reason = reason or _reason(key, way.fresh)
      if reason:
        match.fresh.append({"path": path, "shape": list(shape), "reason": reason})
      else:
        problems.append(f"{key} {list(transform.torch_shape(shape))}: missing in the file")
    elif reason:
      match.fresh.append({"path": path, "shape": list(shape), "reason": reason})
      match.dropped.append({"key": key, "shape": list(arrays[key].shape), "reason": reason})
    else:
      may_resize = resize and key in family.positions
      _load(match, problems, arrays[key], key, path, tuple(shape), transform, may_resize)
  for key, array in arrays.items():
    if key in settled:
      continue
    reason = _reason(key, way.dropped)
    if not reason and new_head and key.startswith(family.head):
      reason = new_head
    if reason:
      match.dropped.append({"key": key, "shape": list(array.shape), "reason": reason})
    else:
      problems.append(f"{key} {list(array.shape)}: unexpected, the model has no place for it")
  if problems:
    raise ConversionError(
      f"{len(problems)} problems between the file and the model",
      problems=problems,
      remedy="choose the model the file was made for (--model), with its sizes",
    )
  order = {key: number for number, key in enumerate(arrays)}
  match.loaded.sort(key=lambda entry: order[entry["key"]])  # as the file has them
  return match


def _reason(key: str, groups: Sequence[tuple[tuple[str, ...], str]]) -> str:
  return next((reason for prefixes, reason in groups if key.startswith(prefixes)), "")


def _load(
  match: Match,
  problems: list[str],
  array: np.ndarray,
  key: str,
  path: str,
  shape: tuple[int, ...],
  transform: Transform,
  may_resize: bool,
) -> None:
  """Moves one array into place, or notes why it does not fit."""
  expected = transform.torch_shape(shape)
  how = [] if key == path else ["renamed"]
  how += [] if transform is COPY else ["transposed"]
  if may_resize and array.shape != expected and _is_table(array.shape, expected):
    value = resize_positions(array, round((expected[1] - 1) ** 0.5))
    how.append("resized")
  elif array.shape != expected:
    problems.append(f"{key}: shape {list(array.shape)}, the model needs {list(expected)}")
    return
  else:
    value = transform.from_torch(array)
  match.values[path] = value
  match.loaded.append(
    {
      "key": key,
      "path": path,
      "shape": list(array.shape),
      "model_shape": list(shape),
      "how": " and ".join(how) or "copied",
    }
  )


def _is_table(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
  """Same width, and a square grid behind a class token."""
  side = round((shape[1] - 1) ** 0.5) if len(shape) == 3 and shape[1] > 1 else 0
  return side > 0 and side * side == shape[1] - 1 and (shape[0], shape[2]) == (1, expected[2])
