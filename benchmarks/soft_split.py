"""The windows of T2T-ViT's soft splits: slices, a convolution with an identity kernel, and none.

  python -m benchmarks.soft_split [--only error cpu tpu]

Three comparisons, stored in benchmarks/results/soft_split.json:

- tpu: HBM traffic, temporary memory and XLA's estimate of cycles of the tokens-to-token module of
  T2T-ViT-14 (bfloat16, 32 images of 224 pixels), compiled for one v5e chip with slices and with the
  convolution. Needs libtpu but no TPU.
- cpu: time of the convolution over that of the slices on this machine, for windows, layer norm and
  linear map of the first two soft splits, in turns, medians.
- error: layer norm and linear map of the first soft split, with windows, and from convolutions of
  the image alone (the kernel; ones for mean and variance), against float64. The image has a border
  of one value, as an aligned face has.
"""

import argparse
import json
import pathlib
import re
import statistics
from collections.abc import Callable
from unittest import mock

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.side_by_side.measurement import measure
from configs.families import IMAGENET_MEAN, IMAGENET_STD
from jax_me.models import t2t_tokens
from jax_me.podcheck.compiled_step import count_traffic
from jax_me.podcheck.pod_check import topology_devices
from jax_me.training.chips import parse_topology

RESULT = pathlib.Path(__file__).resolve().parent / "results/soft_split.json"
WINDOWS = {
  "slices": t2t_tokens._windows_by_slices,
  "convolution": t2t_tokens._windows_by_convolution,
}
EMBED_DIM, TOKEN_DIM = 384, 64  # Of T2T-ViT-14.
WIDTH = 3 * TOKEN_DIM  # Of keys, queries and values.
BATCH = 32  # Of the programs for a TPU.
CPU_BATCH, SECONDS = 8, 10.0
EPSILON = t2t_tokens.NORM_EPSILON


def main() -> None:
  measures: dict[str, Callable[[], dict]] = {
    "error": errors,
    "cpu": cpu_ratios,
    "tpu": tpu_programs,
  }
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", nargs="+", choices=measures, default=list(measures))
  args = parser.parse_args()
  result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
  result["jax"] = jax.__version__
  for name in args.only:
    result[name] = measures[name]()
    print(name, json.dumps(result[name], indent=1), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def tpu_programs() -> dict[str, dict[str, dict[str, float]]]:
  """Figures of the programs for one v5e chip."""
  device = topology_devices(parse_topology("v5e:2x2"))[0]
  place = jax.sharding.SingleDeviceSharding(device)
  module = nnx.eval_shape(
    lambda: t2t_tokens.TokensToToken(
      tokens_type="performer",
      embed_dim=EMBED_DIM,
      token_dim=TOKEN_DIM,
      strides=t2t_tokens.STRIDES,
      drop_rate=0.0,
      remat=False,
      dtype=jnp.bfloat16,
      param_dtype=jnp.float32,
      rngs=nnx.Rngs(0),
    )
  )
  graph, state = nnx.split(module)
  state = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), state)
  images = jax.ShapeDtypeStruct((BATCH, 224, 224, 3), jnp.bfloat16, sharding=place)

  def loss(state, images):
    return jnp.mean(jnp.square(nnx.merge(graph, state)(images).astype(jnp.float32)))

  result: dict[str, dict[str, dict[str, float]]] = {}
  for form, windows in WINDOWS.items():
    for work in ("forward", "gradients"):
      # Another function for each form: jit would reuse the program of the first.
      function = jax.grad(loss, allow_int=True) if work == "gradients" else lambda *a: loss(*a)
      with mock.patch.object(t2t_tokens, "soft_split", windows):
        compiled = jax.jit(function).lower(state, images).compile()
      text, memory = compiled.as_text(), compiled.memory_analysis()
      assert text is not None and memory is not None
      result.setdefault(form, {})[work] = {
        "HBM GB": round(count_traffic(text, 1).hbm_bytes / 1e9, 3),
        "temporary MB": round(memory.temp_size_in_bytes / 1e6, 1),
        "million cycles": round(
          sum(map(int, re.findall(r'estimated_cycles":"(\d+)', text))) / 1e6, 2
        ),
      }
  return result


def normalised(tokens: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
  """Layer norm in the dtype of `tokens`."""
  mean = tokens.mean(-1, keepdims=True)
  variance = jnp.square(tokens - mean).mean(-1, keepdims=True)
  return (tokens - mean) * jax.lax.rsqrt(variance + EPSILON) * scale + bias


def repeated(program: Callable, arrays: list[jax.Array]) -> Callable[[int], None]:
  """The compiled program, to be executed a number of times."""
  jax.block_until_ready(program(*arrays))

  def run(times: int) -> None:
    for _ in range(times):
      jax.block_until_ready(program(*arrays))

  return run


def cpu_ratios() -> dict[str, dict[str, float]]:
  """Time of the convolution over that of the slices."""
  splits = t2t_tokens.soft_splits()
  random = np.random.default_rng(0)
  result: dict[str, dict[str, float]] = {}
  for split, channels, side in ((splits[0], 3, 224), (splits[1], TOKEN_DIM, 56)):
    width = channels * split[0] ** 2
    shapes = (CPU_BATCH, side, side, channels), (width,), (width,), (width, WIDTH)
    arrays = [jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes]
    programs: dict[str, dict[str, Callable[[int], None]]] = {"forward": {}, "gradients": {}}
    for form, windows in WINDOWS.items():

      def forward(x, scale, bias, kernel, windows=windows, split=split):
        return normalised(windows(x, *split), scale, bias) @ kernel

      def loss(*arrays, forward=forward):
        return jnp.square(forward(*arrays)).sum()

      gradients = jax.grad(loss, argnums=(0, 1, 2, 3))
      programs["forward"][form] = repeated(jax.jit(forward), arrays)
      programs["gradients"][form] = repeated(jax.jit(gradients), arrays)
    for work, runs in programs.items():
      turns = measure(runs, SECONDS)
      ratios = [turn.seconds["convolution"] / turn.seconds["slices"] for turn in turns]
      result.setdefault(f"{split[0]} x {split[0]} windows of {channels} channels", {})[work] = (
        round(statistics.median(ratios), 2)
      )
  return result


def without_windows(x, scale, bias, kernel, split: tuple[int, int, int]) -> jax.Array:
  """Layer norm of each window and a linear map, from convolutions of the image."""
  size, stride, padding = split
  channels = x.shape[-1]
  count = channels * size**2
  mapped = (scale[:, None] * kernel).reshape(channels, size, size, -1).transpose(1, 2, 0, 3)

  def convolve(image, kernel):
    return jax.lax.conv_general_dilated(
      image,
      kernel,
      (stride, stride),
      ((padding, padding), (padding, padding)),
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      precision=jax.lax.Precision.HIGHEST,
    )

  ones = jnp.ones((size, size, channels, 1), x.dtype)
  mean = convolve(x, ones) / count
  variance = jnp.maximum(convolve(x * x, ones) / count - mean * mean, 0)
  values = convolve(x, mapped) - mean * mapped.sum((0, 1, 2))
  values = values * jax.lax.rsqrt(variance + EPSILON) + bias @ kernel
  return values.reshape(len(x), -1, values.shape[-1])


def errors() -> dict[str, dict[str, float]]:
  """Largest error of the first soft split's layer norm and linear map."""
  split = t2t_tokens.soft_splits()[0]
  width = 3 * split[0] ** 2
  random = np.random.default_rng(0)
  kernel = random.normal(0, 0.06, (width, WIDTH))
  scale = 1 + 0.1 * random.normal(size=width)
  bias = 0.1 * random.normal(size=width)
  image = cv2.GaussianBlur(random.random((224, 224, 3)), (0, 0), 6)
  image = (image - image.min()) / (image.max() - image.min())
  image[:, :40], image[:40] = 0, 250 / 255
  image = (np.round(image * 255) / 255 - IMAGENET_MEAN) / IMAGENET_STD  # Rounded to 8 bits.
  arrays = (image[None], scale, bias, kernel)

  def with_windows(x, scale, bias, kernel, split):
    return normalised(t2t_tokens.soft_split(x, *split), scale, bias) @ kernel

  result: dict[str, dict[str, float]] = {}
  with jax.enable_x64(True):
    expected = with_windows(*map(jnp.asarray, arrays), split)
    for name, function in (("windows", with_windows), ("without windows", without_windows)):
      for dtype in (jnp.float32, jnp.bfloat16):
        found = function(*(jnp.asarray(a, dtype) for a in arrays), split)
        error = abs(found.astype(jnp.float64) - expected).max()
        result.setdefault(name, {})[jnp.dtype(dtype).name] = float(f"{float(error):.2g}")
  return result


if __name__ == "__main__":
  main()
