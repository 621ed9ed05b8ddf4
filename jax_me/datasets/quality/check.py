"""Is a built dataset fit to be scored on? Records, counts, duplicates, folds, near-identical faces.

A fault that would make scores wrong (a record that cannot be read, a person on both sides of a
fold) is an error; what the reader of the scores must know (numbers other than published, one
picture under two labels) is a warning.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from jax_me.data import folds as division
from jax_me.data.index import ExampleIndex, read_index
from jax_me.datasets.built_datasets import DamagedDataset
from jax_me.datasets.generation.build_report import REPORT_FILE
from jax_me.datasets.generation.generate import SUMMARY_FILE
from jax_me.datasets.quality.face_descriptors import PICTURES_OF_MOTION
from jax_me.datasets.quality.near_duplicates import near_duplicates
from jax_me.datasets.quality.record_check import RecordCheck, check_records

NAMED = 5  # examples that a finding names
# Faces are compared without being asked for up to so many pictures: three minutes on one core.
FEW_PICTURES = 2000
FACE_ROWS = 100  # rows of each kind that the result keeps

Level = Literal["error", "warning", "note", "ok"]


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing that was found.

  Attributes:
    topic: "records", "counts", "classes", "duplicates", "folds" or "faces".
    level: "error" makes scores wrong, "warning" belongs beside them, "note" is worth knowing,
      "ok" is as it should be.
    text: one sentence.
  """

  topic: str
  level: Level
  text: str


@dataclasses.dataclass(frozen=True)
class DatasetCheck:
  """All that was found.

  Attributes:
    dataset: name, variant and version.
    folder: where it lies.
    findings: in the order of the checks.
    counts: rows "split", "class", "expected", "found", "stored"; [] when nothing was published.
    classes: rows "split", "class", "examples", "subjects" (None where unknown).
    faces: rows of `near_duplicates.compare_faces`, [] when faces were not compared.
  """

  dataset: str
  folder: str
  findings: list[Finding]
  counts: list[dict[str, Any]]
  classes: list[dict[str, Any]]
  faces: list[dict[str, Any]]

  @property
  def valid(self) -> bool:
    """Whether nothing was found that makes scores wrong."""
    return all(finding.level != "error" for finding in self.findings)

  def as_json(self) -> dict[str, Any]:
    """All of it as JSON values."""
    return {"valid": self.valid, **dataclasses.asdict(self)}


def check_dataset(
  builder: Any,
  *,
  rule: str | None = None,
  folds: int = 5,
  seed: int = 0,
  faces: bool | None = None,
  workers: int | None = None,
) -> DatasetCheck:
  """Checks a built dataset.

  Args:
    builder: a prepared dataset.
    rule: one of folds.RULES, how it is to be divided. None takes "official" where the dataset has
      several splits, "loso" where subjects are known, else "kfold".
    folds: number of folds for "kfold" and "step"; "holdout" tests on one part of so many.
    seed: of "kfold" and "holdout".
    faces: look for the same face on both sides; None does so for at most FEW_PICTURES pictures.
    workers: processes that describe faces; None takes one a core.

  Raises:
    ValueError: unknown rule.
    DamagedDataset: its files cannot be read; the message says what to do.
  """
  if rule is not None and rule not in division.RULES:
    raise ValueError(f"the rule of division must be one of {', '.join(division.RULES)}: {rule!r}")
  folder = pathlib.Path(builder.data_path)
  split = "+".join(sorted(builder.info.splits))
  try:
    index = read_index(builder, split)
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    same_files = _count_same_files(folder / REPORT_FILE)
    records = check_records(builder, split, index)
    counts = list(summary["known_counts"])
    if len(records.unreadable) == len(index):
      raise ValueError(f"no record can be read; the first {records.unreadable[0][1]}")
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedDataset(
      f"{folder} is damaged ({error}); delete that folder and build it again"
    ) from error
  made, refused = make_folds(index, rule or default_rule(index), folds=folds, seed=seed)
  face_rows: list[dict[str, Any]] = []
  unseen = _why_not_compared(builder, index, faces)
  if not unseen:
    face_rows = near_duplicates(
      builder, made or None, split=split, workers=workers, limit=FACE_ROWS
    )
  findings = [
    *_record_findings(records, index),
    *_count_findings(counts),
    *_class_findings(index),
    *_duplicate_findings(records.digests, index, made, same_files),
    *refused,
    *_fold_findings(index, made),
    *_face_findings(face_rows, unseen),
  ]
  return DatasetCheck(
    dataset=builder.info.full_name,
    folder=str(folder),
    findings=findings,
    counts=counts,
    classes=_class_rows(index),
    faces=face_rows,
  )


def default_rule(index: ExampleIndex) -> str:
  """How a dataset is divided unless one says otherwise."""
  if len(set(index.split)) > 1:
    return "official"
  return "loso" if len(set(index.subject) - {""}) > 1 else "kfold"


def make_folds(
  index: ExampleIndex, rule: str, *, folds: int, seed: int
) -> tuple[list[division.Fold], list[Finding]]:
  """The folds of a rule, or, where it cannot be followed, an error that says why."""
  try:
    tests = [name for name in ("validation", "test") if name in set(index.split)]
    if rule == "official" and len(tests) > 1:
      made = [
        dataclasses.replace(division.official_fold(index, test=name), name=f"official {name}")
        for name in tests
      ]
    else:
      made = division.make_folds(index, rule, folds=folds, holdout_share=1 / folds, seed=seed)
    for fold in made:
      division.check_disjoint(index, fold)
  except ValueError as error:
    return [], [Finding("folds", "error", f"{rule}: {error}")]
  sizes = [len(fold.test) for fold in made]
  size = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
  people = " and no subject" if (index.subject != "").all() else ""
  number = "1 fold" if len(made) == 1 else f"{len(made)} folds"
  text = f"{rule}: {number}, {size} examples tested; no example{people} stands on both sides"
  findings = [Finding("folds", "ok", text)]
  if not people:
    text = "no subjects are known: one person may be trained on and tested"
    # Where the authors published the division, scores on it are what others report.
    findings.append(Finding("folds", "note" if rule == "official" else "warning", text))
  return made, findings


def spanning(group: Sequence[int] | np.ndarray, folds: Sequence[division.Fold]) -> str:
  """The name of the first fold with some of these examples on either side, "" when none is."""
  for fold in folds:
    if np.isin(group, fold.train).any() and np.isin(group, fold.test).any():
      return fold.name
  return ""


def _record_findings(records: RecordCheck, index: ExampleIndex) -> Iterator[Finding]:
  for position, why in records.unreadable[:NAMED]:
    yield Finding("records", "error", f"record {position} ({index.file[position]}) {why}")
  if len(records.unreadable) > NAMED:
    yield Finding("records", "error", f"{len(records.unreadable)} records are unreadable in all")
  if records.different:
    position, fields = records.different[0]
    yield Finding(
      "records",
      "error",
      f"{len(records.different)} records say something else than the index (first: record "
      f"{position}, {index.file[position]}: {fields})",
    )
  if not records.unreadable and not records.different:
    yield Finding("records", "ok", f"all {len(index)} records decode, {_sizes(records.sizes)}")


def _sizes(sizes: collections.Counter[tuple[int, int]]) -> str:
  if len(sizes) == 1:
    ((height, width),) = sizes
    return f"{width}x{height} pixels"
  sides = [side for size in sizes for side in size]
  return f"sides from {min(sides)} to {max(sides)} pixels"


def _count_findings(counts: list[dict[str, Any]]) -> Iterator[Finding]:
  if not counts:
    yield Finding("counts", "note", "no numbers are published to compare this copy with")
    return
  differing = [row for row in counts if not row["expected"] == row["found"] == row["stored"]]
  if differing:
    yield Finding(
      "counts",
      "warning",
      f"{len(differing)} of {len(counts)} classes differ from the published numbers (table)",
    )
  else:
    yield Finding("counts", "ok", f"all {len(counts)} classes have the published numbers")


def _class_rows(index: ExampleIndex) -> list[dict[str, Any]]:
  rows = []
  for split in dict.fromkeys(index.split):
    for code, name in enumerate(index.label_names):
      chosen = (index.split == split) & (index.label == code)
      people = set(zip(index.database[chosen], index.subject[chosen], strict=True))
      rows.append(
        {
          "split": split,
          "class": name,
          "examples": int(chosen.sum()),
          "subjects": None if any(not name for _, name in people) else len(people),
        }
      )
  return rows


def _class_findings(index: ExampleIndex) -> Iterator[Finding]:
  empty = [name for name, number in index.class_counts().items() if not number]
  if empty:
    yield Finding("classes", "warning", f"no example of {', '.join(empty)}")
  for row in _class_rows(index):
    if row["subjects"] == 1:
      yield Finding(
        "classes",
        "warning",
        f"all {row['examples']} examples of {row['class']} show one person: the fold that tests "
        "on that person trains without the class",
      )


def _duplicate_findings(
  digests: np.ndarray, index: ExampleIndex, folds: list[division.Fold], same_files: int
) -> Iterator[Finding]:
  by_content = collections.defaultdict(list)
  for position, digest in enumerate(digests):
    if digest:
      by_content[digest].append(position)
  groups = [np.array(group) for group in by_content.values() if len(group) > 1]
  if same_files:
    text = f"{same_files} source files have the bytes of another (same_content_as in {REPORT_FILE})"
    yield Finding("duplicates", "note", text)
  if not groups:
    yield Finding("duplicates", "ok", "no two stored pictures are the same")
    return
  extra = sum(len(group) - 1 for group in groups)
  yield Finding("duplicates", "note", f"{extra} stored pictures are copies of another")
  official = any(fold.name.startswith("official") for fold in folds)
  crossing = [group for group in groups if spanning(group, folds)]
  if crossing:
    text = f"{len(crossing)} pictures stand on both sides of a fold ({_named(crossing[0], index)})"
    if official:
      yield Finding("duplicates", "warning", f"{text}; the division is the published one")
    else:
      yield Finding("duplicates", "error", text)
  unlike = [group for group in groups if len(set(index.label[group])) > 1]
  if unlike:
    text = f"{len(unlike)} pictures have two labels ({_named(unlike[0], index)})"
    yield Finding("duplicates", "warning", text)


def _fold_findings(index: ExampleIndex, folds: list[division.Fold]) -> Iterator[Finding]:
  lacking = []
  present = set(index.label)
  for fold in folds:
    lacking += [
      f"{fold.name} ({index.label_names[code]})"
      for code in sorted(present - set(index.label[fold.train]))
    ]
  if lacking:
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    text = f"folds that train without a class: {', '.join(lacking[:NAMED])}{more}"
    yield Finding("folds", "warning", text)


def _why_not_compared(builder: Any, index: ExampleIndex, faces: bool | None) -> str:
  """Why the faces of a dataset are left alone, "" when they are compared."""
  if getattr(builder.options, "input", "") in PICTURES_OF_MOTION:
    return "the pictures show motion; check the same dataset built with --input apex"
  if faces is None and len(index) > FEW_PICTURES:
    return f"with {len(index)} pictures only when --faces asks for it"
  return "left out" if faces is False else ""


def _face_findings(rows: list[dict[str, Any]], unseen: str) -> Iterator[Finding]:
  """Likeness is evidence and no proof: all of these are warnings or notes."""
  if unseen:
    yield Finding("faces", "note", f"not compared: {unseen}")
    return
  of_kind = collections.defaultdict(list)
  for row in rows:
    # One person under two names has most pairs of pictures alike, a chance likeness few.
    if row["kind"] != "one_person" or 2 * row["pairs"] > row["of"]:
      of_kind[row["kind"]].append(row)
  for kind, what in (
    ("near_identical", "nearly the same picture stands on both sides of a fold"),
    ("one_person", "two people, or two sides of a fold, look like one person"),
  ):
    if found := of_kind[kind]:
      first = found[0]
      number = f"{len(found)} times" if len(found) < FACE_ROWS else f"at least {FACE_ROWS} times"
      text = f"{what}, {number} (first: {first['first']} and {first['second']}, distance "
      yield Finding("faces", "warning", f"{text}{first['distance']:.2f})")
  if missing := of_kind["no_face"]:
    number = str(len(missing)) if len(missing) < FACE_ROWS else f"at least {FACE_ROWS}"
    yield Finding("faces", "note", f"no face found in {number} pictures, which were not compared")
  if not of_kind["near_identical"] and not of_kind["one_person"]:
    yield Finding("faces", "ok", "no face looks like one on the other side of a fold")


def _named(group: np.ndarray, index: ExampleIndex) -> str:
  names = [f"{index.split[i]} {index.file[i]} {index.label_names[index.label[i]]}" for i in group]
  return f"first: {' = '.join(names[:NAMED])}"


def _count_same_files(report: pathlib.Path) -> int:
  with report.open(encoding="utf-8") as lines:
    return sum("same_content_as" in json.loads(line) for line in lines)
