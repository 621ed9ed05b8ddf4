"""Folder of a run: the lock that only one process holds, and the checksums of finished results.

`results.json` lists the finished files: predictions, metrics, reports; in the output folders of
`predict` and `study` their tables, figures and reports. A file that it does not list
is not finished; a listed one that differs is damaged. Runs of version 0.1 have no such list.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from jax_me.files import exclusive_lock
from jax_me.manifest import (
  DamagedFolder,
  FileEntry,
  describe_files,
  is_below,
  read_manifest,
  store_manifest,
  verify_manifest,
)

LOCK_FILE = ".lock"
RESULTS_FILE = "results.json"
# What a run of version 0.1 leaves; listed when something is written to it again.
_EARLIER = ("predictions.csv", "metrics.jsonl", "report.html", "report.md", "report")


class RunFolderError(ValueError):
  """A folder that another process uses, or whose results are damaged; the message has a remedy."""


@contextlib.contextmanager
def lock_run(folder: str | os.PathLike[str]) -> Iterator[None]:
  """Holds the folder of a run, which is created; a killed process frees it.

  A new folder in which nothing was written is removed.

  Args:
    folder: of the run.

  Yields:
    nothing.

  Raises:
    RunFolderError: another process holds it.
    OSError: the folder cannot be written.
  """
  root = pathlib.Path(folder)
  is_new = not root.exists()
  root.mkdir(parents=True, exist_ok=True)

  def refuse() -> None:
    raise RunFolderError(
      f"{root} is in use by another process; wait for it to end, or use another --workdir"
    )

  with exclusive_lock(root / LOCK_FILE, refuse):
    try:
      yield
    finally:
      # A command that was refused leaves nothing behind.
      if is_new and [path.name for path in root.iterdir()] == [LOCK_FILE]:
        (root / LOCK_FILE).unlink()
        root.rmdir()


def start_results(folder: str | os.PathLike[str]) -> None:
  """Declares that no result of the folder is finished; a list of results exists from now on."""
  store_manifest(pathlib.Path(folder) / RESULTS_FILE, {})


def has_results_list(folder: str | os.PathLike[str]) -> bool:
  """Whether a folder has a list of results; the first results may be unfinished."""
  try:
    read_manifest(folder, RESULTS_FILE)
  except DamagedFolder:
    return False
  return True


@contextlib.contextmanager
def writing_results(folder: str | os.PathLike[str], *entries: str) -> Iterator[None]:
  """Declares results as unfinished while the body writes them, and lists them after it.

  Args:
    folder: of the run.
    *entries: files in the folder, and folders with all files below; missing ones are ignored.

  Yields:
    nothing.
  """
  root = pathlib.Path(folder)
  path = root / RESULTS_FILE
  try:
    listed = read_manifest(root, RESULTS_FILE) if path.exists() else describe_files(root, *_EARLIER)
  except DamagedFolder:
    listed = {}  # Nothing counts as finished.
  kept = {name: entry for name, entry in listed.items() if not is_below(name, entries)}
  store_manifest(path, kept)
  yield
  store_manifest(path, {**kept, **describe_files(root, *entries)})


def is_finished(file: str | os.PathLike[str]) -> bool:
  """Whether a result exists and is listed, or the folder is of version 0.1, which has no list.

  Raises:
    RunFolderError: the list is damaged.
  """
  path = pathlib.Path(file)
  if not path.exists():
    return False
  return not (path.parent / RESULTS_FILE).exists() or path.name in _listed(path.parent)


def verify_results(folder: str | os.PathLike[str], *entries: str) -> None:
  """Compares finished results with their checksums; does nothing for a run of version 0.1.

  Args:
    folder: of the run.
    *entries: files in the folder, and folders with all files below.

  Raises:
    RunFolderError: one is missing or damaged, or the list is.
  """
  if not (pathlib.Path(folder) / RESULTS_FILE).exists():
    return
  try:
    verify_manifest(folder, *entries, name=RESULTS_FILE)
  except DamagedFolder as error:
    raise _damaged(error) from error


def verify_result(file: str | os.PathLike[str], *, required: bool = False) -> None:
  """Compares a file with its checksum, if it is a finished result of a run or of its report.

  Args:
    file: any file.
    required: whether a file in the folder of a run must be finished.

  Raises:
    RunFolderError: it is damaged, or not finished.
  """
  path = pathlib.Path(file)
  for folder in (path.parent, path.parent.parent):
    if (folder / RESULTS_FILE).exists():
      name = path.relative_to(folder).as_posix()
      if required and name not in _listed(folder) and folder == path.parent and path.exists():
        raise RunFolderError(f"{path} is not finished: repeat the command that writes it")
      verify_results(folder, name)
      return


def _listed(folder: pathlib.Path) -> dict[str, FileEntry]:
  try:
    return read_manifest(folder, RESULTS_FILE)
  except DamagedFolder as error:
    raise _damaged(error) from error


def _damaged(error: DamagedFolder) -> RunFolderError:
  return RunFolderError(
    f"{error}. It is not what was written: copy it again, or repeat the command that wrote it "
    "(jax-me evaluate, predict or study; an edited table can be scored from another folder)"
  )
