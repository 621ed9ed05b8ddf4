"""A whole folder of photographs or clips -> aligned faces, in parallel, with a report."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator

from jax_me.cpu_cores import available_cores
from jax_me.faces import alignment, detector, input_files, process_files, worker_pool
from jax_me.faces.alignment_report import Report
from jax_me.faces.process_files import OutputError
from jax_me.files import write_atomically
from jax_me.progress import Progress

SUMMARY_NAME = "summary.json"
SCRATCH_NAME = ".faces-partial"

# Statuses that mean that something went wrong; "no_face" joins them under on_no_face="error".
FAILURES = frozenset({"unreadable", "failed", "size_mismatch"})


def align_folder(
  input: str | os.PathLike,
  output: str | os.PathLike,
  *,
  size: int = 224,
  workers: int | None = None,
  on_no_face: str = "skip",
  clips: bool = False,
  image_format: str = "png",
  quiet: bool = False,
) -> dict:
  """Aligns all pictures below a folder and mirrors them to another, with a row for every file.

  The output holds the aligned pictures under the names that `listing.output_names` states,
  report.jsonl (sorted by file) and summary.json. When a run was killed, the same call goes on:
  files that have their row and their result and have not changed since are not done again. What
  could not be read is tried again, and a clip with a frame to do is done again whole. Results of
  sources that are gone are deleted.

  A row: file; status ("ok", "several_faces", "no_face", "centered", "unreadable", "failed",
  "size_mismatch", "not_an_image"); output (relative to the output folder, or None); reason (why it
  went wrong, or None); faces, box, landmarks, transform and in clips reference (see
  `alignment.Aligned`); bytes and modified (ns) of the source; and where there is an output its
  pixels, pixel_sum and pixel_square_sum per RGB channel (see `report.pixel_statistics`).

  Args:
    input: folder with pictures at any depth. Other files get the status "not_an_image".
    output: folder to write; made if missing. May lie inside input, and is then passed over.
    size: side of the aligned faces in pixels.
    workers: processes; None for one per core, 1 for none but this.
    on_no_face: what becomes of a picture (or clip) without a face: "skip" (no output), "center"
      (the centred square) or "error" (no output, and it counts as failed).
    clips: whether the numbered pictures of a folder are frames of one clip sharing one transform.
    image_format: "png" (lossless) or "jpg".
    quiet: show no progress.

  Returns:
    The summary: {"complete", "files", "counts", "failed", "mean", "std", "settings", "notice"};
    mean and std are per RGB channel, of the aligned pictures in [0, 1], or None.

  Raises:
    ValueError: bad settings, no files, folders that must not be combined, or an output that holds
      something else or was made with other settings (only on_no_face may change).
    OutputError: the output cannot be written, or another run is writing to it.
  """
  alignment.check_settings(size, on_no_face)
  if image_format not in ("png", "jpg"):
    raise ValueError(f"image_format must be 'png' or 'jpg', got {image_format!r}")
  workers = available_cores() if workers is None else workers
  if workers < 1:
    raise ValueError(f"workers must be at least 1, got {workers}")
  detector.landmark_model_path()
  source, target = _check_folders(pathlib.Path(input), pathlib.Path(output))
  try:
    files = input_files.list_files(source, without=target)
  except OSError as error:
    raise ValueError(f"cannot list {error.filename}: {error.strerror}") from error
  if not files:
    raise ValueError(f"there are no files in {source}")
  settings = {
    "input": str(source),
    "size": size,
    "clips": clips,
    "image_format": image_format,
    "on_no_face": on_no_face,
  }
  try:
    target.mkdir(parents=True, exist_ok=True)
    with _sole_use(target):
      return _align(files, source, target, settings, workers, quiet)
  except OSError as error:
    raise OutputError(f"cannot write {error.filename or target}: {error.strerror}") from error


def _check_folders(source: pathlib.Path, target: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  source, target = source.expanduser().resolve(), target.expanduser().resolve()
  if not source.exists():
    raise ValueError(f"the input folder {source} does not exist")
  if not source.is_dir():
    raise ValueError(f"the input {source} is a file; give the folder that holds the pictures")
  if source == target:
    raise ValueError(f"input and output are both {source}; choose another output folder")
  if target in source.parents:
    raise ValueError(
      f"the input {source} lies inside the output {target}, where results could overwrite it; "
      "choose another output folder"
    )
  if target.exists() and not target.is_dir():
    raise ValueError(f"the output {target} is a file; choose a folder")
  return source, target


@contextlib.contextmanager
def _sole_use(folder: pathlib.Path) -> Iterator[None]:
  """Keeps a second run from writing to the same folder; the lock dies with the process."""
  try:
    import fcntl
  except ImportError:  # Windows has no such lock
    yield
    return
  handle = os.open(folder, os.O_RDONLY)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise OutputError(f"another run is writing to {folder}; wait for it to end") from error
    except OSError:  # a file system without locks
      pass
    yield
  finally:
    os.close(handle)


def _align(
  files: list[input_files.SourceFile],
  source: pathlib.Path,
  target: pathlib.Path,
  settings: dict,
  workers: int,
  quiet: bool,
) -> dict:
  earlier = _earlier_settings(target, settings)
  scratch = target / SCRATCH_NAME
  shutil.rmtree(scratch, ignore_errors=True)
  scratch.mkdir()
  about = {"settings": settings, "notice": detector.LICENSE_NOTICE}
  _write_summary(target, {"complete": False, **about}, scratch)
  with contextlib.closing(Report(target)) as report:
    work = input_files.make_tasks(
      files, clips=settings["clips"], image_format=settings["image_format"]
    )
    redo_faceless = earlier is not None and earlier["on_no_face"] != settings["on_no_face"]
    work = _unfinished(report, files, work, target, redo_faceless=redo_faceless)
    sources = {file.name: file for file in files}
    total = sum(file.is_image for file in files)
    done = total - sum(len(task.names) for task in work)
    progress = Progress("faces", total, done=done, quiet=quiet)
    for file in files:
      if not file.is_image and file.name not in report:
        report.append(_with_source(process_files.empty_row(file.name, "not_an_image"), file))
    task_settings = process_files.Settings(
      input=str(source),
      output=str(target),
      scratch=str(scratch),
      size=settings["size"],
      center=settings["on_no_face"] == "center",
      image_format=settings["image_format"],
    )
    try:
      with contextlib.closing(worker_pool.run_tasks(work, task_settings, workers=workers)) as rows:
        for row in rows:
          report.append(_with_source(row, sources[row["file"]]))
          progress.advance()
    finally:
      progress.close()
      shutil.rmtree(scratch, ignore_errors=True)
    result = report.finish(files)
  failures = FAILURES | ({"no_face"} if settings["on_no_face"] == "error" else set())
  failed = sum(number for status, number in result["counts"].items() if status in failures)
  summary = {"complete": True, "failed": failed, **result, **about}
  _write_summary(target, summary, target)
  return summary


def _with_source(row: dict, file: input_files.SourceFile) -> dict:
  return {**row, "bytes": file.bytes, "modified": file.modified}


def _write_summary(target: pathlib.Path, summary: dict, scratch: pathlib.Path) -> None:
  data = json.dumps(summary, indent=2).encode() + b"\n"
  write_atomically(target / SUMMARY_NAME, data, scratch=scratch)


def _earlier_settings(target: pathlib.Path, settings: dict) -> dict | None:
  """The settings of the run that began this output folder; None for a fresh one."""
  path = target / SUMMARY_NAME
  if not path.exists():
    if strangers := sorted(name for name in os.listdir(target) if not name.startswith(".")):
      raise ValueError(
        f"the output {target} is not empty and was not made by this command (it holds "
        f"{strangers[0]}); choose another folder"
      )
    return None
  try:
    earlier = json.loads(path.read_text())["settings"]
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
      + "; choose another folder, or delete this one to start afresh"
    )
  return earlier


def _unfinished(
  report: Report,
  files: list[input_files.SourceFile],
  work: list[input_files.Task],
  target: pathlib.Path,
  *,
  redo_faceless: bool,
) -> list[input_files.Task]:
  """The tasks still to do. Rows that no longer hold are dropped, and their results deleted."""
  sources = {file.name: file for file in files}
  outputs = {name: out for task in work for name, out in zip(task.names, task.outputs, strict=True)}

  def holds(row: dict) -> bool:
    file = sources.get(row["file"])
    if file is None or (row["bytes"], row["modified"]) != (file.bytes, file.modified):
      return False
    if row["status"] == "not_an_image":
      return not file.is_image
    if row["status"] in ("unreadable", "failed"):  # permission, memory: it may go well this time
      return False
    if redo_faceless and row["status"] in ("no_face", "centered"):
      return False
    if row["output"] is None:
      return file.is_image
    return row["output"] == outputs.get(file.name) and (target / row["output"]).is_file()

  stale, finished = [], set()
  for row in report.rows():
    if holds(row):
      finished.add(row["file"])
    else:
      stale.append(row)
  for row in stale:
    if row["output"] is not None:
      (target / row["output"]).unlink(missing_ok=True)
    report.drop(row["file"])
  return [task for task in work if not finished.issuperset(task.names)]
