"""Lower bounds of pre-training steps on TPU slices, from `podcheck`; the table of distributed.md.

  python -m benchmarks.pod_table [--only TEXT] [--scale] [--again]

A row compiles for minutes, in a process of its own. After each, benchmarks/results/pod_table.json
and the table are written, so an interrupted call continues with the missing rows. `--scale`
compiles rows of 256 chips for 16 chips with as many images on each, and adds the sum of the
gradients between groups of 16 chips. Such rows are marked, and a later call without the flag
replaces them.
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
FSDP = 16  # Chips that share parameters and optimiser state.
LIMITS = {"compute": "arithmetic", "memory": "HBM", "interconnect": "interconnect"}


@dataclasses.dataclass(frozen=True)
class Row:
  """One line of the table.

  Attributes:
    model: as in the table.
    recipe: for `--config`.
    settings: further overrides of the recipe.
    topology: the slice.
    batch_size: of all chips.
  """

  model: str
  recipe: str
  settings: tuple[str, ...]
  topology: str
  batch_size: int

  @property
  def key(self) -> str:
    return f"{self.model}, {self.topology}, batch {self.batch_size}"


def _rows() -> list[Row]:
  mae, fcmae = "configs/mae_affectnet.py", "configs/fcmae_affectnet.py"
  models = (
    ("MAE ViT-B", f"{mae}:base", (), 1024),
    ("MAE ViT-L", f"{mae}:large", (), 1024),
    ("MAE ViT-H", f"{mae}:large", ("--config.model.name=mae_vit_huge_patch14",), 512),
    # 512 is the batch of the recipe of 400 epochs, 4096 that of 1600.
    ("FCMAE ConvNeXt V2-B", f"{fcmae}:base", (), 512),
    ("FCMAE ConvNeXt V2-H", f"{fcmae}:huge", (), 512),
  )
  return [
    Row(model, recipe, settings, topology, batch)
    for model, recipe, settings, small in models
    for topology, batch in (("v5e:4x4", small), ("v5e:16x16", 4096), ("v6e:16x16", 4096))
  ]


ROWS = _rows()


def check(row: Row, scale: bool) -> dict[str, Any]:
  """Compiles a row and returns its figures.

  Args:
    row: the row.
    scale: compile slices of 256 chips as 16 chips.

  Returns:
    JSON values.

  Raises:
    RuntimeError: podcheck failed.
  """
  chips = parse_topology(row.topology).chips
  compiled = SMALL.get(row.topology, row.topology) if scale else row.topology
  batch = row.batch_size * parse_topology(compiled).chips // chips
  with tempfile.TemporaryDirectory() as folder:
    file = pathlib.Path(folder) / "check.json"
    command = [sys.executable, "-m", "jax_me", "podcheck", "--config", row.recipe]
    command += ["--topology", compiled, f"--json={file}", f"--config.batch_size={batch}"]
    command += [f"--config.mesh.fsdp={FSDP}"]
    done = subprocess.run(
      [*command, *row.settings], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    if not file.exists():
      raise RuntimeError(f"{row.key}: {done.stderr.strip()[-500:]}")
    found = json.loads(file.read_text(encoding="utf-8"))
  return figures(found, row.topology)


def figures(found: Mapping[str, Any], topology: str) -> dict[str, Any]:
  """The figures of a row.

  Args:
    found: JSON values of a pod check, of the slice or of a smaller one.
    topology: the slice.

  Returns:
    what is stored.
  """
  result = {
    "fits": found["fits"],
    "needed_bytes": found["needed_bytes"],
    "available_bytes": found["available_bytes"],
    "compiled": {"topology": found["topology"], **found["compiled"]},
  }
  if found["work"] is None:
    return result
  chips, chip = parse_topology(topology).chips, parse_topology(topology).chip
  collectives = [
    Collective(**{name: one[name] for name in ("kind", "group", "count", "bytes")})
    for one in found["work"]["collectives"]
  ]
  if chips > found["chips"]:
    # The sum of the gradients over the groups of chips; in float32 they are as large as parameters.
    groups = chips // found["chips"]
    collectives.append(Collective("all-reduce", groups, 1, found["memory"]["parameters"]))
  sent = sum(one.sent for one in collectives)
  per_chip = {
    "flops": found["work"]["flops"] / found["chips"],
    "hbm_bytes": found["work"]["hbm_bytes"],
    "sent_bytes": sent,
  }
  seconds = {
    "compute": per_chip["flops"] / chip.flops,
    "memory": per_chip["hbm_bytes"] / chip.bandwidth,
    "interconnect": sent / chip.interconnect,
  }
  return {
    **result,
    "per_chip": per_chip,
    "collectives": [dataclasses.asdict(one) for one in collectives],
    "seconds_at_least": seconds,
  }


def table(stored: Mapping[str, Mapping[str, Any]]) -> str:
  """The Markdown table of the stored rows."""
  lines = [
    "| model | slice | batch | step, lower bound | efficiency | limit | HBM traffic | memory |",
    "|---|---|---|---|---|---|---|---|",
  ]
  scaled = False
  for row in ROWS:
    found = stored.get(row.key)
    if found is None:
      continue
    memory = f"{found['needed_bytes'] / GIB:.1f} of {found['available_bytes'] / GIB:.1f} GiB"
    small = found["compiled"]["topology"] != row.topology
    scaled |= small
    name = f"| {row.model} | {row.topology}{' †' if small else ''} | {row.batch_size} |"
    if "per_chip" not in found:
      lines.append(f"{name} does not fit | | | | {memory} |")
      continue
    seconds = found["seconds_at_least"]
    bound, limit = max((value, name) for name, value in seconds.items())
    lines.append(
      f"{name} {1e3 * bound:.1f} ms | {seconds['compute'] / bound:.0%} | {LIMITS[limit]} "
      f"| {found['per_chip']['hbm_bytes'] / 1e9:.1f} GB | {memory} |"
    )
  if scaled:
    lines += ["", "† Scaled from 16 chips with as many images on each."]
  return "\n".join(lines) + "\n"


def with_table(text: str, stored: Mapping[str, Mapping[str, Any]]) -> str:
  """The text of the page with the table of the stored rows."""
  return TABLE.sub(lambda found: f"{found[1]}{table(stored)}\n{found[2]}", text)


def read_stored(path: pathlib.Path = RESULTS) -> dict[str, dict[str, Any]]:
  """{key of a row: figures}."""
  return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def main() -> None:
  parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
  parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name has this text")
  parser.add_argument("--scale", action="store_true", help="compile 256 chips as 16")
  parser.add_argument("--again", action="store_true", help="also rows that are stored")
  args = parser.parse_args()
  stored = read_stored()
  for row in ROWS:
    old = stored.get(row.key)
    exact = old is not None and old["compiled"]["topology"] == row.topology
    if args.only not in row.key or (old and not args.again and (exact or args.scale)):
      continue
    print(row.key, flush=True)
    stored[row.key] = check(row, args.scale)
    ordered = {each.key: stored[each.key] for each in ROWS if each.key in stored}
    write_atomically(RESULTS, (json.dumps(ordered, indent=1) + "\n").encode())
    page = PAGE.read_text(encoding="utf-8")
    write_atomically(PAGE, with_table(page, ordered).encode())


if __name__ == "__main__":
  main()
