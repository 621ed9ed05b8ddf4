"""Time of the kernel gradient of a dense 3x3 convolution on this CPU, in the forms that were tried.

  python benchmarks/convolution.py --output benchmarks/results/convolution.json

Milliseconds of processor time, the least of a few runs: less affected by other programs than the
wall clock. `lax` is XLA's own gradient, `in cache` that of `jax_me.models.convolution`, `products`
nine products of whole shifted images. `forward` is the convolution itself, for comparison.
"""

import argparse
import json
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jax_me.models.convolution import _convolve, _kernel_gradient  # noqa: E402

# (batch, side, channels, outputs): layers of shallow_resnet and shallow_cnn.
LAYERS = (
  (128, 24, 32, 32),
  (128, 12, 96, 96),
  (128, 6, 192, 192),
  (32, 28, 3, 32),
  (32, 14, 32, 64),
)


def processor_milliseconds(function: Callable, *arguments: jax.Array, repeats: int = 6) -> float:
  """The least processor time of a jitted call."""
  compiled = jax.jit(function)
  jax.block_until_ready(compiled(*arguments))
  times = []
  for _ in range(repeats):
    started = time.process_time()
    jax.block_until_ready(compiled(*arguments))
    times.append(time.process_time() - started)
  return round(1e3 * min(times), 2)


def products(x: jax.Array, gradient: jax.Array, kernel: jax.Array) -> jax.Array:
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


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, help="JSON file")
  args = parser.parse_args()
  rng = np.random.default_rng(0)
  rows = []
  for batch, side, channels, outputs in LAYERS:
    x, gradient, kernel = (
      jnp.asarray(rng.standard_normal(shape), jnp.float32)
      for shape in (
        (batch, side, side, channels),
        (batch, side, side, outputs),
        (3, 3, channels, outputs),
      )
    )

    def by_xla(x, gradient, kernel):
      return jax.vjp(lambda kernel: _convolve(x, kernel), kernel)[1](gradient)[0]

    rows.append(
      {
        "layer": f"{batch} x {side} x {side} x {channels} -> {outputs}",
        "forward": processor_milliseconds(_convolve, x, kernel),
        "lax": processor_milliseconds(by_xla, x, gradient, kernel),
        "in cache": processor_milliseconds(_kernel_gradient, x, gradient, kernel),
        "products": processor_milliseconds(products, x, gradient, kernel),
      }
    )
    print(rows[-1], flush=True)
  if args.output:
    args.output.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
  main()
