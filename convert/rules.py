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


@dataclasses.dataclass(frozen=True)
class Transform:
  """Layout change of an array between torch and jax_me, in both directions."""

  name: str
  from_torch: Callable[[np.ndarray], np.ndarray]
  to_torch: Callable[[np.ndarray], np.ndarray]

  def torch_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
    """Shape in torch of an array that has `shape` in jax_me."""
    return self.to_torch(np.broadcast_to(np.float32(0), tuple(shape))).shape


def _same(array: np.ndarray) -> np.ndarray:
  return array


def _checked_rank(rank: int, change: Callable[[np.ndarray], np.ndarray]):
  """`change` for arrays of this rank; others pass unchanged and fail the shape check."""
  return lambda array: change(array) if array.ndim == rank else array


def _square(count: int) -> int:
  """Side of a square kernel stored flat; 1 when not square (fails the shape check)."""
  side = round(count**0.5)
  return side if side * side == count else 1


def _sparse_from_torch(array: np.ndarray) -> np.ndarray:
  """[k * k, in, out], flat index h + k * w (MinkowskiEngine) -> [h, w, in, out]."""
  side = _square(array.shape[0])
  return array.reshape(side, -1, *array.shape[1:]).swapaxes(0, 1)


def _sparse_to_torch(array: np.ndarray) -> np.ndarray:
  return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


# Tables, tokens, norms, biases: the same layout on both sides.
COPY = Transform("COPY", _same, _same)
# [out, in] <-> [in, out].
LINEAR = Transform("LINEAR", _checked_rank(2, np.transpose), _checked_rank(2, np.transpose))
# [out, in, h, w] <-> [h, w, in, out]; depthwise [C, 1, h, w] <-> [h, w, 1, C].
CONV2D = Transform(
  "CONV2D",
  _checked_rank(4, lambda a: a.transpose(2, 3, 1, 0)),
  _checked_rank(4, lambda a: a.transpose(3, 2, 0, 1)),
)
# [out, in, k] <-> [k, in, out].
CONV1D = Transform("CONV1D", _checked_rank(3, np.transpose), _checked_rank(3, np.transpose))
# Kernels of the sparse library [k * k, in, out] and, depthwise, [k * k, C] (C <-> [h, w, 1, C]).
SPARSE_CONV2D = Transform(
  "SPARSE_CONV2D", _checked_rank(3, _sparse_from_torch), _checked_rank(4, _sparse_to_torch)
)
SPARSE_DEPTHWISE = Transform(
  "SPARSE_DEPTHWISE",
  _checked_rank(2, lambda a: _sparse_from_torch(a[:, None])),
  _checked_rank(4, lambda a: _sparse_to_torch(a)[:, 0]),
)
# [1, C] <-> [C].
ROW = Transform("ROW", _checked_rank(2, lambda a: a.reshape(-1)), lambda a: a.reshape(1, -1))
# [1, C] <-> [1, 1, 1, C] (global response normalisation).
GRN_ROW = Transform(
  "GRN_ROW", _checked_rank(2, lambda a: a[None, None]), _checked_rank(4, lambda a: a[0, 0])
)
# [1, C, 1, 1] <-> [1, 1, 1, C] (mask token of a dense decoder).
CHANNEL_TOKEN = Transform(
  "CHANNEL_TOKEN",
  _checked_rank(4, lambda a: a.transpose(0, 2, 3, 1)),
  _checked_rank(4, lambda a: a.transpose(0, 3, 1, 2)),
)


def _expression(template: str) -> re.Pattern[str]:
  """'blocks.{0}.norm' -> blocks\\.(?P<n0>\\d+)\\.norm, anchored; numbers have no leading zero."""
  parts = re.split(r"\{(\d)\}", template)
  pattern = "".join(
    f"(?P<n{part}>0|[1-9][0-9]*)" if i % 2 else re.escape(part) for i, part in enumerate(parts)
  )
  return re.compile(rf"\A{pattern}\Z")


@dataclasses.dataclass(frozen=True)
class Rule:
  """One line of a family's table."""

  torch: str
  path: str
  transform: Transform = COPY
  torch_pattern: re.Pattern[str] = dataclasses.field(init=False, repr=False)
  path_pattern: re.Pattern[str] = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    object.__setattr__(self, "torch_pattern", _expression(self.torch))
    object.__setattr__(self, "path_pattern", _expression(self.path))


class RuleTable:
  """Rules of one family; a name matches at most one rule in each direction."""

  def __init__(self, rules: Iterable[Rule]):
    self.rules = list(rules)

  def path_of(self, key: str) -> tuple[str, Transform] | None:
    """Path and transform of a torch key; None when no rule matches."""
    found = [(r, m) for r in self.rules if (m := r.torch_pattern.match(key))]
    return self._single(key, [(_substitute(r.path, m), r.transform) for r, m in found])

  def key_of(self, path: str) -> tuple[str, Transform] | None:
    """Torch key and transform of a path; None when no rule matches."""
    found = [(r, m) for r in self.rules if (m := r.path_pattern.match(path))]
    return self._single(path, [(_substitute(r.torch, m), r.transform) for r, m in found])

  @staticmethod
  def _single(name: str, found: list[tuple[str, Transform]]) -> tuple[str, Transform] | None:
    if len(found) > 1:
      raise ConversionError(
        f"{name} matches {len(found)} rules: {', '.join(target for target, _ in found)}"
      )
    return found[0] if found else None


def _substitute(template: str, match: re.Match[str]) -> str:
  return re.sub(r"\{(\d)\}", lambda m: match.group(f"n{m.group(1)}"), template)


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
