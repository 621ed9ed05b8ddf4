"""Matching of a file's arrays with a model's arrays; every key on both sides is accounted for."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jax_me.models.positions import resize_positions
from jax_me.models.weight_mapping import WeightMapping

from .errors import ConversionError
from .families import Family
from .rules import COPY, RuleTable, Transform


@dataclasses.dataclass
class Match:
  """Result of `match_arrays`.

  Attributes:
    values: {path: array in our layout} of the model's arrays that the file provides.
    loaded, dropped, fresh: see `LoadReport`.
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
  mapping: WeightMapping,
  *,
  new_head: str = "",
  resize: bool = False,
  problems: Sequence[str] = (),
) -> Match:
  """Assigns every key of the file and every array of the model.

  Args:
    arrays: {torch key: array}.
    targets: {path: shape} of the model's arrays.
    family: of the model.
    rules: table from the file's keys to the model's paths.
    mapping: parameters that the file's content omits or has in excess on purpose.
    new_head: reason for a fresh head; empty when the file's head is to be loaded.
    resize: whether position tables may be resized to the model's image size.
    problems: found earlier; reported together with those found here.

  Returns:
    The values to load and an entry for every key on both sides.

  Raises:
    ConversionError: missing or unexpected keys, or wrong shapes; all of them are listed.
  """
  match = Match({}, [], [], [])
  problems = list(problems)
  handled: set[str] = set()
  for path, shape in targets.items():
    rule = rules.key_of(path)
    if rule is None:
      problems.append(f"{path} {list(shape)}: the model's array has no rule (a bug in jax_me)")
      continue
    key, transform = rule
    handled.add(key)
    reason = new_head if new_head and key.startswith(family.head) else ""
    if key not in arrays:
      reason = reason or _reason(key, mapping.fresh)
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
    if key in handled:
      continue
    reason = _reason(key, mapping.dropped)
    if not reason and new_head and key.startswith(family.head):
      reason = new_head
    if reason:
      match.dropped.append({"key": key, "shape": list(array.shape), "reason": reason})
    else:
      problems.append(f"{key} {list(array.shape)}: unexpected, the model has no such array")
  if problems:
    raise ConversionError(
      f"{len(problems)} mismatches between the file and the model",
      problems=problems,
      remedy="choose the model that the file was saved from (--model), with its sizes",
    )
  order = {key: number for number, key in enumerate(arrays)}
  match.loaded.sort(key=lambda entry: order[entry["key"]])  # in the order of the file
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
  """Adds one array to the match, or the mismatch of its shape to the problems."""
  expected = transform.torch_shape(shape)
  how = [] if key == path else ["renamed"]
  how += [] if transform is COPY else ["transposed"]
  if may_resize and array.shape != expected and _is_position_table(array.shape, expected):
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


def _is_position_table(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
  """Whether the shape is a class token and a square grid, in the expected width."""
  side = round((shape[1] - 1) ** 0.5) if len(shape) == 3 and shape[1] > 1 else 0
  return side > 0 and side * side == shape[1] - 1 and (shape[0], shape[2]) == (1, expected[2])
