"""Manifest of a folder: size and SHA-256 of each of its files, so that damage is noticed.

Tables (.csv, .jsonl) have their number of rows too, which a message can name.
"""

import collections
import concurrent.futures
import contextlib
import csv
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jax_me.files import write_atomically

MANIFEST_FILE = "manifest.json"
_FORMAT = 1
_LARGE_BYTES = 2**20
_BLOCK_BYTES = 2**24

FileEntry = dict[str, Any]  # "bytes" and "sha256" of a file, and "rows" of a table.


class DamagedFolder(ValueError):
  """A file of the folder is missing or is not the one that was written."""


def write_manifest(folder: str | os.PathLike[str], *entries: str) -> None:
  """Writes `manifest.json` of some files.

  Args:
    folder: of the manifest.
    *entries: files in the folder, and folders with all files below; none means everything.
  """
  root = pathlib.Path(folder)
  entries = entries or tuple(path.name for path in root.iterdir() if path.name != MANIFEST_FILE)
  store_manifest(root / MANIFEST_FILE, describe_files(root, *entries))


def describe_files(folder: str | os.PathLike[str], *entries: str) -> dict[str, FileEntry]:
  """What a manifest lists: {name below the folder: entry}.

  Args:
    folder: of the manifest.
    *entries: files in the folder, and folders with all files below.
  """
  root = pathlib.Path(folder)
  found = [root / entry for entry in entries]
  paths = {file for entry in found for file in (entry, *entry.rglob("*")) if file.is_file()}
  names = sorted(path.relative_to(root).as_posix() for path in paths)
  with concurrent.futures.ThreadPoolExecutor() as threads:
    described = list(threads.map(lambda name: _describe(root / name), names))
  return dict(zip(names, described, strict=True))


def store_manifest(path: str | os.PathLike[str], listed: Mapping[str, FileEntry]) -> None:
  """Writes a manifest of files that `describe_files` described."""
  content = {"format": _FORMAT, "files": dict(sorted(listed.items()))}
  write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def read_manifest(
  folder: str | os.PathLike[str], name: str = MANIFEST_FILE
) -> dict[str, FileEntry]:
  """The files that a manifest lists: {name below the folder: entry}.

  Args:
    folder: of the manifest.
    name: of its file.

  Returns:
    size and SHA-256 of each file, and the number of rows of tables.

  Raises:
    DamagedFolder: the manifest is missing or damaged.
  """
  path = pathlib.Path(folder) / name
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
    files, known = content["files"], content["format"] == _FORMAT
    listed = {
      name: {key: file[key] for key in ("bytes", "sha256", "rows") if key in file or key != "rows"}
      for name, file in files.items()
    }
  except FileNotFoundError:
    raise DamagedFolder(f"{path} is missing") from None
  except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
    raise DamagedFolder(f"{path} cannot be read: {error}") from error
  if not known or not (listed or name != MANIFEST_FILE):
    raise DamagedFolder(f"{path} has an unknown format")
  return listed


def combined_sha256(listed: Mapping[str, FileEntry], entry: str) -> str:
  """One checksum of a listed file, or of all below a listed folder; "" when there are none."""
  names = sorted(name for name in listed if is_below(name, [entry]))
  lines = "".join(f"{listed[name]['sha256']}  {name}\n" for name in names)
  return hashlib.sha256(lines.encode()).hexdigest() if names else ""


@contextlib.contextmanager
def verified_in_background(
  folder: str | os.PathLike[str], *entries: str, name: str = MANIFEST_FILE
) -> Iterator[dict[str, FileEntry]]:
  """Compares the files of a folder with its manifest while the body of the `with` reads them.

  Large files are compared in threads; the others, and all sizes, before the body starts. Files that
  the manifest does not list are ignored.

  Args:
    folder: of the manifest.
    *entries: listed files, and folders with listed files, that are compared; none means all.
    name: of the manifest.

  Yields:
    what the manifest lists.

  Raises:
    DamagedFolder: the manifest is missing or damaged, or a file is missing, shorter, longer or
      changed; the message names the first such file. It takes the place of an error of the body.
  """
  root = pathlib.Path(folder)
  listed = read_manifest(root, name)
  if entries:
    listed = {file: entry for file, entry in listed.items() if is_below(file, entries)}
  with concurrent.futures.ThreadPoolExecutor() as threads:
    sizes = {name: _size(root / name) for name in listed}
    large = [n for n, size in sizes.items() if size >= _LARGE_BYTES and size == listed[n]["bytes"]]
    problems = threads.map(lambda name: _problem(root, name, listed), large)
    others = [name for name in listed if name not in large]
    _raise_first(root, ((name, _problem(root, name, listed)) for name in others))
    try:
      yield listed
    except Exception as error:
      # Damage is the likely cause, and its message names the file.
      _raise_first(root, zip(large, problems, strict=True), error)
      raise
    _raise_first(root, zip(large, problems, strict=True))


def verify_manifest(
  folder: str | os.PathLike[str], *entries: str, name: str = MANIFEST_FILE
) -> None:
  """Compares the files of a folder with its manifest.

  Args:
    folder, *entries, name: as of `verified_in_background`.

  Raises:
    DamagedFolder: as `verified_in_background`.
  """
  with verified_in_background(folder, *entries, name=name):
    pass


def is_below(file: str, entries: Iterable[str]) -> bool:
  """Whether a listed file is one of the entries, or in a folder among them."""
  return any(file == entry or file.startswith(f"{entry}/") for entry in entries)


def _raise_first(
  root: pathlib.Path, problems: Iterable[tuple[str, str]], cause: Exception | None = None
) -> None:
  for name, problem in problems:
    if problem:
      raise DamagedFolder(f"{root / name} {problem}") from cause


def _size(path: pathlib.Path) -> int:
  try:
    return path.stat().st_size
  except OSError:
    return 0


def _describe(path: pathlib.Path) -> FileEntry:
  digest, size = hashlib.sha256(), path.stat().st_size
  # Large blocks: after each one a thread waits for the interpreter, if another one computes.
  block = memoryview(bytearray(min(size, _BLOCK_BYTES) + 1))
  with path.open("rb", buffering=0) as file:
    while count := file.readinto(block):
      digest.update(block[:count])
  rows = count_rows(path)
  described = {"bytes": size, "sha256": digest.hexdigest()}
  return described if rows is None else {**described, "rows": rows}


def count_rows(path: pathlib.Path) -> int | None:
  """Number of rows of a table, without the header of a CSV file; None for other files."""
  if path.suffix == ".jsonl":
    with path.open("rb") as lines:
      return _length(lines)
  if path.suffix == ".csv":
    try:
      with path.open(encoding="utf-8", errors="surrogateescape", newline="") as text:
        return max(_length(csv.reader(text)) - 1, 0)
    except csv.Error:
      return 0
  return None


def _length(iterator: Iterator[Any]) -> int:
  """Number of items, counted without keeping them."""
  last = collections.deque(enumerate(iterator, start=1), maxlen=1)
  return last[0][0] if last else 0


def _problem(root: pathlib.Path, name: str, listed: Mapping[str, FileEntry]) -> str:
  """What is wrong with a file; "" if it is the one that was written."""
  path, expected = root / name, listed[name]
  try:
    size = path.stat().st_size
    rows = count_rows(path) if size != expected["bytes"] and "rows" in expected else None
    if rows is not None and rows != expected["rows"]:
      return f"has {rows} rows instead of {expected['rows']}"
    if size != expected["bytes"]:
      return f"has {size} bytes instead of {expected['bytes']}"
    same = _describe(path)["sha256"] == expected["sha256"]
    return "" if same else "was changed or damaged: its checksum differs"
  except FileNotFoundError:
    return "is missing"
  except OSError as error:
    return f"cannot be read: {error.strerror or error}"
