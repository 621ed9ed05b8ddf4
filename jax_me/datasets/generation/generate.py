"""Generates a dataset: tasks in worker processes, their results into shards, index and report.

A build that is killed, interrupted or runs out of disk goes on when it is begun again: its files
stay in a folder `incomplete.<version>` beside the place of the finished dataset, with a journal of
the tasks that are done. The result is, byte for byte, that of a build without interruption.

TFDS's own writer is not used: above 1 GiB it needs TensorFlow, it shuffles, which would part the
records from the index beside them, and it begins anew after every interruption.
"""

import collections
import dataclasses
import hashlib
import itertools
import json
import logging
import pathlib
import shutil
import time
from typing import Any

import tensorflow_datasets as tfds

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.build_report import BuildReport
from jax_me.datasets.generation.example import Outcome, Row
from jax_me.datasets.generation.fingerprint import IDENTITY_FILE, identity
from jax_me.datasets.generation.process_pool import map_in_processes
from jax_me.datasets.generation.progress_file import (
  JOURNAL_FILE,
  Journal,
  new_journal,
  read_journal,
  write_journal,
)
from jax_me.datasets.generation.published_counts import compare_counts, log_counts
from jax_me.datasets.generation.shard_writer import explain_full_disk
from jax_me.datasets.generation.split import Split
from jax_me.datasets.generation.split_files import SplitFiles
from jax_me.progress import Progress

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
# So much work at most is lost when a build is killed.
JOURNAL_SECONDS = 5.0


def generate(dataset: FaceDataset) -> None:
  """Generates the dataset, or what is missing of it; its folder appears when all is there.

  The caller holds the dataset's build lock.

  Raises:
    ValueError: nothing usable, or an unusable example; nothing of the build is kept.
    OSError: the disk is full, or cannot be written. What is finished is kept for the next call, as
      after every other error.
  """
  target = pathlib.Path(dataset.data_path)
  folder = target.parent / f"incomplete.{target.name}"
  splits = dataset.splits()
  target.parent.mkdir(parents=True, exist_ok=True)
  try:
    with explain_full_disk(target.parent):
      build = _open_build(dataset, splits, folder)
      try:
        build.run()
        build.finish()
      finally:
        build.close()
      folder.rename(target)
      (target / JOURNAL_FILE).unlink()
  except BaseException as error:
    # Wrong files or options cannot be gone on with: once changed they make another dataset.
    if isinstance(error, ValueError) or not (folder / JOURNAL_FILE).exists():
      shutil.rmtree(folder, ignore_errors=True)
    else:
      logger.warning("dataset %s: stopped; the same command continues there", dataset.name)
    raise


def _open_build(dataset: FaceDataset, splits: dict[str, Split], folder: pathlib.Path) -> "_Build":
  """The build that lies in the folder; a new one where none can be continued."""
  listed = json.dumps([dataclasses.asdict(row) for row in dataset.listed], default=str)
  plan = {
    "identity": identity(type(dataset), dataset.config),
    "tasks": {name: len(split.tasks) for name, split in splits.items()},
    "listed": hashlib.sha256(listed.encode("utf-8", "replace")).hexdigest(),
  }
  try:
    journal = read_journal(folder, plan)
    if journal is not None:
      return _Build(dataset, splits, folder, journal)
  except (ValueError, KeyError, TypeError) as error:
    logger.warning(
      "dataset %s: what an earlier build left in %s cannot be continued: %s. Starting anew",
      *(dataset.name, folder, error),
    )
  if folder.exists():
    shutil.rmtree(folder)
  folder.mkdir()
  for other in sorted(folder.parent.parent.glob("*/incomplete.*")):
    if other != folder:
      logger.info(
        "dataset %s: a build of other options or files is unfinished in %s; its command continues "
        "it, or delete it",
        *(dataset.name, other),
      )
  build = _Build(dataset, splits, folder, new_journal(plan, tuple(splits)))
  for row in dataset.listed:
    build.report.add(row)
  return build


class _Build:
  """A build under way: its files, open, and its journal."""

  def __init__(
    self,
    dataset: FaceDataset,
    splits: dict[str, Split],
    folder: pathlib.Path,
    journal: Journal,
  ):
    """Opens the files where the journal ends; ValueError where they are not as it says."""
    self._dataset, self._splits, self._folder, self._journal = dataset, splits, folder, journal
    self._journalled = time.monotonic()
    self.report = BuildReport(folder, journal.report)
    self._files = {
      name: SplitFiles(folder, dataset, name, progress) for name, progress in journal.splits.items()
    }

  def close(self) -> None:
    """Closes the files as they are."""
    self.report.close()
    for files in self._files.values():
      files.close()

  def run(self) -> None:
    """Runs the tasks that are not done yet."""
    done, tasks = self._journal.tasks, sum(len(split.tasks) for split in self._splits.values())
    if done:
      logger.info(
        "dataset %s: continuing at task %d of %d in %s",
        *(self._dataset.name, min(done + 1, tasks), tasks, self._folder),
      )
    for name, split in self._splits.items():
      if self._journal.splits[name].tasks < len(split.tasks):
        self._run_split(name, split)

  def _run_split(self, name: str, split: Split) -> None:
    files, progress = self._files[name], self._journal.splits[name]
    left = len(split.tasks) - progress.tasks
    workers = min(self._dataset.config.workers, left // split.tasks_per_worker)
    todo = itertools.islice(split.tasks, progress.tasks, None)
    bar = Progress(f"{self._dataset.name} {name}", split.total, done=progress.examples)
    try:
      for outcome in map_in_processes(split.run, todo, workers=workers):
        self._store(files, outcome, bar)
        progress.tasks += 1
        # Shards end at the same tasks whether or not the build was interrupted.
        if files.shards.is_full or progress.tasks == len(split.tasks):
          files.shards.seal()
          self._write_journal()
        elif time.monotonic() - self._journalled >= JOURNAL_SECONDS:
          self._write_journal()
    finally:
      bar.close()

  def _store(self, files: SplitFiles, outcome: Outcome, bar: Progress) -> None:
    for row in outcome.rows:
      self.report.add(row, files.name)
    for label in outcome.found:
      files.progress.found[label] = files.progress.found.get(label, 0) + 1
    for example in outcome.examples:
      files.add(example)
      bar.advance()

  def _write_journal(self) -> None:
    """Brings the work to the disk, then says so."""
    self.report.sync()
    for files in self._files.values():
      files.sync()
    write_journal(self._folder, self._journal)
    for files in self._files.values():
      files.shards.remove_spools()
    self._journalled = time.monotonic()

  def finish(self) -> None:
    """Writes what stands beside the records, and tells what was odd."""
    dataset, journal = self._dataset, self._journal
    infos = [info for files in self._files.values() if (info := files.finish())]
    for name, progress in journal.splits.items():
      if not progress.examples:
        self.report.add(Row(name, "empty_split"))
    if not infos:
      problems = self.report.problems() or "No file was listed."
      raise ValueError(f"dataset {dataset.name}: no usable image was found. {problems}")
    stored = {
      name: {label: progress.stored.get(label, 0) for label in dataset.labels}
      for name, progress in journal.splits.items()
    }
    found = {name: progress.found for name, progress in journal.splits.items()}
    known = compare_counts(dataset.known_counts(), found if any(found.values()) else stored, stored)
    classes: collections.Counter[str] = collections.Counter()
    for counts in stored.values():
      classes.update(counts)
    _write_json(self._folder / IDENTITY_FILE, identity(type(dataset), dataset.config))
    _write_json(
      self._folder / SUMMARY_FILE,
      {
        "examples": {name: sum(counts.values()) for name, counts in stored.items()},
        "classes": {label: classes[label] for label in dataset.labels},
        "files": journal.report.statuses,
        "same_content": journal.report.same_content,
        "known_counts": known,
      },
    )
    dataset.info.set_splits(tfds.core.splits.SplitDict(infos))
    dataset.info.download_size = 0
    dataset.info.write_to_directory(self._folder)
    self._log(known)

  def _log(self, known: list[dict[str, Any]]) -> None:
    name = self._dataset.name
    if problems := self.report.problems():
      logger.warning("dataset %s: %s", name, problems)
    for split, pairs in self._journal.report.same_content.items():
      for earlier, number in pairs.items():
        logger.warning(
          "dataset %s: %d files of %s have the bytes of another in %s (same_content_as in the "
          "report); they are kept",
          *(name, number, split, earlier),
        )
    log_counts(name, known)


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
