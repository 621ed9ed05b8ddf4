"""The report survives kills, and its sums give the exact mean and deviation."""

import json

import numpy as np
import pytest

from jax_me.faces import alignment_report, input_files


def row(name: str, status: str = "ok", **more) -> dict:
  return {"file": name, "status": status, "output": None, **more}


def source(name: str) -> input_files.SourceFile:
  return input_files.SourceFile(name, True, 1, 1)


def test_rows_are_sorted_counted_and_limited_to_the_files_there_are(tmp_path):
  written = alignment_report.Report(tmp_path)
  for name in ("c", "a", "gone", "b"):
    written.append(row(name))
  written.append(row("a", "no_face"))
  result = written.finish([source(name) for name in "abc"])
  assert result == {"files": 3, "counts": {"no_face": 1, "ok": 2}, "mean": None, "std": None}
  assert [(r["file"], r["status"]) for r in alignment_report.read_report(tmp_path)] == [
    ("a", "no_face"),
    ("b", "ok"),
    ("c", "ok"),
  ]
  assert [path.name for path in tmp_path.iterdir()] == ["report.jsonl"]


@pytest.mark.parametrize("tail", ['{"file": "b", "sta', '{"file": "b"}', "\x00\x00", ""])
def test_a_torn_last_line_is_cut_off(tmp_path, tail):
  path = tmp_path / "report.jsonl"
  path.write_text(json.dumps(row("a")) + "\n" + tail)
  written = alignment_report.Report(tmp_path)
  assert [r["file"] for r in written.rows()] == ["a"]
  written.append(row("b"))
  written.close()
  assert [r["file"] for r in alignment_report.read_report(tmp_path)] == ["a", "b"]


def test_a_broken_line_in_the_middle_is_passed_over(tmp_path):
  path = tmp_path / "report.jsonl"
  path.write_text(json.dumps(row("a")) + "\ngarb\xffage\n[]\n" + json.dumps(row("b")) + "\n")
  written = alignment_report.Report(tmp_path)
  assert [r["file"] for r in written.rows()] == ["a", "b"]
  written.drop("a")
  assert "a" not in written and "b" in written
  written.append(row("a"))
  written.finish([source("a"), source("b")])
  assert [r["file"] for r in alignment_report.read_report(tmp_path)] == ["a", "b"]


def test_pixel_statistics_are_those_of_all_pixels():
  pictures = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3))
  rows = [row("skipped")]
  for picture in pictures:
    flat = picture.reshape(-1, 3)
    rows.append(
      row(
        "x", pixels=64, pixel_sum=flat.sum(0).tolist(), pixel_square_sum=(flat**2).sum(0).tolist()
      )
      | {"output": "x.png"}
    )
  mean, std = alignment_report.pixel_statistics(rows)
  np.testing.assert_allclose(mean, (pictures / 255).mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(std, (pictures / 255).std((0, 1, 2)), rtol=1e-12)
  assert alignment_report.pixel_statistics(rows[:1]) is None
