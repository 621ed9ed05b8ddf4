"""Command line of `faces`: invalid files, kill -9, ctrl-C."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from jax_me.faces import cli, license_notice
from jax_me.faces.alignment_report import read_report


def run(*arguments) -> int:
  parser = argparse.ArgumentParser()
  cli.configure(parser)
  return cli.main(parser.parse_args([str(argument) for argument in arguments]))


def start(repository, *arguments) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, "-m", "jax_me", "faces", *map(str, arguments)],
    cwd=repository,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
  )


def wait_for_rows(report, count: int) -> None:
  deadline = time.monotonic() + 60
  while not report.exists() or report.read_bytes().count(b"\n") < count:
    assert time.monotonic() < deadline, "no rows within a minute"
    time.sleep(0.005)


@pytest.fixture
def image_folder(tmp_path, save, variants):
  for number in range(80):
    save(tmp_path / "in" / f"{number % 4}" / f"{number}.png", variants(number))
  return tmp_path / "in"


@pytest.mark.slow
def test_folder_with_invalid_files(tmp_path, portrait, scenery, save, capsys, monkeypatch):
  monkeypatch.setattr(license_notice, "notice_record", lambda: tmp_path / "notice")
  folder = tmp_path / "in"
  whole = save(folder / "whole.jpg", portrait, quality=95).read_bytes()
  (folder / "zero.jpg").write_bytes(b"")
  (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
  (folder / "text.png").write_text("not an image")
  Image.fromarray(portrait).convert("CMYK").save(folder / "cmyk.jpg", quality=95)
  deep = cv2.cvtColor(portrait, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257
  cv2.imwrite(str(folder / "deep.png"), deep)
  cv2.imwrite(str(folder / "deep_grey.tiff"), deep[:, :, 1])
  exif = Image.Exif()
  exif[0x0112] = 6
  save(folder / "rotated.jpg", np.rot90(portrait).copy(), exif=exif, quality=95)
  save(folder / "no_face.png", scenery)
  save(folder / "two.png", np.hstack([portrait, portrait[:, ::-1]]))
  (folder / "labels.csv").write_text("file,label")
  expected = {
    "cmyk.jpg": "ok",
    "deep.png": "ok",
    "deep_grey.tiff": "ok",
    "labels.csv": "not_an_image",
    "no_face.png": "no_face",
    "rotated.jpg": "ok",
    "text.png": "unreadable",
    "truncated.jpg": "unreadable",
    "two.png": "several_faces",
    "whole.jpg": "ok",
    "zero.jpg": "unreadable",
  }
  out = tmp_path / "out"
  assert run("--input", folder, "--output", out, "--size", 96, "--workers", 2) == 1
  rows = {row["file"]: row for row in read_report(out)}
  assert {name: row["status"] for name, row in rows.items()} == expected
  assert rows["two.png"]["faces"] == 2
  captured = capsys.readouterr()
  assert captured.err.count("research use") == 1
  assert "3 unreadable" in captured.out and "3 files failed" in captured.err

  def aligned(name):
    return np.asarray(Image.open(out / rows[name]["output"]).convert("RGB")).astype(float)

  for name in ("cmyk.jpg", "deep.png", "rotated.jpg"):
    assert np.abs(aligned(name) - aligned("whole.jpg")).mean() < 4, name
  assert aligned("deep_grey.tiff").std() > 30

  for name in ("zero.jpg", "truncated.jpg", "text.png"):
    (folder / name).unlink()
  again = ["--input", folder, "--output", out, "--size", 96, "--workers", 1]
  assert run(*again) == 0
  assert run(*again, "--on-no-face", "error") == 1
  assert run(*again, "--on-no-face", "center") == 0


@pytest.mark.slow
def test_killed_and_resumed_run_equals_an_uninterrupted_run(tmp_path, image_folder, repository):
  out = tmp_path / "out"
  arguments = ["--input", image_folder, "--output", out, "--size", 64, "--workers", 2]
  process = start(repository, *arguments)
  wait_for_rows(out / "report.jsonl", 5)
  process.kill()
  process.communicate()
  with (out / "report.jsonl").open("ab") as report:
    report.write(b'{"file": "1/5.png", "sta')
  lines = (out / "report.jsonl").read_bytes().splitlines()[:-1]
  kept = [json.loads(line) for line in lines]
  assert 5 <= len(kept) < 80 and not json.loads((out / "summary.json").read_text())["complete"]
  times = {row["output"]: (out / row["output"]).stat().st_mtime_ns for row in kept}

  assert run(*arguments[:-1], 1) == 0
  assert {name: (out / name).stat().st_mtime_ns for name in times} == times
  uninterrupted = tmp_path / "uninterrupted"
  assert run("--input", image_folder, "--output", uninterrupted, "--size", 64, "--workers", 1) == 0

  def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

  assert content(out) == content(uninterrupted)
  assert len(read_report(out)) == 80


@pytest.mark.slow
def test_ctrl_c_explains_how_to_resume(tmp_path, image_folder, repository):
  out = tmp_path / "out"
  # Enough images that the run cannot end before the signal.
  folder = tmp_path / "copies"
  for number in range(6):
    shutil.copytree(image_folder, folder / str(number))
  process = start(repository, "--input", folder, "--output", out, "--size", 64, "--workers", 2)
  wait_for_rows(out / "report.jsonl", 3)
  os.killpg(process.pid, signal.SIGINT)  # to all processes, as a terminal does
  _, errors = process.communicate(timeout=30)
  assert process.returncode == 130
  assert "run the same command again" in errors and "Traceback" not in errors
  assert not (out / ".faces-partial").exists()
  for number in range(1, 6):
    shutil.rmtree(folder / str(number))
  assert run("--input", folder, "--output", out, "--size", 64, "--workers", 1) == 0


def test_bad_arguments(tmp_path, capsys):
  assert run("--input", tmp_path / "missing", "--output", tmp_path / "out") == 2
  assert "does not exist" in capsys.readouterr().err
  assert run("--input", tmp_path, "--output", tmp_path, "--size", 0) == 2
  with pytest.raises(SystemExit) as caught:
    run("--input", tmp_path, "--output", tmp_path / "out", "--on-no-face", "crop")
  assert caught.value.code == 2


def test_help_shows_the_licence(capsys):
  with pytest.raises(SystemExit):
    run("--help")
  assert "research use" in capsys.readouterr().out
