"""Lower bounds of pre-training steps on TPU slices, from `podcheck`; the table of distributed.md.

  python -m benchmarks.pod_table [--only TEXT]

A row compiles for minutes, in a process of its own. Its figures are stored in
benchmarks/results/pod_table.json, so that an interrupted call continues with the missing rows; the
table is written at the end. Rows of 256 chips are compiled for 16 chips with as many images on
each: a chip's program is the same but for the collectives, which are counted for 256.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from jax_me.files import write_atomically
from jax_me.podcheck.compiled_step import Collective
from jax_me.training.chips import GIB, parse_topology

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "pod_table.json"
PAGE = REPOSITORY / "docs" / "distributed.md"
TABLE = re.compile(r"(<!-- pod table -->\n\n).*?(<!-- end -->)", re.DOTALL)
SMALL = {"v5e:16x16": "v5e:4x4", "v6e:16x16": "v6e:4x4"}
SPLIT = "mesh.split_update=16"
ALSO_SPLIT = {
  ("MAE ViT-B", "v5e:16x16"),
  ("MAE ViT-H", "v5e:16x16"),
  ("FCMAE ConvNeXt V2-B", "v5e:4x4"),
}
LIMITS = {"compute": "arithmetic", "memory": "HBM", "interconnect": "interconnect"}


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    model: as in the table.
    recipe: for `--config`.
    topology: the slice.
    batch_size: of all chips.
    settings: overrides of the recipe, KEY=VALUE.
  """

  model: str
  recipe: str
  topology: str
  batch_size: int
  settings: tuple[str, ...] = ()

  @property
  def key(self) -> str:
    changed = [text for text in self.settings if not text.startswith("model.")]
    return ", ".join([self.model, self.topology, f"batch {self.batch_size}", *changed])


def _rows() -> list[Row]:
  mae, fcmae = "configs/mae_affectnet.py", "configs/fcmae_affectnet.py"
  models = (
    ("MAE ViT-B", f"{mae}:base", 1024, ()),
    ("MAE ViT-L", f"{mae}:large", 1024, ()),
    ("MAE ViT-H", f"{mae}:large", 512, ("model.name=mae_vit_huge_patch14",)),
    # 512 is the batch of the recipe of 400 epochs, 4096 that of 1600.
    ("FCMAE ConvNeXt V2-B", f"{fcmae}:base", 512, ()),
    ("FCMAE ConvNeXt V2-H", f"{fcmae}:huge", 512, ()),
  )
  rows = []
  for model, recipe, small, settings in models:
    for topology, batch in (("v5e:4x4", small), ("v5e:16x16", 4096), ("v6e:16x16", 4096)):
      rows.append(Row(model, recipe, topology, batch, settings))
      if (model, topology) in ALSO_SPLIT:
        rows.append(Row(model, recipe, topology, batch, (*settings, SPLIT)))
  return rows


ROWS = _rows()


def check(row: Row) -> dict[str, Any]:
  """Compiles a row and returns its figures.

  Args:
    row: the row.

  Returns:
    JSON values.

  Raises:
    RuntimeError: podcheck failed.
  """
  compiled = SMALL.get(row.topology, row.topology)
  chips = parse_topology(row.topology).chips
  batch = row.batch_size * parse_topology(compiled).chips // chips
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "check.json"
    command = [sys.executable, "-m", "jax_me", "podcheck", "--config", row.recipe]
    command += ["--topology", compiled, f"--json={file}", f"--config.batch_size={batch}"]
    done = subprocess.run(
      [*command, *(f"--config.{text}" for text in row.settings)],
      cwd=REPOSITORY,
      capture_output=True,
      text=True,
      check=False,
    )
    if not file.exists():
      raise RuntimeError(f"{row.key}: {done.stderr.strip()[-500:]}")
    return figures(json.loads(file.read_text(encoding="utf-8")), row.topology)


def figures(found: Mapping[str, Any], topology: str) -> dict[str, Any]:
  """The figures of a row.

  Args:
    found: JSON values of a pod check, of the slice or of 16 of its chips.
    topology: the slice.

  Returns:
    what is stored.
  """
  result = {
    "needed_bytes": found["needed_bytes"],
    "available_bytes": found["available_bytes"],
    "compiled": {"topology": found["topology"], **found["compiled"]},
  }
  if not found["fits"]:
    return result
  slice_ = parse_topology(topology)
  collectives = [
    Collective(
      one["kind"],
      slice_.chips
      if one["kind"] == "all-reduce" and one["group"] == found["chips"]
      else one["group"],
      one["count"],
      one["bytes"],
    )
    for one in found["work"]["collectives"]
  ]
  sent = sum(one.sent for one in collectives)
  hbm_bytes = found["work"]["hbm_bytes"]
  return {
    **result,
    "hbm_bytes": hbm_bytes,
    "sent_bytes": sent,
    "seconds_at_least": {
      "compute": found["work"]["flops"] / found["chips"] / slice_.chip.flops,
      "memory": hbm_bytes / slice_.chip.bandwidth,
      "interconnect": sent / slice_.chip.interconnect,
    },
  }


def table(stored: Mapping[str, Mapping[str, Any]]) -> str:
  """The Markdown table of the stored rows."""
  lines = [
    "| model | slice | batch | step, lower bound | efficiency | limit | HBM | sent | memory |",
    "|---|---|---|---|---|---|---|---|---|",
  ]
  for row in ROWS:
    found = stored.get(row.key)
    if found is None:
      continue
    memory = f"{found['needed_bytes'] / GIB:.1f} of {found['available_bytes'] / GIB:.1f} GiB"
    scaled = " †" if found["compiled"]["topology"] != row.topology else ""
    split = " ‡" if SPLIT in row.settings else ""
    cells = [row.model + split, row.topology + scaled, str(row.batch_size)]
    if "seconds_at_least" in found:
      bounds = found["seconds_at_least"]
      bound, limit = max((seconds, name) for name, seconds in bounds.items())
      cells += [f"{1e3 * bound:.1f} ms", f"{bounds['compute'] / bound:.0%}", LIMITS[limit]]
      cells += [f"{found['hbm_bytes'] / 1e9:.2f} GB", f"{found['sent_bytes'] / 1e9:.2f} GB"]
    else:
      cells += ["does not fit", "", "", "", ""]
    lines.append("| " + " | ".join([*cells, memory]) + " |")
  return "\n".join(lines) + "\n"


def with_table(text: str, stored: Mapping[str, Mapping[str, Any]]) -> str:
  """The text of the page with the table of the stored rows."""
  return TABLE.sub(lambda found: f"{found[1]}{table(stored)}\n{found[2]}", text)


def read_stored() -> dict[str, dict[str, Any]]:
  """{key of a row: figures}."""
  return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this text")
  args = parser.parse_args()
  stored = read_stored()
  for row in ROWS:
    if args.only not in row.key or row.key in stored:
      continue
    print(row.key, flush=True)
    stored[row.key] = check(row)
    write_atomically(RESULTS, (json.dumps(stored, indent=1) + "\n").encode())
  page = PAGE.read_text(encoding="utf-8")
  write_atomically(PAGE, with_table(page, stored).encode())


if __name__ == "__main__":
  main()
