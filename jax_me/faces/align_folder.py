"""Face alignment of a whole folder of photographs or clips, in parallel, with a report."""

import contextlib
import dataclasses
import functools
import itertools
import json
import os
import pathlib
import shutil
from collections.abc import Generator
from typing import Any

from jax_me.beam.beam_runner import BeamRunner
from jax_me.beam.exchange_files import remove_folder
from jax_me.cpu_cores import available_cores
from jax_me.faces import alignment, alignment_task, image_files, input_files
from jax_me.faces import detector as face_detector
from jax_me.faces.alignment_report import AlignmentReport, ReportRow
from jax_me.faces.alignment_task import AlignmentSettings, OutputError
from jax_me.faces.beam_alignment import align_on_beam, exchange_folder
from jax_me.files import exclusive_lock, write_atomically
from jax_me.progress import Progress
from jax_me.worker_pool import map_in_processes

SUMMARY_NAME = "summary.json"

# Statuses that count as failures; on_no_face="error" adds "no_face".
FAILURES = frozenset({"unreadable", "failed", "size_mismatch"})

# The content of summary.json.
Summary = dict[str, Any]


def align_folder(
  input: str | os.PathLike,
  output: str | os.PathLike,
  *,
  size: int = 224,
  workers: int | None = None,
  on_no_face: str = "skip",
  clips: bool = False,
  image_format: str = "png",
  detector: str | None = None,
  follow_links: bool = False,
  quiet: bool = False,
  beam: BeamRunner | None = None,
) -> Summary:
  """Aligns all images below a folder into a mirrored output folder, with a report row per file.

  The output holds the aligned images under the names given by `input_files.output_names`,
  report.jsonl (sorted by file) and summary.json. After a killed run the same call resumes: files
  that have a row and a result and are unchanged are skipped, unreadable files are tried again, and
  a clip with an unfinished frame is aligned again as a whole. Results whose source file is gone
  are deleted.

  A report row has: file; status ("ok", "several_faces", "no_face", "centered", "unreadable",
  "failed", "size_mismatch", "not_an_image", "outside_link"); output (relative to the output
  folder, or None);
  reason (of a failure, or None); faces, box, landmarks, transform and in clips reference (see
  `alignment.AlignedFace`); bytes and modified (ns) of the source file; and where there is an
  output its pixels, pixel_sum and pixel_square_sum per RGB channel (see
  `alignment_report.pixel_statistics`).

  Args:
    input: folder with images at any depth. Other files get the status "not_an_image".
    output: output folder, created if missing. It may be inside `input` and is then skipped.
    size: side of the aligned faces in pixels, in [16, 4096].
    workers: number of processes; None uses one per core, 1 runs in this process only.
    on_no_face: treatment of an image (or clip) without a face: "skip" (no output), "center"
      (the centred square) or "error" (no output, counted as failed).
    clips: whether the numbered images of a folder are frames of one clip with one transform.
    image_format: "png" (lossless) or "jpg".
    detector: one of `detector.DETECTORS`; None takes that of the earlier run in this output folder,
      or else the default.
    follow_links: whether links that leave `input` are read; else their status is "outside_link".
    quiet: show no progress.
    beam: runner of Apache Beam that aligns the images, instead of processes of this machine.

  Returns:
    The summary: {"complete", "files", "counts", "failed", "mean", "std", "settings", "notice"};
    mean and std are per RGB channel, of the aligned images in [0, 1], or None.

  Raises:
    ValueError: bad settings, no files, invalid folders, or an output folder with other content or
      made with other settings (only on_no_face may change).
    OutputError: the output cannot be written, or another run is writing to it.
    PipelineFailed: the runner gave up.
  """
  alignment.check_settings(size, on_no_face)
  if image_format not in image_files.ENCODINGS:
    raise ValueError(f"image_format must be 'png' or 'jpg', got {image_format!r}")
  workers = available_cores() if workers is None else workers
  if workers < 1:
    raise ValueError(f"workers must be at least 1, got {workers}")
  if detector is not None:
    face_detector.check_detector(detector)
  face_detector.landmark_model_path()
  source, target = _resolve_folders(pathlib.Path(input), pathlib.Path(output))
  try:
    files = input_files.list_files(source, without=target, follow_links=follow_links)
  except OSError as error:
    raise ValueError(f"cannot list {error.filename}: {error.strerror}") from error
  if not files:
    raise ValueError(f"there are no files in {source}")
  detector = detector or _earlier_detector(target)
  settings = AlignmentSettings(
    str(source), str(target), size, clips, image_format, on_no_face, detector
  )

  def refuse() -> None:
    raise OutputError(f"another run is writing to {target}; wait for it to end")

  try:
    target.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(target, refuse):
      return _align_files(files, settings, workers, quiet, beam)
  except OSError as error:
    raise OutputError(f"cannot write {error.filename or target}: {error.strerror}") from error


def _resolve_folders(
  source: pathlib.Path, target: pathlib.Path
) -> tuple[pathlib.Path, pathlib.Path]:
  source, target = source.expanduser().resolve(), target.expanduser().resolve()
  if not source.exists():
    raise ValueError(f"the input folder {source} does not exist")
  if not source.is_dir():
    raise ValueError(f"the input {source} is a file; give the folder that holds the images")
  if source == target:
    raise ValueError(f"input and output are both {source}; choose another output folder")
  if target in source.parents:
    raise ValueError(
      f"the input {source} is inside the output {target}, where results could overwrite it; "
      "choose another output folder"
    )
  if target.exists() and not target.is_dir():
    raise ValueError(f"the output {target} is a file; choose a folder")
  return source, target


def _align_files(
  files: list[input_files.SourceFile],
  settings: AlignmentSettings,
  workers: int,
  quiet: bool,
  beam: BeamRunner | None,
) -> Summary:
  target = pathlib.Path(settings.output)
  recorded = dataclasses.asdict(settings)
  del recorded["output"]
  earlier = _read_earlier_settings(target, recorded)
  shutil.rmtree(settings.scratch, ignore_errors=True)
  settings.scratch.mkdir()
  header = {"settings": recorded, "notice": face_detector.LICENSE_NOTICE}
  _write_summary(target, {"complete": False, **header}, settings.scratch)
  with contextlib.closing(AlignmentReport(target)) as report:
    tasks = input_files.make_tasks(files, clips=settings.clips, image_format=settings.image_format)
    redo_faceless = earlier is not None and earlier["on_no_face"] != settings.on_no_face
    tasks = _unfinished_tasks(report, files, tasks, target, redo_faceless=redo_faceless)
    sources = {file.name: file for file in files}
    total = sum(file.is_image for file in files)
    done = total - sum(len(task.names) for task in tasks)
    progress = Progress("faces", total, done=done, quiet=quiet)
    for file in files:
      if not file.is_image and file.name not in report:
        status = "outside_link" if file.leaves else "not_an_image"
        row = alignment_task.make_empty_row(file.name, status)
        report.append(_add_source(row, file))
    if beam is not None:
      rows = align_on_beam(beam, tasks, sources, settings)
    else:
      rows = _align_in_processes(tasks, settings, workers)
    try:
      with contextlib.closing(rows):
        for row in rows:
          report.append(_add_source(row, sources[row["file"]]))
          progress.advance()
    finally:
      progress.close()
      shutil.rmtree(settings.scratch, ignore_errors=True)
    result = report.finish(files)
  remove_folder(exchange_folder(settings, beam))
  failures = FAILURES | ({"no_face"} if settings.on_no_face == "error" else set())
  failed = sum(number for status, number in result["counts"].items() if status in failures)
  summary = {"complete": True, "failed": failed, **result, **header}
  _write_summary(target, summary, target)
  return summary


def _align_in_processes(
  tasks: list[input_files.AlignmentTask], settings: AlignmentSettings, workers: int
) -> Generator[ReportRow]:
  results = map_in_processes(
    functools.partial(alignment_task.run_task, settings=settings),
    tasks,
    workers=workers,
    ordered=False,
    on_death=alignment_task.failed_rows,
  )
  with contextlib.closing(results):
    yield from itertools.chain.from_iterable(results)


def _add_source(row: ReportRow, file: input_files.SourceFile) -> ReportRow:
  return {**row, "bytes": file.bytes, "modified": file.modified}


def _write_summary(target: pathlib.Path, summary: Summary, scratch: pathlib.Path) -> None:
  data = json.dumps(summary, indent=2).encode() + b"\n"
  write_atomically(target / SUMMARY_NAME, data, scratch=scratch)


def _read_earlier_settings(target: pathlib.Path, settings: dict[str, Any]) -> dict[str, Any] | None:
  """The settings of the earlier run in this output folder; None for a new folder."""
  path = target / SUMMARY_NAME
  if not path.exists():
    if foreign := sorted(name for name in os.listdir(target) if not name.startswith(".")):
      raise ValueError(
        f"the output {target} is not empty and was not made by this command (it holds "
        f"{foreign[0]}); choose another folder"
      )
    return None
  try:
    # Version 0.1 had no setting for the detector.
    earlier = {
      "detector": face_detector.EARLIER_DETECTOR,
      **json.loads(path.read_text())["settings"],
    }
    differing = [
      name for name in settings if name != "on_no_face" and settings[name] != earlier[name]
    ]
    earlier["on_no_face"]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} was not made by this command; choose another folder") from error
  if differing:
    raise ValueError(
      f"the output {target} was made with "
      + ", ".join(f"{name} {earlier[name]} (now {settings[name]})" for name in differing)
      + "; choose another folder, give the earlier settings, or delete this one to start again"
    )
  return earlier


def _earlier_detector(target: pathlib.Path) -> str:
  """The detector of an earlier run in this output folder, or else the default."""
  try:
    settings = json.loads((target / SUMMARY_NAME).read_text())["settings"]
    return settings.get("detector", face_detector.EARLIER_DETECTOR)
  except (OSError, ValueError, KeyError, TypeError, AttributeError):
    return face_detector.DEFAULT_DETECTOR


def _unfinished_tasks(
  report: AlignmentReport,
  files: list[input_files.SourceFile],
  tasks: list[input_files.AlignmentTask],
  target: pathlib.Path,
  *,
  redo_faceless: bool,
) -> list[input_files.AlignmentTask]:
  """The tasks still to do. Outdated rows are dropped and their results deleted."""
  sources = {file.name: file for file in files}
  outputs = {
    name: output for task in tasks for name, output in zip(task.names, task.outputs, strict=True)
  }

  def is_valid(row: ReportRow) -> bool:
    file = sources.get(row["file"])
    if file is None or (row["bytes"], row["modified"]) != (file.bytes, file.modified):
      return False
    if row["status"] == "not_an_image":
      return not file.is_image
    # Errors of permission or memory may not occur again.
    if row["status"] in ("unreadable", "failed"):
      return False
    if redo_faceless and row["status"] in ("no_face", "centered"):
      return False
    if row["output"] is None:
      return file.is_image
    return row["output"] == outputs.get(file.name) and (target / row["output"]).is_file()

  outdated, finished = [], set()
  for row in report.rows():
    if is_valid(row):
      finished.add(row["file"])
    else:
      outdated.append(row)
  for row in outdated:
    if row["output"] is not None:
      (target / row["output"]).unlink(missing_ok=True)
    report.drop(row["file"])
  return [task for task in tasks if not finished.issuperset(task.names)]
