"""Speed of the depthwise 7x7 convolution: this project's implementation against the library's.

  python benchmarks/depthwise.py [--batch 8] [--sizes atto tiny] [--pixels 112 224] [--runs 5]

For each ConvNeXt V2 size and image size, prints the time in milliseconds of one forward pass and
of one training step (loss and all gradients) of the whole network with three implementations of
the depthwise convolution: `lax.conv_general_dilated`; a sum of 49 shifted products with automatic
differentiation; and the implementation that jax_me uses on this platform, with custom gradients.
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from jax_me.models import convnext_v2, depthwise  # noqa: E402


def library_conv(x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    (1, 1),
    "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[-1],
  )


def shifted_sum(x, kernel):
  height, width = x.shape[1:3]
  padded = jnp.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)))
  return sum(
    padded[:, i : i + height, j : j + width] * kernel[i, j] for i in range(7) for j in range(7)
  )


FORMS = {
  "library": library_conv,
  "shifted": shifted_sum,
  "jax_me": depthwise.depthwise_conv,
}


def compiled(form, size, pixels, batch):
  """Returns (forward, step) as compiled functions without arguments."""
  convnext_v2.depthwise_conv = FORMS[form]
  model = convnext_v2.CONVNEXTV2_MODELS[f"convnextv2_{size}"]
  # The values of the weights do not affect the time; zeros avoid compiling the initialisers.
  graphdef, abstract = nnx.split(nnx.eval_shape(lambda: model(num_classes=7, rngs=nnx.Rngs(0))))
  params = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), abstract)
  images = jnp.asarray(np.random.default_rng(0).random((batch, pixels, pixels, 3), np.float32))

  def forward(params, images):
    return nnx.merge(graphdef, params)(images)

  def step(params, images):
    return jax.value_and_grad(lambda p: jnp.mean(forward(p, images) ** 2))(params)

  calls = [jax.jit(f).lower(params, images).compile() for f in (forward, step)]
  return [lambda call=call: jax.block_until_ready(call(params, images)) for call in calls]


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--sizes", nargs="+", default=["atto", "tiny"])
  parser.add_argument("--pixels", nargs="+", type=int, default=[112, 224])
  parser.add_argument("--runs", type=int, default=5, help="timed runs; the fastest is reported")
  args = parser.parse_args()
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, batch {args.batch}")
  for size in args.sizes:
    for pixels in args.pixels:
      calls = {form: compiled(form, size, pixels, args.batch) for form in FORMS}
      best = {form: [float("inf")] * 2 for form in FORMS}
      for _ in range(args.runs + 1):  # interleaved, so that other load affects all alike
        for form, pair in calls.items():
          for number, call in enumerate(pair):
            start = time.perf_counter()
            call()
            best[form][number] = min(best[form][number], time.perf_counter() - start)
      for form, (forward, step) in best.items():
        print(
          f"convnextv2_{size} {pixels} px {form:8} "
          f"forward {forward * 1e3:8.1f} ms  step {step * 1e3:8.1f} ms",
          flush=True,
        )


if __name__ == "__main__":
  main()
