"""Manifest of a folder: size and SHA-256 of each of its files, so that damage is noticed."""

import concurrent.futures
import hashlib
import json
import os
import pathlib

from jax_me.files import write_atomically

MANIFEST_FILE = "manifest.json"
_FORMAT = 1


class DamagedFolder(ValueError):
  """A file of the folder is missing or is not the one that was written."""


def write_manifest(folder: str | os.PathLike[str], *entries: str) -> None:
  """Writes `manifest.json` of some files.

  Args:
    folder: of the manifest.
    *entries: files in the folder, and folders with all files below; none means everything.
  """
  root = pathlib.Path(folder)
  found = [root / entry for entry in entries] or list(root.iterdir())
  paths = {file for entry in found for file in (entry, *entry.rglob("*")) if file.is_file()}
  names = sorted(path.relative_to(root).as_posix() for path in paths - {root / MANIFEST_FILE})
  with concurrent.futures.ThreadPoolExecutor() as threads:
    described = list(threads.map(lambda name: _describe(root / name), names))
  content = {"format": _FORMAT, "files": dict(zip(names, described, strict=True))}
  write_atomically(root / MANIFEST_FILE, (json.dumps(content, indent=2) + "\n").encode())


def verify_manifest(folder: str | os.PathLike[str]) -> None:
  """Compares the files of a folder with its manifest; files that it does not list are ignored.

  Raises:
    DamagedFolder: the manifest is missing or damaged, or a file is missing, shorter, longer or
      changed; the message names the first such file.
  """
  root = pathlib.Path(folder)
  listed = _read(root / MANIFEST_FILE)
  with concurrent.futures.ThreadPoolExecutor() as threads:
    problems = threads.map(lambda name: _problem(root / name, listed[name]), listed)
    for name, problem in zip(listed, problems, strict=True):
      if problem:
        raise DamagedFolder(f"{root / name} {problem}")


def _describe(path: pathlib.Path) -> dict[str, int | str]:
  with path.open("rb") as file:
    return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _read(path: pathlib.Path) -> dict[str, dict[str, int | str]]:
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
    files, known = content["files"], content["format"] == _FORMAT
    listed = {name: {key: file[key] for key in ("bytes", "sha256")} for name, file in files.items()}
  except FileNotFoundError:
    raise DamagedFolder(f"{path} is missing") from None
  except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
    raise DamagedFolder(f"{path} cannot be read: {error}") from error
  if not known or not listed:
    raise DamagedFolder(f"{path} has an unknown format")
  return listed


def _problem(path: pathlib.Path, expected: dict[str, int | str]) -> str:
  """What is wrong with a file; "" if it is the one that was written."""
  try:
    size = path.stat().st_size
    if size != expected["bytes"]:
      return f"has {size} bytes instead of {expected['bytes']}"
    return "" if _describe(path) == expected else "was changed or damaged: its checksum differs"
  except FileNotFoundError:
    return "is missing"
  except OSError as error:
    return f"cannot be read: {error.strerror or error}"
