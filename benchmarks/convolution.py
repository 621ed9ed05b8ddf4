"""Speed of a dense 3x3 convolution and its gradients on this CPU, inside and outside a loop.

  python benchmarks/convolution.py --output benchmarks/results/convolution.json

GFLOP/s of each form, the median of a few runs, as XLA compiles programs by default and with the
options of `jax_me.models.compiler_options`. "loop" is one of three, one after the other in one
program, as the folds of a cross-validation are. `lax` are XLA's own gradients, `ours` those of
`jax_me.models.convolution`, `products` a kernel gradient of nine matrix products with the shifted
images. The last column is a matrix product of the same number of operations.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jax_me.models.compiler_options import compiler_options  # noqa: E402
from jax_me.models.convolution import _gradients, _xla_gradients  # noqa: E402

# (batch, side, channels, outputs): layers of shallow_resnet and shallow_cnn.
LAYERS = (
  (128, 24, 32, 32),
  (128, 12, 96, 96),
  (128, 6, 192, 192),
  (64, 28, 3, 32),
  (64, 14, 32, 64),
)
LOOP = 3


def products(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
  """Kernel gradient by one product for each of the nine shifts of all images."""
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  flat = gradient.reshape(-1, gradient.shape[-1])
  taps = [
    padded[:, i : i + height, j : j + width].reshape(-1, x.shape[-1]).T @ flat
    for i in range(3)
    for j in range(3)
  ]
  return jnp.stack(taps).reshape(kernel.shape)


FORMS: dict[str, Callable[[jax.Array, jax.Array, jax.Array], jax.Array]] = {
  "forward": lambda x, kernel, _: lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  ),
  "input gradient, lax": lambda *arrays: _xla_gradients(*arrays)[0],
  "input gradient, ours": lambda *arrays: _gradients(*arrays)[0],
  "kernel gradient, lax": lambda *arrays: _xla_gradients(*arrays)[1],
  "kernel gradient, ours": lambda *arrays: _gradients(*arrays)[1],
  "kernel gradient, products": products,
}


def seconds(function: Callable, options: dict | None, *arrays: jax.Array, repeats: int) -> float:
  """Median time of a jitted call."""
  compiled = jax.jit(function, compiler_options=options)
  jax.block_until_ready(compiled(*arrays))
  times = []
  for _ in range(repeats):
    started = time.perf_counter()
    jax.block_until_ready(compiled(*arrays))
    times.append(time.perf_counter() - started)
  return statistics.median(times)


def measure(
  layer: tuple[int, int, int, int], options: dict | None, repeats: int
) -> dict[str, float]:
  """GFLOP/s of each form, outside and inside a loop."""
  batch, side, channels, outputs = layer
  rng = np.random.default_rng(0)
  arrays = [
    jnp.asarray(rng.standard_normal(shape), jnp.float32)
    for shape in (
      (batch, side, side, channels),
      (3, 3, channels, outputs),
      (batch, side, side, outputs),
    )
  ]
  stacked = [jnp.stack([array] * LOOP) for array in arrays]
  operations = 2e-9 * batch * side**2 * 9 * channels * outputs
  found = {}
  for name, form in FORMS.items():
    looped = lambda *all, form=form: lax.map(lambda each: form(*each), all)  # noqa: E731
    found[name] = operations / seconds(form, options, *arrays, repeats=repeats)
    found[f"{name}, loop"] = LOOP * operations / seconds(looped, options, *stacked, repeats=1)
  columns, weights = jnp.ones((batch * side**2, 9 * channels)), jnp.ones((9 * channels, outputs))
  found["matrix product"] = operations / seconds(
    jnp.matmul, options, columns, weights, repeats=repeats
  )
  return {name: round(value, 1) for name, value in found.items()}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, help="JSON file")
  parser.add_argument("--repeats", type=int, default=5)
  args = parser.parse_args()
  ours = compiler_options("cpu")
  rows = []
  for layer in LAYERS:
    batch, side, channels, outputs = layer
    row: dict = {"layer": f"{batch} x {side} x {side} x {channels} -> {outputs}"}
    for title, options in (("default", None), ("compiler_options", ours)):
      row[title] = measure(layer, options, args.repeats)
    rows.append(row)
    print(json.dumps(row, indent=1), flush=True)
  result = {"jax": jax.__version__, "options": ours, "GFLOP/s": rows}
  if args.output:
    args.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
  main()
