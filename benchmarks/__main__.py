"""Speed of the models beside timm, transformers and the originals, on the device that there is.

  pip install ".[bench]"
  python -m benchmarks                            # all rows
  python -m benchmarks --only vit_b_inference     # one row; the others stay as they are
  python -m benchmarks --originals DIR            # also those against clones in DIR, see below

All sides of a row run in one process in turns. Writes benchmarks/results/<device>.json and the
tables of docs/performance.md. On a CPU the computation is in float32, on a GPU in bfloat16. The
rows of T2T-ViT need a clone of https://github.com/yitu-opensource/T2T-ViT in DIR/T2T-ViT.

A CPU should be idle otherwise. Where it is not, set OMP_WAIT_POLICY=passive: threads of torch that
wait busily lose multiples of their time to other programs. The results say what was set, and how
much processor time other programs took.
"""

import argparse
import datetime
import gc
import json
import logging
import os
import pathlib
import sys
import tempfile
import warnings
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
# Torch shares the GPU with JAX.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from jax_me.freed_memory import keep_freed_memory, use_one_heap  # noqa: E402

use_one_heap()

import jax  # noqa: E402
import torch  # noqa: E402

import jax_me  # noqa: E402
from benchmarks.side_by_side import ours, theirs  # noqa: E402
from benchmarks.side_by_side.device import Device, find_device  # noqa: E402
from benchmarks.side_by_side.measurement import (  # noqa: E402
  OURS,
  measure,
  summarize,
)
from benchmarks.side_by_side.operations import operation_shares  # noqa: E402
from benchmarks.side_by_side.results import store  # noqa: E402
from benchmarks.side_by_side.rows import (  # noqa: E402
  CHANNELS_LAST,
  COMPILED,
  EAGER,
  ONNX_RUNTIME,
  ROWS,
  Row,
)
from benchmarks.side_by_side.side import Side, UnavailableError  # noqa: E402
from benchmarks.side_by_side.table import write_page  # noqa: E402
from jax_me.training.utilisation import peak_flops  # noqa: E402

WAIT_POLICY = "OMP_WAIT_POLICY"
BATCHES = {
  ("cpu", "inference"): (8,),
  ("cpu", "step"): (8,),
  ("gpu", "inference"): (1, 16, 64, 256),
  ("gpu", "step"): (32, 128, 256),
}


def main() -> None:
  parser = argparse.ArgumentParser(
    prog="python -m benchmarks",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
  parser.add_argument("--originals", type=pathlib.Path, help="folder with clones of originals")
  parser.add_argument("--batch", nargs="+", type=int, help="numbers of images")
  parser.add_argument("--seconds", type=float, default=60.0, help="of timing per row and batch")
  parser.add_argument("--dry-run", action="store_true", help="print, do not write")
  args = parser.parse_args()
  device = find_device()
  if device.platform not in ("cpu", "gpu"):
    parser.error(f"the peers run on CPUs and NVIDIA GPUs, not on {device.name}")
  warnings.simplefilter("ignore")  # Those of other projects.
  logging.getLogger("torch.onnx").setLevel(logging.ERROR)
  with tempfile.TemporaryDirectory() as cache:
    # Without what an earlier process compiled, so that the compile times can be compared.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
    for name in args.only or ROWS:
      row = ROWS[name]
      for batch in args.batch or BATCHES[device.platform, row.work]:
        measured = measure_row(row, batch, device, args)
        print(f"{name}, batch {batch}: {json.dumps(measured, indent=1)}", flush=True)
        if not args.dry_run:
          store(device, name, batch, measured)
  if not args.dry_run:
    write_page()


def measure_row(row: Row, batch: int, device: Device, args: argparse.Namespace) -> dict[str, Any]:
  """Builds all sides of a row and times them.

  Args:
    row: the work.
    batch: number of images.
    device: to measure.
    args: of the command line.

  Returns:
    What the JSON file has of it: `skipped` {form: reason} alone where the peer is missing.

  Raises:
    ValueError: the sides have different numbers of trained values.
  """
  forms = [EAGER, COMPILED]
  forms += [CHANNELS_LAST] if row.channels_last else []
  forms += [ONNX_RUNTIME] if row.work == "inference" and device.platform == "cpu" else []
  sides: dict[str, Side] = {}
  skipped: dict[str, str] = {}
  gc.collect()
  torch.cuda.empty_cache()
  for form in forms:
    torch._dynamo.reset()
    try:
      sides[form], source = theirs.build(row, form, batch, device.dtype, args.originals)
    except UnavailableError as error:
      skipped[form] = str(error)
      if form == EAGER:
        return {"skipped": skipped}
  sides[OURS] = ours.build(row, batch, device.dtype)
  if len({side.parameters for side in sides.values()}) != 1:
    counts = {name: side.parameters for name, side in sides.items()}
    raise ValueError(f"{row.name}: the sides differ in trained values: {counts}")

  # As the training commands do, for all sides, and the rows after this one.
  kept = row.work == "step" and device.platform == "cpu" and keep_freed_memory()
  turns = measure({name: side.run for name, side in sides.items()}, args.seconds)
  measured: dict[str, Any] = {
    "peer": source,
    "versions": {"jax_me": jax_me.__version__, "jax": jax.__version__, "torch": torch.__version__},
    "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    "parameters": sides[OURS].parameters,
    **({"omp_wait_policy": os.environ[WAIT_POLICY]} if WAIT_POLICY in os.environ else {}),
    **({"freed_memory_kept": True} if kept else {}),
    **summarize(turns, batch, on_cpu=device.platform == "cpu"),
    "compile_seconds": {
      name: round(side.compile_seconds, 1)
      for name, side in sides.items()
      if side.compile_seconds is not None
    },
    "program": sides[OURS].program,
    "operations": operation_shares(sides[OURS].run, sides[OURS].text()),
  }
  peak = peak_flops(device.name)
  if peak:
    speed = measured["images_per_second"][OURS] / batch
    measured["mfu"] = round(speed * sides[OURS].program["product_flops"] / peak, 4)
  return measured | ({"skipped": skipped} if skipped else {})


if __name__ == "__main__":
  main()
