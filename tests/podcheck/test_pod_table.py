"""docs/distributed.md: its table against benchmarks/results/pod_table.json."""

from benchmarks import pod_table
from jax_me.training.recipes import load_recipe
from jax_me.training.settings import override

FOUND = {
  "topology": "v5e:4x4",
  "chips": 16,
  "fits": True,
  "needed_bytes": 2**30,
  "available_bytes": 2**34,
  "memory": {"parameters": 32 * 10**6},
  "work": {
    "flops": 16 * 197 * 10**9,
    "hbm_bytes": 819 * 10**7,
    "collectives": [{"kind": "all-gather", "group": 16, "count": 1, "bytes": 16 * 10**8}],
  },
  "compiled": {"seconds": 1.0},
}


def test_the_table_is_that_of_the_file():
  text = pod_table.PAGE.read_text(encoding="utf-8")
  assert text == pod_table.with_table(text, pod_table.read_stored())


def test_rows_name_recipes_and_slices_that_exist():
  assert len({row.key for row in pod_table.ROWS}) == 15
  for row in pod_table.ROWS:
    config = load_recipe(str(pod_table.REPOSITORY / row.recipe.partition(":")[0]))
    override(config, [*row.settings, f"--config.batch_size={row.batch_size}"])
    assert row.batch_size % pod_table.parse_topology(row.topology).chips == 0


def test_a_scaled_row_has_the_communication_of_all_chips():
  exact = pod_table.figures(FOUND, "v5e:4x4")
  assert exact["seconds_at_least"] == {"compute": 1e-3, "memory": 10e-3, "interconnect": 7.5e-3}
  scaled = pod_table.figures(FOUND, "v5e:16x16")
  # 2 * 15 / 16 of the gradients of a chip's share in float32.
  assert scaled["per_chip"]["sent_bytes"] == exact["per_chip"]["sent_bytes"] + 60 * 10**6
  row = pod_table.ROWS[1]
  text = pod_table.table({row.key: scaled})
  assert f"| {row.model} | {row.topology} † | {row.batch_size} | 10.0 ms | 10% | HBM |" in text
  assert "Scaled from 16 chips" in text


def test_a_row_that_does_not_fit_says_so():
  row = pod_table.ROWS[0]
  found = {**FOUND, "fits": False, "work": None}
  assert "does not fit" in pod_table.table({row.key: pod_table.figures(found, row.topology)})
