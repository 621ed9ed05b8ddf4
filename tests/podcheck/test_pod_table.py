"""docs/distributed.md: its table against benchmarks/results/pod_table.json."""

import pytest

from benchmarks import pod_table
from jax_me.training.chips import parse_topology
from jax_me.training.recipes import load_recipe
from jax_me.training.settings import override

FOUND = {
  "topology": "v5e:4x4",
  "chips": 16,
  "fits": True,
  "needed_bytes": 2**30,
  "available_bytes": 2**34,
  "work": {
    "flops": 16 * 197 * 10**9,
    "hbm_bytes": 819 * 10**7,
    "collectives": [
      {"kind": "all-reduce", "group": 16, "count": 1, "bytes": 8 * 10**8},
      {"kind": "all-gather", "group": 4, "count": 1, "bytes": 4 * 10**8},
    ],
  },
  "compiled": {"seconds": 1.0},
}


def test_the_table_is_that_of_the_file():
  text = pod_table.PAGE.read_text(encoding="utf-8")
  assert text == pod_table.with_table(text, pod_table.read_stored())


def test_rows_name_recipes_and_slices_that_exist():
  assert len({row.key for row in pod_table.ROWS}) == len(pod_table.ROWS)
  for row in pod_table.ROWS:
    config = load_recipe(str(pod_table.REPOSITORY / row.recipe.partition(":")[0]))
    override(config, [f"--config.{text}" for text in row.settings])
    assert row.batch_size % parse_topology(row.topology).chips == 0


def test_a_scaled_row_has_the_communication_of_all_chips():
  exact = pod_table.figures(FOUND, "v5e:4x4")
  assert exact["seconds_at_least"] == pytest.approx(
    {"compute": 1e-3, "memory": 10e-3, "interconnect": 9e-3}
  )
  scaled = pod_table.figures(FOUND, "v5e:16x16")
  # Only the sum over all chips has more members: 2 * 255/256 instead of 2 * 15/16.
  assert scaled["sent_bytes"] - exact["sent_bytes"] == pytest.approx(16e8 * (255 / 256 - 15 / 16))
  row = next(row for row in pod_table.ROWS if row.topology == "v5e:16x16")
  text = pod_table.table({row.key: scaled})
  assert f"| {row.model} | {row.topology} † | {row.batch_size} | 10.0 ms | 10% | HBM |" in text


def test_a_row_that_does_not_fit_says_so():
  row = pod_table.ROWS[0]
  found = pod_table.figures({**FOUND, "fits": False, "work": None}, row.topology)
  assert "does not fit" in pod_table.table({row.key: found})
