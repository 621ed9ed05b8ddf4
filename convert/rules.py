"""Bidirectional rules between torch keys and jax_me parameter paths.

A rule is one line of a table: torch key, our path, transform of the array. `{0}`, `{1}` are numbers
that are equal on both sides. Each template is compiled to an anchored regular expression in which
everything but the numbers is escaped, so a rule matches nothing else.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .errors import ConversionError

_Change = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Transform:
  """Layout change of an array between torch and jax_me, in both directions."""

  name: str
  from_torch: _Change
  to_torch: _Change

  def torch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape in torch of an array that has `shape` in jax_me."""
    return self.to_torch(np.broadcast_to(np.float32(0), tuple(shape))).shape


def _of_rank(rank: int, change: _Change) -> _Change:
  """`change` for arrays of this rank; others pass unchanged and fail the shape check."""
  return lambda array: change(array) if array.ndim == rank else array


def _permutation(name: str, *axes: int) -> Transform:
  back = tuple(map(axes.index, range(len(axes))))
  return Transform(
    name,
    _of_rank(len(axes), lambda array: array.transpose(axes)),
    _of_rank(len(axes), lambda array: array.transpose(back)),
  )


def _sparse_from_torch(array: np.ndarray) -> np.ndarray:
  """[k * k, in, out], flat index h + k * w (MinkowskiEngine) -> [h, w, in, out]."""
  side = round(len(array) ** 0.5)
  if side * side != len(array):
    side = 1  # not square: fails the shape check
  return array.reshape(side, -1, *array.shape[1:]).swapaxes(0, 1)


def _sparse_to_torch(array: np.ndarray) -> np.ndarray:
  return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


# Tables, tokens, norms, biases: the same layout on both sides.
COPY = Transform("COPY", lambda array: array, lambda array: array)
# [out, in] <-> [in, out].
LINEAR = _permutation("LINEAR", 1, 0)
# [out, in, h, w] <-> [h, w, in, out]; depthwise [C, 1, h, w] <-> [h, w, 1, C].
CONV2D = _permutation("CONV2D", 2, 3, 1, 0)
# [out, in, k] <-> [k, in, out].
CONV1D = _permutation("CONV1D", 2, 1, 0)
# [1, C, 1, 1] <-> [1, 1, 1, C] (mask token of a dense decoder).
CHANNEL_TOKEN = _permutation("CHANNEL_TOKEN", 0, 2, 3, 1)
# Kernels of the sparse library [k * k, in, out] and, depthwise, [k * k, C] (C <-> [h, w, 1, C]).
SPARSE_CONV2D = Transform(
  "SPARSE_CONV2D", _of_rank(3, _sparse_from_torch), _of_rank(4, _sparse_to_torch)
)
SPARSE_DEPTHWISE = Transform(
  "SPARSE_DEPTHWISE",
  _of_rank(2, lambda array: _sparse_from_torch(array[:, None])),
  _of_rank(4, lambda array: _sparse_to_torch(array)[:, 0]),
)
# [1, C] <-> [C].
ROW = Transform(
  "ROW", _of_rank(2, lambda array: array.reshape(-1)), lambda array: array.reshape(1, -1)
)
# [1, C] <-> [1, 1, 1, C] (global response normalisation).
GRN_ROW = Transform(
  "GRN_ROW", _of_rank(2, lambda array: array[None, None]), _of_rank(4, lambda array: array[0, 0])
)


def _expression(template: str) -> re.Pattern[str]:
  """'blocks.{0}.norm' -> blocks\\.(?P<n0>\\d+)\\.norm, anchored; numbers have no leading zero."""
  parts = re.split(r"\{(\d)\}", template)
  pattern = "".join(
    f"(?P<n{part}>0|[1-9][0-9]*)" if i % 2 else re.escape(part) for i, part in enumerate(parts)
  )
  return re.compile(rf"\A{pattern}\Z")


def _expansion(template: str) -> str:
  """'blocks.{0}.norm' -> 'blocks.\\g<n0>.norm', for `re.Match.expand`."""
  return re.sub(r"\{(\d)\}", r"\\g<n\1>", template)


@dataclasses.dataclass(frozen=True)
class Rule:
  """One line of a family's table."""

  torch: str
  path: str
  transform: Transform = COPY


class RuleTable:
  """Rules of one family; a name matches at most one rule in each direction."""

  def __init__(self, rules: Iterable[Rule]):
    rules = list(rules)
    self._from_key = [(_expression(r.torch), _expansion(r.path), r.transform) for r in rules]
    self._from_path = [(_expression(r.path), _expansion(r.torch), r.transform) for r in rules]

  def path_of(self, key: str) -> tuple[str, Transform] | None:
    """Path and transform of a torch key; None when no rule matches."""
    return _translate(key, self._from_key)

  def key_of(self, path: str) -> tuple[str, Transform] | None:
    """Torch key and transform of a path; None when no rule matches."""
    return _translate(path, self._from_path)


def _translate(
  name: str, rules: Sequence[tuple[re.Pattern[str], str, Transform]]
) -> tuple[str, Transform] | None:
  found = [
    (match.expand(target), transform)
    for pattern, target, transform in rules
    if (match := pattern.match(name))
  ]
  if len(found) > 1:
    raise ConversionError(
      f"{name} matches {len(found)} rules: {', '.join(target for target, _ in found)}"
    )
  return found[0] if found else None


def layer(
  name: str, transform: Transform, *, ours: str | None = None, bias: bool = True
) -> list[Rule]:
  """Rules of a linear or convolution layer: torch's `weight` is our `kernel`.

  Args:
    name: prefix of the torch keys.
    transform: of the kernel.
    ours: prefix of our paths when it differs.
    bias: whether the layer has a bias.

  Returns:
    One rule per array.
  """
  ours = ours or name
  rules = [Rule(f"{name}.weight", f"{ours}.kernel", transform)]
  return rules + [Rule(f"{name}.bias", f"{ours}.bias")] * bias


def norm(name: str, *, ours: str | None = None) -> list[Rule]:
  """Rules of a layer norm: torch's `weight` is our `scale`."""
  ours = ours or name
  return [Rule(f"{name}.weight", f"{ours}.scale"), Rule(f"{name}.bias", f"{ours}.bias")]
