"""Matching of a file's arrays with a model's arrays; every key on both sides is accounted for."""

from collections.abc import Mapping, Sequence

import numpy as np

from jax_me.models.positions import resize_positions
from jax_me.models.weight_mapping import WeightMapping, can_resize, reason_for

from .errors import ConversionError
from .families import Family
from .hub_keys import OriginalArrays
from .load_report import LoadReport
from .rules import COPY, RuleTable


def match_arrays(
  source: OriginalArrays,
  targets: Mapping[str, Sequence[int]],
  family: Family,
  rules: RuleTable,
  mapping: WeightMapping,
  report: LoadReport,
  *,
  new_head: str = "",
  resize: bool = False,
  problems: Sequence[str] = (),
) -> dict[str, np.ndarray]:
  """Assigns every key of the file and every array of the model.

  Args:
    source: arrays of the file, under the keys of the family's original project.
    targets: {path: shape} of the model's arrays.
    family: of the model.
    rules: table from the original's keys to the model's paths.
    mapping: parameters that the file's content omits or has in excess on purpose.
    report: receives an entry for every key on both sides.
    new_head: reason for a fresh head; empty when the file's head is to be loaded.
    resize: whether position tables may be resized to the model's image size.
    problems: found earlier; reported together with those found here.

  Returns:
    {path: array in our layout} of the model's arrays that the file provides.

  Raises:
    ConversionError: missing or unexpected keys, or wrong shapes; all of them are listed.
  """
  values: dict[str, np.ndarray] = {}
  problems = [*problems, *source.problems]
  report.dropped += source.dropped
  arrays = source.arrays
  handled: set[str] = set()
  for path, shape in targets.items():
    rule = rules.key_of(path)
    if rule is None:
      problems.append(f"{path} {list(shape)}: the model's array has no rule (a bug in jax_me)")
      continue
    key, transform = rule
    handled.add(key)
    expected = transform.torch_shape(shape)
    array = arrays.get(key)
    reason = new_head if key.startswith(family.head) else ""
    if array is None and not reason:
      reason = reason_for(key, mapping.fresh)
    if reason:
      report.fresh.append({"path": path, "shape": list(shape), "reason": reason})
      if array is not None:
        _drop(report, source, key, reason)
      continue
    if array is None:
      problems.append(f"{_in_file(source, key)} {list(expected)}: missing in the file")
      continue
    how = ["transposed"] * (transform is not COPY)
    if array.shape == expected:
      values[path] = transform.from_torch(array)
    elif resize and key in family.positions and can_resize(array.shape, expected):
      values[path] = resize_positions(array, round((expected[1] - 1) ** 0.5))
      how.append("resized")
    else:
      shapes = f"{list(array.shape)}, the model needs {list(expected)}"
      problems.append(f"{_in_file(source, key)}: shape {shapes}")
      continue
    for name, original_shape, changes in source.entries(key):
      changes = ["renamed"] * (name != path) + changes + how
      report.loaded.append(
        {
          "key": name,
          "path": path,
          "shape": original_shape,
          "model_shape": list(shape),
          "how": " and ".join(changes) or "copied",
        }
      )
  for key, array in arrays.items():
    if key in handled:
      continue
    reason = reason_for(key, mapping.dropped) or (new_head if key.startswith(family.head) else "")
    if reason:
      _drop(report, source, key, reason)
    else:
      problems.append(
        f"{_in_file(source, key)} {list(array.shape)}: unexpected, the model has no such array"
      )
  if problems:
    raise ConversionError(
      f"{len(problems)} mismatches between the file and the model",
      problems=problems,
      remedy="choose the model that the file was saved from (--model), with its sizes",
    )
  report.loaded.sort(key=lambda entry: source.order[entry["key"]])  # in the order of the file
  return values


def _in_file(source: OriginalArrays, key: str) -> str:
  return " + ".join(source.keys_in_file(key))


def _drop(report: LoadReport, source: OriginalArrays, key: str, reason: str) -> None:
  for name, shape, _ in source.entries(key):
    report.dropped.append({"key": name, "shape": shape, "reason": reason})
