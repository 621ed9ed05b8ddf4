"""Checksums of a built dataset: `manifest.json` lists its files, with the rows of its tables."""

import json
import pathlib

from jax_me.manifest import MANIFEST_FILE, DamagedFolder, read_manifest, verify_manifest

SUMMARY_FILE = "summary.json"
CHECKSUMS = "checksums"  # Key of the summary: a dataset of version 0.1 has no manifest.
RECORDS_SUFFIX = ".array_record"


class DamagedDataset(ValueError):
  """A dataset folder that cannot be read; the message states the remedy."""


def verify_dataset(folder: pathlib.Path, *, records: bool = False) -> bool:
  """Compares the files of a built dataset with its manifest.

  Args:
    folder: of the build.
    records: also compare the content of the records, which may be many gigabytes; else only their
      sizes, as array_record has checksums of its own, which are compared on reading.

  Returns:
    whether it has a manifest; builds of version 0.1 have none.

  Raises:
    DamagedDataset: a file is missing or damaged.
  """
  try:
    if not (folder / MANIFEST_FILE).exists() and not _has_manifest(folder):
      return False
    listed = read_manifest(folder)
    if records:
      verify_manifest(folder)
      return True
    shards = {name: entry for name, entry in listed.items() if RECORDS_SUFFIX in name}
    verify_manifest(folder, *(name for name in listed if name not in shards))
    for name, entry in shards.items():
      if (size := (folder / name).stat().st_size) != entry["bytes"]:
        raise DamagedFolder(f"{folder / name} has {size} bytes instead of {entry['bytes']}")
  except (DamagedFolder, OSError) as error:
    raise DamagedDataset(f"{error}. {damage_remedy(folder)}") from error
  return True


def damage_remedy(folder: pathlib.Path) -> str:
  """What to do about a damaged dataset."""
  return f"The dataset is damaged: delete {folder} and build it again"


def _has_manifest(folder: pathlib.Path) -> bool:
  try:
    return CHECKSUMS in json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
  except (OSError, ValueError, TypeError):
    return False  # Of an earlier version; it is reported when it is read.
