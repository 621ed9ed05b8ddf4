"""Alignment report: recovery after a kill, exact mean and standard deviation."""

import json

import numpy as np
import pytest

from jax_me.faces import alignment_report, input_files


def row(name: str, status: str = "ok", **more) -> dict:
  return {"file": name, "status": status, "output": None, **more}


def source(name: str) -> input_files.SourceFile:
  return input_files.SourceFile(name, True, 1, 1)


def test_rows_are_sorted_counted_and_limited_to_existing_files(tmp_path):
  report = alignment_report.AlignmentReport(tmp_path)
  for name in ("c", "a", "gone", "b"):
    report.append(row(name))
  report.append(row("a", "no_face"))
  result = report.finish([source(name) for name in "abc"])
  assert result == {"files": 3, "counts": {"no_face": 1, "ok": 2}, "mean": None, "std": None}
  assert [(r["file"], r["status"]) for r in alignment_report.read_report(tmp_path)] == [
    ("a", "no_face"),
    ("b", "ok"),
    ("c", "ok"),
  ]
  assert [path.name for path in tmp_path.iterdir()] == ["report.jsonl"]


@pytest.mark.parametrize("tail", ['{"file": "b", "sta', '{"file": "b"}', "\x00\x00", ""])
def test_an_incomplete_last_line_is_removed(tmp_path, tail):
  path = tmp_path / "report.jsonl"
  path.write_text(json.dumps(row("a")) + "\n" + tail)
  report = alignment_report.AlignmentReport(tmp_path)
  assert [r["file"] for r in report.rows()] == ["a"]
  report.append(row("b"))
  report.close()
  assert [r["file"] for r in alignment_report.read_report(tmp_path)] == ["a", "b"]


def test_an_invalid_line_in_the_middle_is_skipped(tmp_path):
  path = tmp_path / "report.jsonl"
  path.write_text(json.dumps(row("a")) + "\ngarb\xffage\n[]\n" + json.dumps(row("b")) + "\n")
  report = alignment_report.AlignmentReport(tmp_path)
  assert [r["file"] for r in report.rows()] == ["a", "b"]
  report.drop("a")
  assert "a" not in report and "b" in report
  report.append(row("a"))
  report.finish([source("a"), source("b")])
  assert [r["file"] for r in alignment_report.read_report(tmp_path)] == ["a", "b"]


def test_pixel_statistics_are_those_of_all_pixels():
  images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3))
  rows = [row("skipped")]
  for image in images:
    flat = image.reshape(-1, 3)
    rows.append(
      row(
        "x", pixels=64, pixel_sum=flat.sum(0).tolist(), pixel_square_sum=(flat**2).sum(0).tolist()
      )
      | {"output": "x.png"}
    )
  mean, std = alignment_report.pixel_statistics(rows)
  np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-12)
  assert alignment_report.pixel_statistics(rows[:1]) is None
