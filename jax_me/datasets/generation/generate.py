"""Generation of a dataset: runs tasks in worker processes and writes shards, index and report.

A build that is killed, interrupted or runs out of disk space resumes when it is started again: its
finished shards stay in a folder `incomplete.<version>` beside the final folder. The result is
byte-identical to that of a build without interruption.

TFDS's own writer is not used: above 1 GiB it needs TensorFlow, it shuffles, so that records would
not match the index, and it starts over after every interruption.
"""

import collections
import contextlib
import dataclasses
import hashlib
import itertools
import json
import logging
import pathlib
import shutil
from typing import Any

import tensorflow_datasets as tfds

from jax_me.data.index import index_path
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.beam_shards import EXCHANGE_FOLDER, write_shards
from jax_me.datasets.generation.build_report import BuildReport, report_record
from jax_me.datasets.generation.checksums import CHECKSUMS, SUMMARY_FILE
from jax_me.datasets.generation.fingerprint import FINGERPRINT_FILE, build_fingerprint
from jax_me.datasets.generation.published_counts import compare_counts, log_counts
from jax_me.datasets.generation.shard_writer import SHARDS_FOLDER, SplitWriter, explain_full_disk
from jax_me.datasets.generation.source_files import ignored_links
from jax_me.datasets.generation.tasks import ReportRow, Split
from jax_me.manifest import MANIFEST_FILE, write_manifest
from jax_me.progress import Progress
from jax_me.worker_pool import map_in_processes

logger = logging.getLogger(__name__)

# What is being built, in the folder of the shards: shards of another build cannot be used.
PLAN_FILE = "plan.json"
# Increase it whenever the shards of older versions cannot be used.
PLAN_FORMAT = 2


def generate(dataset: FaceDataset) -> None:
  """Generates the dataset, or what is missing of it; its folder appears when it is complete.

  The caller holds the dataset's build lock.

  Raises:
    ValueError: no usable image, or an invalid example; nothing of the build is kept.
    OSError: the disk is full, or cannot be written. As after every other error, the finished shards
      are kept for the next call.
  """
  target = pathlib.Path(dataset.data_path)
  folder = target.parent / f"incomplete.{target.name}"
  _report_links(dataset)
  splits = dataset.splits()
  target.parent.mkdir(parents=True, exist_ok=True)
  try:
    with explain_full_disk(target.parent):
      writers = _open_build(dataset, splits, folder)
      if (runner := dataset.config.beam) is not None:
        shards, source = folder / SHARDS_FOLDER, dataset.config.manual_dir
        write_shards(runner, writers, splits, folder=shards, source=source)
        writers = [SplitWriter(folder, dataset, name) for name in splits]
      for writer in writers:
        _run_split(dataset, writer, splits[writer.name])
      _finish(dataset, writers, folder)
      folder.rename(target)
      shutil.rmtree(target / SHARDS_FOLDER)
  except BaseException as error:
    # A build with wrong files or options is not resumed: once corrected they are another build.
    patterns = ("*-?????.json", f"{EXCHANGE_FOLDER}/*/*.json")
    kept = any(any((folder / SHARDS_FOLDER).glob(pattern)) for pattern in patterns)
    if isinstance(error, ValueError) or not kept:
      shutil.rmtree(folder, ignore_errors=True)
    else:
      logger.warning("dataset %s: stopped; the same command resumes the build", dataset.name)
    raise


def _report_links(dataset: FaceDataset) -> None:
  """Adds a report row for each link that is not followed."""
  if (folder := dataset.config.manual_dir) is None:
    return
  links = ignored_links(folder)
  for name in links:
    dataset.report(name, "outside_link", "it leaves the folder; --follow-links follows it")
  if links:
    logger.warning(
      "dataset %s: %d links in %s leave the folder (first: %s) and are not followed; give "
      "--follow-links (data.follow_links=True in a recipe) if you trust them",
      *(dataset.name, len(links), folder, links[0]),
    )


def _open_build(
  dataset: FaceDataset, splits: dict[str, Split], folder: pathlib.Path
) -> list[SplitWriter]:
  """Resumes the build in the folder, or starts a new one."""
  listed = json.dumps([dataclasses.asdict(row) for row in dataset.listing_rows], default=str)
  plan: dict[str, Any] = {
    "format": PLAN_FORMAT,
    "identity": build_fingerprint(type(dataset), dataset.config),
    "tasks": {name: len(split.tasks) for name, split in splits.items()},
    "listed": hashlib.sha256(listed.encode("utf-8", "replace")).hexdigest(),
  }
  plan_file = folder / SHARDS_FOLDER / PLAN_FILE
  if folder.exists():
    try:
      if not plan_file.is_file() or json.loads(plan_file.read_bytes()) != plan:
        raise ValueError("it was started by another version of the program, or from other files")
      writers = [SplitWriter(folder, dataset, name) for name in splits]
    except (ValueError, KeyError, TypeError) as error:
      logger.warning(
        "dataset %s: the unfinished build in %s cannot be resumed: %s. Starting over",
        *(dataset.name, folder, error),
      )
      shutil.rmtree(folder)
    else:
      if done := sum(writer.tasks for writer in writers):
        tasks = sum(plan["tasks"].values())
        logger.info(
          "dataset %s: continuing at task %d of %d in %s",
          *(dataset.name, min(done + 1, tasks), tasks, folder),
        )
      return writers
  plan_file.parent.mkdir(parents=True)
  _write_json(plan_file, plan)
  for other in sorted(folder.parent.parent.glob("*/incomplete.*")):
    if other != folder:
      logger.info(
        "dataset %s: a build of other options or files is unfinished in %s; run its command again "
        "to resume it, or delete the folder",
        *(dataset.name, other),
      )
  return [SplitWriter(folder, dataset, name) for name in splits]


def _run_split(dataset: FaceDataset, writer: SplitWriter, split: Split) -> None:
  """Runs the tasks of a split that are not in its finished shards."""
  left = len(split.tasks) - writer.tasks
  if not left:
    return
  workers = min(dataset.config.workers, left // split.tasks_per_worker)
  todo = itertools.islice(split.tasks, writer.tasks, None)
  bar = Progress(f"{dataset.name} {writer.name}", split.total, done=writer.examples)
  try:
    with contextlib.closing(map_in_processes(split.run, todo, workers=workers)) as results:
      for result in results:
        writer.add(result)
        bar.advance(len(result.examples))
        if writer.is_full:
          writer.finish_shard()
    writer.finish_shard()
  finally:
    bar.close()


def _finish(dataset: FaceDataset, writers: list[SplitWriter], folder: pathlib.Path) -> None:
  """Writes report, index and metadata from the descriptions of the shards; logs the problems."""
  infos = []
  found: dict[str, collections.Counter[str]] = {}
  stored: dict[str, dict[str, int]] = {}
  with contextlib.closing(BuildReport(folder)) as report:
    for row in dataset.listing_rows:
      report.add(report_record(row))
    for writer in writers:
      found[writer.name], codes = collections.Counter(), collections.Counter[int]()
      lengths, num_bytes = [], 0
      with index_path(folder, writer.name).open("wb") as index:
        for shard in writer.shards():
          for record in shard.report:
            report.add(record)
          for example in shard.index:
            index.write(json.dumps(example, ensure_ascii=False).encode() + b"\n")
          codes.update(example["label"] for example in shard.index)
          found[writer.name].update(shard.found)
          lengths += [len(shard.index)] if shard.index else []
          num_bytes += shard.num_bytes
      stored[writer.name] = {label: codes[code] for code, label in enumerate(dataset.labels)}
      if lengths:
        infos.append(writer.give_final_names(lengths, num_bytes))
      else:
        index_path(folder, writer.name).unlink()
    for name, counts in stored.items():
      if not any(counts.values()):
        report.add(report_record(ReportRow(name, "empty_split")))
  if not infos:
    problems = report.problems() or "No file was listed."
    raise ValueError(f"dataset {dataset.name}: no usable image was found. {problems}")
  known = compare_counts(dataset.known_counts(), found if any(found.values()) else stored, stored)
  _write_json(folder / FINGERPRINT_FILE, build_fingerprint(type(dataset), dataset.config))
  _write_json(
    folder / SUMMARY_FILE,
    {
      "examples": {name: sum(counts.values()) for name, counts in stored.items()},
      "classes": {
        label: sum(counts[label] for counts in stored.values()) for label in dataset.labels
      },
      "files": report.statuses,
      "same_content": report.same_content,
      "known_counts": known,
      CHECKSUMS: MANIFEST_FILE,
    },
  )
  dataset.info.set_splits(tfds.core.splits.SplitDict(infos))
  dataset.info.download_size = 0
  dataset.info.write_to_directory(folder)
  write_manifest(folder, *(path.name for path in folder.iterdir() if path.is_file()))
  if problems := report.problems():
    logger.warning("dataset %s: %s", dataset.name, problems)
  for split, pairs in report.same_content.items():
    for earlier, number in pairs.items():
      logger.warning(
        "dataset %s: %d files of %s are duplicates of files in %s (same_content_as in the "
        "report); they are kept",
        *(dataset.name, number, split, earlier),
      )
  log_counts(dataset.name, known)


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
