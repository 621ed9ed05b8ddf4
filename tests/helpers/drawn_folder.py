"""A folder of random images with labels.csv, and the dataset built from it."""

import pathlib

import cv2
import numpy as np

from jax_me.datasets.catalog import prepare


def write_folder(folder: pathlib.Path, rows: list[dict], columns: str) -> pathlib.Path:
  """Writes labels.csv and one image per row; rows with the same "drawn" have equal images."""
  folder.mkdir(parents=True, exist_ok=True)
  lines = [columns]
  for number, row in enumerate(rows):
    row = {"file": f"{number}.png", "drawn": number, **row}
    pixels = np.random.default_rng(row["drawn"]).integers(0, 256, (20, 16, 3), np.uint8)
    assert cv2.imwrite(str(folder / row["file"]), pixels)
    lines.append(",".join(str(row[name]) for name in columns.split(",")))
  (folder / "labels.csv").write_text("\n".join(lines), "utf-8")
  return folder


def write_light_and_dark(folder: pathlib.Path, spread: float) -> pathlib.Path:
  """Writes twelve images of six subjects, dark and light by turns, with noise of this spread."""
  folder.mkdir(parents=True, exist_ok=True)
  random = np.random.default_rng(0)
  lines = ["file,subject,label"]
  for number in range(12):
    label, level = ("light", 190) if number % 2 else ("dark", 60)
    image = np.clip(random.normal(level, spread, (16, 16, 3)), 0, 255).astype(np.uint8)
    assert cv2.imwrite(str(folder / f"{number:02}.png"), image)
    lines.append(f"{number:02}.png,p{number // 2},{label}")
  (folder / "labels.csv").write_text("\n".join(lines))
  return folder


def build_folder(folder: pathlib.Path, rows: list[dict], columns: str):
  """Builds the dataset of such a folder, without alignment, in `folder`/data."""
  source = write_folder(folder / "source", rows, columns)
  return prepare(
    "labeled_images",
    data_dir=str(folder / "data"),
    manual_dir=str(source),
    align=False,
    workers=0,
  )
