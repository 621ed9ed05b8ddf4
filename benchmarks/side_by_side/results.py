"""File of the measurements on one device."""

import dataclasses
import json
import pathlib
from typing import Any

from benchmarks.side_by_side.device import Device
from benchmarks.side_by_side.rows import ROWS
from jax_me.files import write_atomically

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "results"
# Other files of the folder have no such entry.
DEVICE, MEASUREMENTS = "compared_on", "rows"


def file_of(device: Device, folder: pathlib.Path = FOLDER) -> pathlib.Path:
  """The file of a device."""
  return folder / f"{device.file_name}.json"


def result_files(folder: pathlib.Path = FOLDER) -> dict[str, dict[str, Any]]:
  """{name without suffix: content} of the files in a folder that this module wrote."""
  contents = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted(folder.glob("*.json"))
  }
  return {
    name: content
    for name, content in contents.items()
    if isinstance(content, dict) and DEVICE in content
  }


def store(
  device: Device, row: str, batch: int, measured: dict[str, Any], folder: pathlib.Path = FOLDER
) -> None:
  """Replaces one measurement and keeps the others. A skipped row replaces no measured one.

  Args:
    device: that was measured.
    row: key of `rows.ROWS`.
    batch: number of images.
    measured: facts and figures.
    folder: of the file.
  """
  path = file_of(device, folder)
  content: dict[str, Any] = {MEASUREMENTS: {}}
  if path.exists():
    content = json.loads(path.read_text(encoding="utf-8"))
  rows = content[MEASUREMENTS]
  by_batch = rows.setdefault(row, {})
  if "ratios" in measured or str(batch) not in by_batch:
    by_batch[str(batch)] = measured
  content = {
    DEVICE: dataclasses.asdict(device),
    MEASUREMENTS: {
      name: {size: rows[name][size] for size in sorted(rows[name], key=int)}
      for name in ROWS
      if name in rows
    },
  }
  write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
