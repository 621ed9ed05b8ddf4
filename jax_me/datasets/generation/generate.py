"""Generation of a dataset: runs tasks in worker processes and writes shards, index and report.

A build that is killed, interrupted or runs out of disk space resumes when it is started again: its
files stay in a folder `incomplete.<version>` beside the final folder, with a progress file of the
finished tasks. The result is byte-identical to that of a build without interruption.

TFDS's own writer is not used: above 1 GiB it needs TensorFlow, it shuffles, so that records would
not match the index, and it starts over after every interruption.
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
from jax_me.datasets.generation.example import ReportRow, TaskResult
from jax_me.datasets.generation.fingerprint import FINGERPRINT_FILE, build_fingerprint
from jax_me.datasets.generation.process_pool import map_in_processes
from jax_me.datasets.generation.progress_file import (
  PROGRESS_FILE,
  BuildProgress,
  new_progress,
  read_progress,
  write_progress,
)
from jax_me.datasets.generation.published_counts import CountRow, compare_counts, log_counts
from jax_me.datasets.generation.shard_writer import explain_full_disk
from jax_me.datasets.generation.split import Split
from jax_me.datasets.generation.split_files import SplitFiles
from jax_me.progress import Progress

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"
# At most this much work is lost when a build is killed.
SAVE_SECONDS = 5.0


def generate(dataset: FaceDataset) -> None:
  """Generates the dataset, or what is missing of it; its folder appears when it is complete.

  The caller holds the dataset's build lock.

  Raises:
    ValueError: no usable image, or an invalid example; nothing of the build is kept.
    OSError: the disk is full, or cannot be written. As after every other error, the finished tasks
      are kept for the next call.
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
      (target / PROGRESS_FILE).unlink()
  except BaseException as error:
    # A build with wrong files or options is not resumed: once corrected they are another build.
    if isinstance(error, ValueError) or not (folder / PROGRESS_FILE).exists():
      shutil.rmtree(folder, ignore_errors=True)
    else:
      logger.warning("dataset %s: stopped; the same command resumes the build", dataset.name)
    raise


def _open_build(dataset: FaceDataset, splits: dict[str, Split], folder: pathlib.Path) -> "_Build":
  """Resumes the build in the folder, or starts a new one."""
  listed = json.dumps([dataclasses.asdict(row) for row in dataset.listing_rows], default=str)
  plan = {
    "identity": build_fingerprint(type(dataset), dataset.config),
    "tasks": {name: len(split.tasks) for name, split in splits.items()},
    "listed": hashlib.sha256(listed.encode("utf-8", "replace")).hexdigest(),
  }
  try:
    progress = read_progress(folder, plan)
    if progress is not None:
      return _Build(dataset, splits, folder, progress)
  except (ValueError, KeyError, TypeError) as error:
    logger.warning(
      "dataset %s: the unfinished build in %s cannot be resumed: %s. Starting over",
      *(dataset.name, folder, error),
    )
  if folder.exists():
    shutil.rmtree(folder)
  folder.mkdir()
  for other in sorted(folder.parent.parent.glob("*/incomplete.*")):
    if other != folder:
      logger.info(
        "dataset %s: a build of other options or files is unfinished in %s; run its command again "
        "to resume it, or delete the folder",
        *(dataset.name, other),
      )
  build = _Build(dataset, splits, folder, new_progress(plan, tuple(splits)))
  for row in dataset.listing_rows:
    build.report.add(row)
  return build


class _Build:
  """A build in progress, with its open files and its progress file."""

  def __init__(
    self,
    dataset: FaceDataset,
    splits: dict[str, Split],
    folder: pathlib.Path,
    progress: BuildProgress,
  ):
    """Opens the files where `progress` ends; raises ValueError if they do not match it."""
    self._dataset, self._splits, self._folder, self._progress = dataset, splits, folder, progress
    self._saved_at = time.monotonic()
    self.report = BuildReport(folder, progress.report)
    self._files = {
      name: SplitFiles(folder, dataset, name, split) for name, split in progress.splits.items()
    }

  def close(self) -> None:
    """Closes the files."""
    self.report.close()
    for files in self._files.values():
      files.close()

  def run(self) -> None:
    """Runs the remaining tasks."""
    done, tasks = self._progress.tasks, sum(len(split.tasks) for split in self._splits.values())
    if done:
      logger.info(
        "dataset %s: continuing at task %d of %d in %s",
        *(self._dataset.name, min(done + 1, tasks), tasks, self._folder),
      )
    for name, split in self._splits.items():
      if self._progress.splits[name].tasks < len(split.tasks):
        self._run_split(name, split)

  def _run_split(self, name: str, split: Split) -> None:
    files, progress = self._files[name], self._progress.splits[name]
    left = len(split.tasks) - progress.tasks
    workers = min(self._dataset.config.workers, left // split.tasks_per_worker)
    todo = itertools.islice(split.tasks, progress.tasks, None)
    bar = Progress(f"{self._dataset.name} {name}", split.total, done=progress.examples)
    try:
      for result in map_in_processes(split.run, todo, workers=workers):
        self._store(files, result, bar)
        progress.tasks += 1
        # Shards end at the same tasks, whether or not the build was interrupted.
        if files.shards.is_full or progress.tasks == len(split.tasks):
          files.shards.finish_shard()
          self._save_progress()
        elif time.monotonic() - self._saved_at >= SAVE_SECONDS:
          self._save_progress()
    finally:
      bar.close()

  def _store(self, files: SplitFiles, result: TaskResult, bar: Progress) -> None:
    for row in result.rows:
      self.report.add(row, files.name)
    for label in result.found:
      files.progress.found[label] = files.progress.found.get(label, 0) + 1
    for example in result.examples:
      files.add(example)
      bar.advance()

  def _save_progress(self) -> None:
    """Syncs the data files, then writes the progress file."""
    self.report.sync()
    for files in self._files.values():
      files.sync()
    write_progress(self._folder, self._progress)
    for files in self._files.values():
      files.shards.remove_spools()
    self._saved_at = time.monotonic()

  def finish(self) -> None:
    """Writes the metadata and logs the problems."""
    dataset, progress = self._dataset, self._progress
    infos = [info for files in self._files.values() if (info := files.finish())]
    for name, split in progress.splits.items():
      if not split.examples:
        self.report.add(ReportRow(name, "empty_split"))
    if not infos:
      problems = self.report.problems() or "No file was listed."
      raise ValueError(f"dataset {dataset.name}: no usable image was found. {problems}")
    stored = {
      name: {label: split.stored.get(label, 0) for label in dataset.labels}
      for name, split in progress.splits.items()
    }
    found = {name: split.found for name, split in progress.splits.items()}
    known = compare_counts(dataset.known_counts(), found if any(found.values()) else stored, stored)
    classes: collections.Counter[str] = collections.Counter()
    for counts in stored.values():
      classes.update(counts)
    _write_json(self._folder / FINGERPRINT_FILE, build_fingerprint(type(dataset), dataset.config))
    _write_json(
      self._folder / SUMMARY_FILE,
      {
        "examples": {name: sum(counts.values()) for name, counts in stored.items()},
        "classes": {label: classes[label] for label in dataset.labels},
        "files": progress.report.statuses,
        "same_content": progress.report.same_content,
        "known_counts": known,
      },
    )
    dataset.info.set_splits(tfds.core.splits.SplitDict(infos))
    dataset.info.download_size = 0
    dataset.info.write_to_directory(self._folder)
    self._log(known)

  def _log(self, known: list[CountRow]) -> None:
    name = self._dataset.name
    if problems := self.report.problems():
      logger.warning("dataset %s: %s", name, problems)
    for split, pairs in self._progress.report.same_content.items():
      for earlier, number in pairs.items():
        logger.warning(
          "dataset %s: %d files of %s are duplicates of files in %s (same_content_as in the "
          "report); they are kept",
          *(name, number, split, earlier),
        )
    log_counts(name, known)


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
