"""docs/performance.md: its tables against benchmarks/results.

`python -m tests.test_performance_page` writes them again.
"""

import pytest

from benchmarks.side_by_side import results, rows
from benchmarks.side_by_side.device import Device
from benchmarks.side_by_side.measurement import OURS
from benchmarks.side_by_side.table import PAGE, tables, with_tables, write_page

CPU = Device(name="Some CPU", platform="cpu", cores=2, dtype="float32")


def measurement(**ratios):
  return {
    "peer": "timm 1.0.31",
    "images_per_second": {OURS: 12.34},
    "ratios": {form: {"low": r - 0.1, "median": r, "high": r + 0.1} for form, r in ratios.items()},
    "processor_time_ratios": {form: r for form, r in ratios.items()},
    "other_load": 0.25,
    "compile_seconds": {OURS: 3.0, rows.COMPILED: 40.0},
    "program": {
      "product_flops": 16e9,
      "xla_flops": 20e9,
      "xla_bytes_accessed": 8e6,
      "peak_bytes": 2**30,
    },
    "operations": {"fusion dot_general": 0.9, "copy": 0.1},
  }


def test_the_tables_are_those_of_the_files():
  text = PAGE.read_text(encoding="utf-8")
  assert text == with_tables(text), "run `python -m tests.test_performance_page`"


def test_a_file_without_a_place_on_the_page_is_an_error():
  content = {"compared_on": {"platform": "cpu"}, "rows": {}}
  with pytest.raises(ValueError, match="new_device"):
    with_tables("<!-- measured: old_device -->\n<!-- end -->", {"new_device": content})


def test_the_table_says_by_how_much_a_floor_is_missed(tmp_path):
  measured = measurement(eager=1.2, compiled=0.8)
  results.store(CPU, "vit_b_inference", 8, measured, tmp_path)
  results.store(CPU, "t2t_vit_14_inference", 8, {"skipped": {"eager": "no clone"}}, tmp_path)
  text = tables(results.result_files(tmp_path)["some_cpu_2_cores"])
  assert "1.20 (1.10 to 1.30); floor 1.15 |" in text
  assert "0.80 (0.70 to 0.90); floor 1.00, missed by 0.20 | 1.20 / 0.80 |" in text
  assert "not measured: no clone" in text
  assert "| ViT-B inference † | timm 1.0.31 | 8 | 1.20 (" in text and "\n† Other programs" in text
  assert (
    "| ViT-B inference | 8 | 2 | 2.5 | 1 | 1024 | 0.07 | 25% | fusion dot_general 90%, copy 10% |"
    in text
  )


def test_a_measurement_replaces_only_its_own_row(tmp_path):
  first, second = measurement(eager=1.0), measurement(eager=2.0)
  for name in ("vit_b_step", "vit_b_inference"):
    results.store(CPU, name, 8, first, tmp_path)
  results.store(CPU, "vit_b_inference", 16, first, tmp_path)
  results.store(CPU, "vit_b_inference", 8, second, tmp_path)
  results.store(CPU, "vit_b_step", 8, {"skipped": {"eager": "timm is missing"}}, tmp_path)
  (tmp_path / "other.json").write_text("[]")
  content = results.result_files(tmp_path)
  assert list(content) == ["some_cpu_2_cores"]
  assert content["some_cpu_2_cores"]["rows"] == {
    "vit_b_inference": {"8": second, "16": first},
    "vit_b_step": {"8": first},
  }


if __name__ == "__main__":
  write_page()
