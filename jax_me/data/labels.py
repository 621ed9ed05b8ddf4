"""Expression labels: canonical names for all datasets, and mappings between their class codes.

The same code means different classes in different datasets (1 is happy in AffectNet and surprise
in RAF-DB), so codes are mapped only by name.
"""

import re
from collections.abc import Sequence

import numpy as np

# In the order of AffectNet's codes, which most published models use.
EMOTIONS = (
  "neutral",
  "happiness",
  "sadness",
  "surprise",
  "fear",
  "disgust",
  "anger",
  "contempt",
)

# Classes of micro-expression datasets besides neutral, including suppressed expressions and a
# rest class.
MICRO_EMOTIONS = (*EMOTIONS[1:], "repression", "others")

# Three classes of the micro-expression challenge MEGC 2019, in the order of its codes.
GROUPS = ("negative", "positive", "surprise")

_ALIASES = {
  "neutral": ("neutrality", "neu", "no expression"),
  "happiness": ("happy", "hap", "joy", "joyful", "smile", "smiling"),
  "sadness": ("sad",),
  "surprise": ("surprised", "surprize", "sur"),
  "fear": ("fearful", "afraid", "scared", "fea"),
  "disgust": ("disgusted", "dis"),
  "anger": ("angry", "ang"),
  "contempt": ("contemptuous", "scorn", "con"),
  "repression": ("repressed", "repress"),
  "others": ("other", "else"),
  "negative": ("neg", "ne"),
  "positive": ("pos", "po"),
  "none": ("no emotion",),
  "uncertain": ("unknown", "unsure"),
  "non face": ("nonface", "nf", "no face"),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in (name, *aliases)}

_GROUP_OF = {
  "anger": "negative",
  "contempt": "negative",
  "disgust": "negative",
  "fear": "negative",
  "sadness": "negative",
  "repression": "negative",
  "negative": "negative",
  "happiness": "positive",
  "positive": "positive",
  "surprise": "surprise",
}


def normalize_label(name: str) -> str:
  """Lower case with single spaces; "-" and "_" between words become spaces.

  Raises:
    ValueError: the label is empty.
  """
  text = re.sub(r"[\s_\-]+", " ", name).strip().casefold()
  if not text:
    raise ValueError(f"label {name!r} is empty")
  return text


def canonical_label(name: str) -> str:
  """Canonical name of an expression: "Happy" and "joy" give "happiness".

  An unknown name is only normalised.
  """
  text = normalize_label(name)
  return _CANONICAL.get(text, text)


def label_mapping(source: Sequence[str], target: Sequence[str]) -> np.ndarray:
  """Maps the class codes of one dataset to those of another by name.

  Args:
    source: S class names in the order of their codes.
    target: T class names in the order of their codes.

  Returns:
    int32 [S], the target code of every source code; -1 where the target has no such class.

  Raises:
    ValueError: two target names are the same expression, or there is no common class.
  """
  codes: dict[str, int] = {}
  for code, name in enumerate(target):
    canonical = canonical_label(name)
    if canonical in codes:
      raise ValueError(f"labels {target[codes[canonical]]!r} and {name!r} are the same expression")
    codes[canonical] = code
  mapping = np.array([codes.get(canonical_label(name), -1) for name in source], np.int32)
  if not (mapping >= 0).any():
    raise ValueError(f"no common class: {', '.join(source)} against {', '.join(target)}")
  return mapping


def expression_group(name: str) -> str | None:
  """ "negative", "positive" or "surprise"; None for neutral, others and unknown names.

  The MEGC 2019 protocol has fewer negative classes for CASME II (disgust and repression only): if
  a protocol has its own list of samples, use that list.
  """
  return _GROUP_OF.get(canonical_label(name))


def group_mapping(source: Sequence[str]) -> np.ndarray:
  """int32 [S] code in GROUPS of every class; -1 for classes without a group."""
  groups = [expression_group(name) for name in source]
  return np.array([-1 if group is None else GROUPS.index(group) for group in groups], np.int32)
