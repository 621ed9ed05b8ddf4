"""Clip counts of the MEGC 2019 composite of SMIC, CASME II and SAMM, and a check against them."""

from __future__ import annotations

import re

import numpy as np

from jax_me.data.labels import GROUPS, canonical_label
from jax_me.evaluation.clip_predictions import rows_by_clip
from jax_me.evaluation.predictions import Predictions

# Clips per class, in the order of GROUPS (the challenge's `combined_3class_gt.csv`).
CLIPS = {"smic": (70, 51, 43), "casme2": (88, 32, 25), "samm": (92, 26, 15)}
_SPELLINGS = {"smichs": "smic", "casmeii": "casme2"}


def megc2019_differences(predictions: Predictions) -> str:
  """Returns a warning where a three-class composite is not the 442 clips of MEGC 2019, or "".

  Other tables give "". Mapping the databases' own labels to the three classes yields other clips
  than the challenge's list (147 or 148 of CASME II instead of 145), so a table of the same
  databases is not necessarily the challenge's.
  """
  order = _class_order(predictions.labels)
  names = {database: _normalize_name(database) for database in set(predictions.database)}
  if order is None or sorted(names.values()) != sorted(CLIPS):
    return ""
  counts = {database: np.zeros(len(GROUPS), int) for database in CLIPS}
  for key, rows in rows_by_clip(predictions).items():
    counts[names[key[0]]][order[predictions.truth[rows[0]]]] += 1
  differences = [
    f"{database} has {counts[database][code]} {group} clips, not {clips[code]}"
    for database, clips in CLIPS.items()
    for code, group in enumerate(GROUPS)
    if counts[database][code] != clips[code]
  ]
  if not differences:
    return ""
  return (
    f"These are not the 442 clips of MEGC 2019: {'; '.join(differences)}. The scores are not "
    "comparable with those of the challenge."
  )


def _class_order(labels: tuple[str, ...]) -> list[int] | None:
  """The position in GROUPS of each label, by name or as the challenge's integers."""
  if labels == tuple(str(code) for code in range(len(GROUPS))):
    return list(range(len(GROUPS)))
  names = [canonical_label(label) for label in labels]
  return [GROUPS.index(name) for name in names] if sorted(names) == sorted(GROUPS) else None


def _normalize_name(database: str) -> str:
  plain = re.sub(r"[^a-z0-9]", "", database.casefold())
  return _SPELLINGS.get(plain, plain)
