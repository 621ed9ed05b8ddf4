"""Checks of a built dataset: records, class counts, duplicates, folds, near-identical faces.

A fault that invalidates scores (an unreadable record, a subject in training and test) is an error.
A fact that must be reported with scores (counts other than published, one image with two labels)
is a warning.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict

import numpy as np

from jax_me.data import folds as fold_rules
from jax_me.data.clip_inputs.inputs import MOTION_INPUTS
from jax_me.data.index import ExampleIndex, read_index
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.build_report import REPORT_FILE
from jax_me.datasets.generation.checksums import SUMMARY_FILE, DamagedDataset, verify_dataset
from jax_me.datasets.quality.near_duplicates import FacePair, near_duplicates
from jax_me.datasets.quality.record_check import RecordCheck, check_records

MAX_LISTED = 5  # examples listed in one finding
# Faces are compared by default up to this number of images: three minutes on one core.
MAX_IMAGES_FOR_FACES = 2000
MAX_FACE_ROWS = 100  # rows of each kind in the result

Level = Literal["error", "warning", "note", "ok"]


@dataclasses.dataclass(frozen=True)
class Finding:
  """Result of one check.

  Attributes:
    topic: "files", "records", "counts", "classes", "duplicates", "folds" or "faces".
    level: "error" invalidates scores, "warning" must be reported with scores, "note" is
      information, "ok" is a passed check.
    text: one sentence.
  """

  topic: str
  level: Level
  text: str


WITH_CHECKSUMS = Finding("files", "ok", "all files are those that the build wrote")
WITHOUT_CHECKSUMS = Finding("files", "note", "built by version 0.1, without checksums")

ClassRow = TypedDict(
  "ClassRow", {"split": str, "class": str, "examples": int, "subjects": int | None}
)


@dataclasses.dataclass(frozen=True)
class DatasetCheck:
  """Results of all checks of a dataset.

  Attributes:
    dataset: name, variant and version.
    folder: folder of the build.
    findings: in the order of the checks.
    counts: rows "split", "class", "expected", "found", "stored"; [] if no counts are published.
    classes: rows "split", "class", "examples", "subjects" (None if unknown).
    faces: rows of `near_duplicates.compare_faces`; [] if faces were not compared.
  """

  dataset: str
  folder: str
  findings: list[Finding]
  counts: list[dict[str, Any]]
  classes: list[ClassRow]
  faces: list[FacePair]

  @property
  def valid(self) -> bool:
    """Whether no finding is an error."""
    return all(finding.level != "error" for finding in self.findings)

  def as_json(self) -> dict[str, object]:
    """The check as JSON values."""
    return {"valid": self.valid, **dataclasses.asdict(self)}


def check_dataset(
  builder: FaceDataset,
  *,
  rule: str | None = None,
  folds: int = 5,
  seed: int = 0,
  train_splits: Sequence[str] = ("train",),
  faces: bool | None = None,
  workers: int | None = None,
) -> DatasetCheck:
  """Checks a built dataset.

  Args:
    builder: a prepared dataset.
    rule: split rule, one of folds.RULES. None uses "official" if the dataset has several splits,
      "loso" if subjects are known, else "kfold".
    folds: number of folds for "kfold" and "step"; "holdout" tests on 1 / folds of the subjects.
    seed: seed of "kfold" and "holdout".
    train_splits: splits that "official" trains on, as the setting data.train_splits.
    faces: whether to compare faces across folds; None does so for at most MAX_IMAGES_FOR_FACES
      images.
    workers: processes that compute face descriptors; None uses one per core.

  Returns:
    all findings, with tables of counts, classes and similar faces.

  Raises:
    ValueError: unknown rule.
    DamagedDataset: the dataset's files cannot be read; the message states the remedy.
  """
  if rule is not None and rule not in fold_rules.RULES:
    raise ValueError(f"the split rule must be one of {', '.join(fold_rules.RULES)}: {rule!r}")
  folder = pathlib.Path(builder.data_path)
  split = "+".join(sorted(builder.info.splits))
  has_checksums = verify_dataset(folder, records=True)
  try:
    index = read_index(builder, split)
    summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
    duplicate_files = _count_duplicate_files(folder / REPORT_FILE)
    records = check_records(builder, split, index)
    counts = list(summary["known_counts"])
    if len(records.unreadable) == len(index):
      raise ValueError(f"no record can be read; the first {records.unreadable[0][1]}")
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedDataset(
      f"{folder} is damaged ({error}); delete that folder and build it again"
    ) from error
  rule = rule or default_rule(index)
  made_folds, fold_findings = make_folds(
    index, rule, folds=folds, seed=seed, train_splits=train_splits
  )
  face_pairs: list[FacePair] = []
  skip_reason = _face_skip_reason(builder, index, faces)
  if not skip_reason:
    face_pairs = near_duplicates(
      builder, made_folds or None, split=split, workers=workers, limit=MAX_FACE_ROWS
    )
  findings = [
    WITH_CHECKSUMS if has_checksums else WITHOUT_CHECKSUMS,
    *_record_findings(records, index),
    *_count_findings(counts),
    *_class_findings(index),
    *_duplicate_findings(records.digests, index, made_folds, duplicate_files),
    *fold_findings,
    *_missing_class_findings(index, made_folds),
    *_face_findings(face_pairs, skip_reason),
  ]
  return DatasetCheck(
    dataset=builder.info.full_name,
    folder=str(folder),
    findings=findings,
    counts=counts,
    classes=_class_rows(index),
    faces=face_pairs,
  )


def default_rule(index: ExampleIndex) -> str:
  """The split rule used if none is given."""
  if len(set(index.split)) > 1:
    return "official"
  return "loso" if len(set(index.subject) - {""}) > 1 else "kfold"


def make_folds(
  index: ExampleIndex,
  rule: str,
  *,
  folds: int,
  seed: int,
  train_splits: Sequence[str] = ("train",),
) -> tuple[list[fold_rules.Fold], list[Finding]]:
  """Makes the folds of a rule and checks that they are disjoint.

  Args:
    index: the examples of all splits.
    rule: one of folds.RULES.
    folds: number of folds for "kfold" and "step"; "holdout" tests on 1 / folds of the subjects.
    seed: seed of "kfold" and "holdout".
    train_splits: splits that "official" trains on, as the setting data.train_splits.

  Returns:
    the folds, with "official" also of the unused splits, and the findings about them. If the rule
    cannot be applied, no folds and an error.
  """
  try:
    made = fold_rules.make_folds(
      index, rule, folds=folds, holdout_share=1 / folds, seed=seed, train=train_splits
    )
    for fold in made:
      fold_rules.check_disjoint(index, fold)
  except ValueError as error:
    return [], [Finding("folds", "error", f"{rule}: {error}")]
  has_subjects = bool((index.subject != "").all())
  number = "1 fold" if len(made) == 1 else f"{len(made)} folds"
  what = "example or subject" if has_subjects else "example"
  sizes = fold_rules.describe_folds(index, made)
  text = f"{rule}: {number}; {sizes}; no {what} is in both training and test"
  findings = [Finding("folds", "ok", text)]
  if not has_subjects:
    text = "subjects are unknown: the same person may be in training and test"
    # Scores on a published split are comparable with those of others.
    findings.append(Finding("folds", "note" if rule == "official" else "warning", text))
  if rule == "official":  # Copies of training images are found in the other splits too.
    used = {*train_splits, *index.split[made[0].test]}
    made += [
      fold_rules.Fold(f"official {name}", made[0].train, np.flatnonzero(index.split == name))
      for name in dict.fromkeys(index.split)
      if name not in used
    ]
  return made, findings


def crossed_fold(group: Sequence[int] | np.ndarray, folds: Sequence[fold_rules.Fold]) -> str:
  """Name of the first fold with some of the examples in training and some in test, or ""."""
  for fold in folds:
    if np.isin(group, fold.train).any() and np.isin(group, fold.test).any():
      return fold.name
  return ""


def _record_findings(records: RecordCheck, index: ExampleIndex) -> Iterator[Finding]:
  for position, reason in records.unreadable[:MAX_LISTED]:
    yield Finding("records", "error", f"record {position} ({index.file[position]}) {reason}")
  if len(records.unreadable) > MAX_LISTED:
    yield Finding("records", "error", f"{len(records.unreadable)} records in total are unreadable")
  if records.different:
    position, fields = records.different[0]
    yield Finding(
      "records",
      "error",
      f"{len(records.different)} records differ from the index (first: record "
      f"{position}, {index.file[position]}: {fields})",
    )
  if not records.unreadable and not records.different:
    yield Finding(
      "records", "ok", f"all {len(index)} records decode, {_format_sizes(records.sizes)}"
    )


def _format_sizes(sizes: collections.Counter[tuple[int, int]]) -> str:
  if len(sizes) == 1:
    ((height, width),) = sizes
    return f"{width}x{height} pixels"
  sides = [side for size in sizes for side in size]
  return f"sides from {min(sides)} to {max(sides)} pixels"


def _count_findings(counts: list[dict[str, Any]]) -> Iterator[Finding]:
  if not counts:
    yield Finding("counts", "note", "no class counts are published for this dataset")
    return
  differing = [row for row in counts if not row["expected"] == row["found"] == row["stored"]]
  if differing:
    yield Finding(
      "counts",
      "warning",
      f"{len(differing)} of {len(counts)} class counts differ from the published ones (see table)",
    )
  else:
    yield Finding("counts", "ok", f"all {len(counts)} class counts are as published")


def _class_rows(index: ExampleIndex) -> list[ClassRow]:
  rows: list[ClassRow] = []
  for split in dict.fromkeys(index.split):
    for code, name in enumerate(index.label_names):
      chosen = (index.split == split) & (index.label == code)
      rows.append(
        {
          "split": split,
          "class": name,
          "examples": int(chosen.sum()),
          "subjects": count_subjects(index.take(chosen)),
        }
      )
  return rows


def count_subjects(index: ExampleIndex) -> int | None:
  """Number of subjects of all databases; None if unknown."""
  subjects = set(zip(index.database, index.subject, strict=True))
  return len(subjects) if all(name for _, name in subjects) else None


def _class_findings(index: ExampleIndex) -> Iterator[Finding]:
  empty = [name for name, count in index.class_counts().items() if not count]
  if empty:
    yield Finding("classes", "warning", f"no example of {', '.join(empty)}")
  for row in _class_rows(index):
    if row["subjects"] == 1:
      yield Finding(
        "classes",
        "warning",
        f"all {row['examples']} examples of {row['class']} are of one subject: the fold that tests "
        "this subject trains without the class",
      )


def _duplicate_findings(
  digests: np.ndarray, index: ExampleIndex, folds: list[fold_rules.Fold], duplicate_files: int
) -> Iterator[Finding]:
  by_digest = collections.defaultdict(list)
  for position, digest in enumerate(digests):
    if digest:
      by_digest[digest].append(position)
  groups = [np.array(group) for group in by_digest.values() if len(group) > 1]
  if duplicate_files:
    text = (
      f"{duplicate_files} source files are copies of another (same_content_as in {REPORT_FILE})"
    )
    yield Finding("duplicates", "note", text)
  if not groups:
    yield Finding("duplicates", "ok", "no two stored images are identical")
    return
  extra = sum(len(group) - 1 for group in groups)
  yield Finding("duplicates", "note", f"{extra} stored images are copies of another")
  official = any(fold.name.startswith("official") for fold in folds)
  crossing = [group for group in groups if crossed_fold(group, folds)]
  if crossing:
    example = _format_group(crossing[0], index)
    text = f"{len(crossing)} images are in both training and test of a fold ({example})"
    if official:
      yield Finding("duplicates", "warning", f"{text}; the split is the published one")
    else:
      yield Finding("duplicates", "error", text)
  conflicting = [group for group in groups if len(set(index.label[group])) > 1]
  if conflicting:
    text = f"{len(conflicting)} images have two labels ({_format_group(conflicting[0], index)})"
    yield Finding("duplicates", "warning", text)


def _missing_class_findings(index: ExampleIndex, folds: list[fold_rules.Fold]) -> Iterator[Finding]:
  missing = []
  present = set(index.label)
  for fold in folds:
    missing += [
      f"{fold.name} ({index.label_names[code]})"
      for code in sorted(present - set(index.label[fold.train]))
    ]
  if missing:
    more = f" and {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
    text = f"folds whose training set lacks a class: {', '.join(missing[:MAX_LISTED])}{more}"
    yield Finding("folds", "warning", text)


def _face_skip_reason(builder: FaceDataset, index: ExampleIndex, faces: bool | None) -> str:
  """Reason not to compare the faces of a dataset, "" if they are compared."""
  if getattr(builder.options, "input", "") in MOTION_INPUTS:
    return "the images show motion; check the same dataset built with --input apex"
  if faces is None and len(index) > MAX_IMAGES_FOR_FACES:
    return f"{len(index)} images; use --faces to compare them"
  return "disabled" if faces is False else ""


def _face_findings(pairs: list[FacePair], skip_reason: str) -> Iterator[Finding]:
  """Findings about similar faces; similarity is no proof, so none of them is an error."""
  if skip_reason:
    yield Finding("faces", "note", f"not compared: {skip_reason}")
    return
  by_kind = collections.defaultdict(list)
  for pair in pairs:
    # One person under two names gives mostly similar image pairs, a chance similarity only a few.
    if pair["kind"] != "one_person" or 2 * pair["pairs"] > pair["of"]:
      by_kind[pair["kind"]].append(pair)
  for kind, what in (
    ("near_identical", "nearly identical images in training and test of a fold"),
    ("one_person", "faces of two subjects, or of training and test, that look like one person"),
  ):
    if found := by_kind[kind]:
      first = found[0]
      files = f"{first['first']} and {first['second']}"
      text = f"{what}: {_format_count(found)} (first: {files}, distance {first['distance']:.2f})"
      yield Finding("faces", "warning", text)
  if missing := by_kind["no_face"]:
    text = f"no face found in {_format_count(missing)} images, which were not compared"
    yield Finding("faces", "note", text)
  if not by_kind["near_identical"] and not by_kind["one_person"]:
    yield Finding("faces", "ok", "no similar faces in training and test")


def _format_count(pairs: list[FacePair]) -> str:
  return str(len(pairs)) if len(pairs) < MAX_FACE_ROWS else f"at least {MAX_FACE_ROWS}"


def _format_group(group: np.ndarray, index: ExampleIndex) -> str:
  names = [f"{index.split[i]} {index.file[i]} {index.label_names[index.label[i]]}" for i in group]
  return f"first: {' = '.join(names[:MAX_LISTED])}"


def _count_duplicate_files(report: pathlib.Path) -> int:
  with report.open(encoding="utf-8") as lines:
    return sum("same_content_as" in json.loads(line) for line in lines)
