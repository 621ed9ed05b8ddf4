"""Names of expressions: one spelling for all datasets, and maps between their codes.

The same code means different things in different datasets (1 is happy in AffectNet and surprise
in RAF-DB), so codes are only ever translated by name.
"""

import re
from collections.abc import Sequence

import numpy as np

# The order of AffectNet's codes, which most published models share.
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

# What micro-expression datasets name beside neutral: suppressed expressions, and all that fits
# nowhere else.
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
  """Lower case, single spaces, without the "-" and "_" that datasets put between words.

  Raises:
    ValueError: nothing is left.
  """
  text = re.sub(r"[\s_\-]+", " ", name).strip().casefold()
  if not text:
    raise ValueError(f"label {name!r} is empty")
  return text


def canonical_label(name: str) -> str:
  """One name for all spellings of an expression: "Happy" and "joy" give "happiness".

  A name that is not an expression known here comes back normalised.
  """
  text = normalize_label(name)
  return _CANONICAL.get(text, text)


def label_mapping(source: Sequence[str], target: Sequence[str]) -> np.ndarray:
  """Translates codes of one dataset into codes of another by name.

  Args:
    source: S class names in the order of their codes.
    target: T class names in the order of their codes.

  Returns:
    int32 [S], the target code of every source code; -1 where the target has no such class.

  Raises:
    ValueError: two target names mean the same, or no class is common to both.
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
  """ "negative", "positive" or "surprise"; None for neutral, others and what is not known here.

  The MEGC 2019 protocol counts less as negative in CASME II (disgust and repression only): where
  a protocol has its own list of samples, that list decides.
  """
  return _GROUP_OF.get(canonical_label(name))


def group_mapping(source: Sequence[str]) -> np.ndarray:
  """int32 [S] code in GROUPS of every class; -1 for classes that belong to none."""
  groups = [expression_group(name) for name in source]
  return np.array([-1 if group is None else GROUPS.index(group) for group in groups], np.int32)
