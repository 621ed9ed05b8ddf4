"""Speed of FCMAE: a pre-training step on the visible sites only against the masked dense form.

  python benchmarks/fcmae.py [--size atto] [--batch 8] [--runs 5]

The masked dense form computes every site of every image and sets the masked ones to zero. It is
measured twice: as implemented in tests/helpers/fcmae_reference.py, with the library's depthwise
convolution, and with the depthwise convolution of jax_me, so that the visible sites are the only
difference.
"""

import argparse
import pathlib
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.models.depthwise import depthwise_conv  # noqa: E402
from jax_me.models.fcmae import FCMAE_MODELS  # noqa: E402
from tests.helpers import fcmae_reference  # noqa: E402


def visible_loss(model, images, noise):
  return model(images, noise=noise).loss


def masked_dense_loss(model, images, noise):
  return fcmae_reference.masked_dense_loss(model, images, noise)[0]


def compiled(loss, graphdef, params, images, noise):
  step = jax.jit(jax.value_and_grad(lambda p, x, n: loss(nnx.merge(graphdef, p), x, n)))
  call = step.lower(params, images, noise).compile()
  temporary = call.memory_analysis().temp_size_in_bytes / 2**20
  return (lambda: jax.block_until_ready(call(params, images, noise))), temporary


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--size", default="atto")
  parser.add_argument("--batch", type=int, default=8)
  parser.add_argument("--runs", type=int, default=5, help="timed runs; the fastest is reported")
  args = parser.parse_args()
  model = FCMAE_MODELS[f"fcmae_convnextv2_{args.size}"]
  graphdef, abstract = nnx.split(nnx.eval_shape(lambda: model(rngs=nnx.Rngs(0))))
  # The values of the weights do not affect the time. Zeros would make the plain GRN divide by zero.
  params = jax.tree.map(lambda a: jnp.full(a.shape, 0.01, a.dtype), abstract)
  rng = np.random.default_rng(0)
  images = jnp.asarray(rng.random((args.batch, 224, 224, 3), np.float32))
  noise = jnp.asarray(rng.random((args.batch, 49), np.float32))
  batch = graphdef, params, images, noise

  calls = {"visible sites": compiled(visible_loss, *batch)}
  calls["masked dense, library conv"] = compiled(masked_dense_loss, *batch)
  fcmae_reference.depthwise = lambda x, layer: (
    depthwise_conv(x, layer.kernel[...]) + layer.bias[...]
  )
  calls["masked dense, jax_me conv"] = compiled(masked_dense_loss, *batch)
  best = dict.fromkeys(calls, float("inf"))
  for _ in range(args.runs + 1):  # interleaved, so that other load affects all alike
    for name, (call, _) in calls.items():
      start = time.perf_counter()
      call()
      best[name] = min(best[name], time.perf_counter() - start)
  print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {args.size}, batch {args.batch}")
  for name, seconds in best.items():
    ratio = seconds / best["visible sites"]
    print(f"{name:27} {seconds * 1e3:8.1f} ms ({ratio:.2f}x)  {calls[name][1]:8.0f} MiB temporary")


if __name__ == "__main__":
  main()
