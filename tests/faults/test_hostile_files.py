"""Hostile files and names in the input folders of builds and of the face alignment."""

import json
import os
import pathlib

import cv2
import numpy as np

from jax_me.csv_files import csv_bytes, read_rows
from jax_me.datasets.catalog import prepare
from jax_me.faces.align_folder import align_folder

NAMES = (
  "=cmd|' calc'!A0.png",
  "'=1+1.png",
  "@SUM(1).png",
  "-2.png",
  "a\nb.png",
  'quote".png',
  "-rf.png",
  "a..png",
  "%s%n.png",
  "\u202egnp.png",
  "x" * 200 + ".png",
)
FILES = {
  "pipe.png": lambda path: os.mkfifo(path),
  "zero.png": lambda path: path.symlink_to("/dev/zero"),
  "loop.png": lambda path: path.symlink_to(path.name),
  "gone.png": lambda path: path.symlink_to("nothing"),
  "text.png": lambda path: path.write_text("not an image"),
  "empty.png": lambda path: path.touch(),
  "bomb.png": lambda path: cv2.imwrite(str(path), np.zeros((9000, 9000), np.uint8)),
  "cut.png": lambda path: path.write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes()[:60]),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)


def hostile_folder(folder: pathlib.Path) -> pathlib.Path:
  for label in ("calm", "glad"):
    (folder / label).mkdir(parents=True)
    cv2.imwrite(str(folder / label / "good.png"), IMAGE)
  for name in NAMES:
    (folder / "calm" / name).write_bytes(cv2.imencode(".png", IMAGE)[1].tobytes())
  for name, make in FILES.items():
    make(folder / "glad" / name)
  return folder


def test_hostile_files_in_a_build(fault, tmp_path):
  source = hostile_folder(tmp_path / "in")
  builder = prepare(
    "labeled_images",
    data_dir=str(tmp_path / "data"),
    manual_dir=str(source),
    align=False,
    workers=0,
  )
  lines = (pathlib.Path(builder.data_path) / "report.jsonl").read_text().splitlines()
  statuses = {row["file"]: row["status"] for row in map(json.loads, lines)}
  for name in NAMES:
    status = statuses.get(f"calm/{name}")
    fault.record(name, "" if status == "ok" else f"status {status}")
  for name in FILES:
    status = statuses.get(f"glad/{name}", "ok")
    fault.record(name, "" if status != "ok" else "no status")


def test_hostile_files_in_the_face_alignment(fault, tmp_path):
  source = hostile_folder(tmp_path / "in")
  align_folder(source, tmp_path / "out", workers=1, quiet=True)
  lines = (tmp_path / "out/report.jsonl").read_text().splitlines()
  statuses = {row["file"]: row["status"] for row in map(json.loads, lines)}
  for name in FILES:
    status = statuses.get(f"glad/{name}", "ok")
    fault.record(name, "" if status in ("unreadable", "not_an_image", "outside_link") else status)
  for name in NAMES:
    status = statuses.get(f"calm/{name}")
    fault.record(name, "" if status == "no_face" else f"status {status}")


def test_hostile_names_in_tables(fault, tmp_path):
  path = tmp_path / "table.csv"
  cells = [*NAMES, "=", "''+1", "'", "-0.5", "1e3", "+1", "\t=1", ""]
  path.write_bytes(csv_bytes([["name", "n"], *([cell, "1"] for cell in cells)]))
  _, rows = read_rows(path, known=("name", "n"), required=("name",))
  for cell, row in zip(cells, rows, strict=True):
    fault.record(repr(cell), "" if row.cells["name"] == cell else f"read as {row.cells['name']!r}")
  for line in path.read_text().splitlines():
    runs = line.startswith(("=", "@")) or line.startswith(("-", "+")) and not line[1:2].isdigit()
    fault.record(repr(line), "a spreadsheet runs it" if runs else "")
