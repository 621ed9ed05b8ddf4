"""ConvNeXt V2 classifiers (arXiv:2301.00808): atto to huge.

Parameter paths are those of the original code: `downsample_layers.0.0` is the stem's convolution,
`stages.<stage>.<block>.dwconv` a depthwise convolution, and so on.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.batch_slices import in_slices, slice_images
from jax_me.models.block_stack import run_stack
from jax_me.models.convolution import PatchConvolution
from jax_me.models.depthwise import depthwise_conv
from jax_me.models.layers import (
  along_channels,
  at_least_float32,
  drop_path,
  dropout_key,
  gelu,
  split_or_none,
  stop_fusion,
)
from jax_me.models.patches import torch_uniform
from jax_me.models.transformer import layer_norm, stochastic_depth_rates
from jax_me.models.visible_patches import VisiblePatches

EPSILON = 1e-6

# timm truncates N(0, 0.02) at +-2, a hundred standard deviations: effectively untruncated.
NORMAL_INIT = nnx.initializers.normal(0.02)


class GlobalResponseNorm(nnx.Module):
  """Global response normalization, GRN (arXiv:2301.00808, section 3.3)."""

  def __init__(self, dim: int, *, dtype: DTypeLike, param_dtype: DTypeLike):
    self.gamma = nnx.Param(jnp.zeros((1, 1, 1, dim), param_dtype))
    self.beta = nnx.Param(jnp.zeros((1, 1, 1, dim), param_dtype))
    self.dtype = at_least_float32(dtype)

  def __call__(self, x: jax.Array, *, over_batch: bool = False) -> jax.Array:
    """[B, ..., C] -> [B, ..., C] in x's dtype, computed in at least float32.

    With `over_batch` the norm of a channel is taken over all images instead of over each image.
    """
    wide = x.astype(self.dtype)
    squares = jnp.sum(wide**2, axis=tuple(range(0 if over_batch else 1, x.ndim - 1)), keepdims=True)
    # For an all-zero channel the norm and its gradient are 0; sqrt alone would give a NaN gradient.
    zero = squares == 0
    norm = jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))
    divided = norm / (jnp.mean(norm, axis=-1, keepdims=True) + EPSILON)
    gamma, beta = (along_channels(p[...].astype(self.dtype), wide) for p in (self.gamma, self.beta))
    # The paper's gamma * (x * divided) + beta + x, with fewer operations on the whole of x.
    return (wide * (gamma * divided + 1) + beta).astype(x.dtype)


class DepthwiseConv(nnx.Module):
  """7x7 depthwise convolution with bias; [B, H, W, C] -> [B, H, W, C]."""

  def __init__(
    self,
    dim: int,
    *,
    kernel_init: Callable,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    self.kernel = nnx.Param(kernel_init(rngs.params(), (7, 7, 1, dim), param_dtype))
    self.bias = nnx.Param(jnp.zeros((dim,), param_dtype))
    self.dtype = dtype

  def __call__(self, x: jax.Array) -> jax.Array:
    x, kernel, bias = (a.astype(self.dtype) for a in (x, self.kernel[...], self.bias[...]))
    # On CPU the norm that follows would compute the convolution twice.
    return stop_fusion(depthwise_conv(x, kernel) + along_channels(bias, x))


class ConvNeXtV2Block(nnx.Module):
  """Residual block: depthwise 7x7, norm, C -> 4C, GELU, GRN, 4C -> C.

  Args:
    dim: channels.
    drop_path_rate: probability of dropping the residual branch, per sample.
    kernel_init: initialiser of all kernels; biases and GRN start at zero.
    torch_linear: initialise the two linear layers with torch's default instead.
  """

  def __init__(
    self,
    dim: int,
    *,
    drop_path_rate: float = 0.0,
    kernel_init: Callable = NORMAL_INIT,
    torch_linear: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    def linear(inputs: int, outputs: int) -> nnx.Linear:
      uniform = torch_uniform(inputs)
      return nnx.Linear(
        inputs,
        outputs,
        kernel_init=uniform if torch_linear else kernel_init,
        bias_init=uniform if torch_linear else nnx.initializers.zeros,
        **common,
      )

    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.dwconv = DepthwiseConv(dim, kernel_init=kernel_init, **common)
    self.norm = layer_norm(dim, epsilon=EPSILON, **common)
    self.pwconv1 = linear(dim, 4 * dim)
    self.grn = GlobalResponseNorm(4 * dim, dtype=dtype, param_dtype=param_dtype)
    self.pwconv2 = linear(4 * dim, dim)
    self.dim = dim
    self.drop_path_rate = drop_path_rate
    self.dtype = dtype

  def __call__(
    self,
    x: jax.Array,
    key: jax.Array | None = None,
    visible: VisiblePatches | None = None,
    grn_over_batch: bool = False,
  ) -> jax.Array:
    """Applies the block.

    Args:
      x: [B, H, W, C], or [B, V, p, p, C] when `visible` is given.
      key: PRNG key of stochastic depth; None means deterministic.
      visible: grid positions of the V patches; removed sites are zero in the convolution.
      grn_over_batch: see `GlobalResponseNorm`.

    Returns:
      Array of x's shape and dtype.
    """
    if visible is None:
      y = self.dwconv(x)
    else:
      y = visible.from_grid(self.dwconv(visible.to_grid(x)))
    y = self.pwconv1(self.norm(y).astype(self.dtype))
    y = self.grn(gelu(y), over_batch=grn_over_batch)
    return x + drop_path(self.pwconv2(y), self.drop_path_rate, key)


class ConvNeXtV2Encoder(nnx.Module):
  """Stem, four stages and downsampling layers; shared by the classifier and FCMAE.

  Args:
    depths: blocks of each of the four stages.
    dims: channels of each stage.
    stem_stride: side and stride of the stem's patches, 4 in the original; 2 for small images.
    drop_path_rate: stochastic depth of the last block; rises linearly from 0 at the first.
    kernel_init: initialiser of all kernels except the downsampling layers', which are N(0, .02).
    remat: recompute each block in the backward pass, to save memory.
    scan: run the blocks of a stage as one loop that compiles once, see `run_stack`.
    dtype: compute dtype; norms use at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    depths: Sequence[int],
    dims: Sequence[int],
    stem_stride: int = 4,
    drop_path_rate: float = 0.0,
    kernel_init: Callable = NORMAL_INIT,
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if len(depths) != 4 or len(dims) != 4:
      raise ValueError(f"ConvNeXt V2 has four stages, got {depths=} and {dims=}")
    if stem_stride < 1:
      raise ValueError(f"stem_stride must be at least 1, got {stem_stride}")
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)

    def conv(inputs: int, outputs: int, size: int, init: Callable) -> PatchConvolution:
      return PatchConvolution(inputs, outputs, size, kernel_init=init, **common)

    self.stem_stride = stem_stride
    stem = [
      conv(3, dims[0], stem_stride, kernel_init),
      layer_norm(dims[0], epsilon=EPSILON, **common),
    ]
    downsampling = [
      [layer_norm(narrow, epsilon=EPSILON, **common), conv(narrow, wide, 2, NORMAL_INIT)]
      for narrow, wide in zip(dims[:-1], dims[1:], strict=True)
    ]
    self.downsample_layers = nnx.List(nnx.List(layers) for layers in [stem, *downsampling])
    rates = iter(stochastic_depth_rates(drop_path_rate, sum(depths)))
    self.stages = nnx.List(
      nnx.List(
        ConvNeXtV2Block(dim, drop_path_rate=next(rates), kernel_init=kernel_init, **common)
        for _ in range(depth)
      )
      for depth, dim in zip(depths, dims, strict=True)
    )
    self.remat = remat
    self.scan = scan
    self.dtype = dtype

  def run_stages(
    self,
    x: jax.Array,
    key: jax.Array | None = None,
    visible: VisiblePatches | None = None,
    grn_over_batch: bool = False,
  ) -> Iterator[jax.Array]:
    """Applies the stem and the stages; each block gets its own key.

    Args:
      x: [B, H, W, 3] images, or [B, V, 32, 32, 3] when `visible` is given.
      key, visible, grn_over_batch: see `ConvNeXtV2Block`.

    Yields:
      The output of each stage: H and W divided by 1, 2, 4 and 8 times the stem's stride,
      dims[stage] channels.
    """

    def call(block: Any, x: jax.Array, key: jax.Array | None) -> jax.Array:
      return block(x, key, visible, grn_over_batch)

    keys = iter(split_or_none(key, sum(len(stage) for stage in self.stages)))
    stride = self.stem_stride
    for layers, stage in zip(self.downsample_layers, self.stages, strict=True):
      stage_keys = [next(keys) for _ in stage]

      def run(x: jax.Array, layers=layers, stage=stage, stage_keys=stage_keys) -> jax.Array:
        for layer in layers:
          x = layer(x).astype(self.dtype)
        return run_stack(list(stage), x, stage_keys, call=call, remat=self.remat, scan=self.scan)

      images = x.shape[0]
      if key is None and visible is None and not grn_over_batch:
        pixels = x.shape[1] * x.shape[2] // stride**2
        inner = pixels * 4 * stage[0].dim * jnp.dtype(self.dtype).itemsize
        images = slice_images(images, pixels, inner)
      x = in_slices(run, x, images)
      stride = 2
      yield x


class ConvNeXtV2(ConvNeXtV2Encoder):
  """ConvNeXt V2 classifier for images of at least 8 times the stem's stride (32 pixels) a side.

  Initialised as the original code does: weights N(0, .02), biases and GRN zero.

  Args:
    depths, dims, stem_stride, drop_path_rate, remat, scan, dtype, param_dtype, rngs: see
      `ConvNeXtV2Encoder`.
    image_size: nominal image side in pixels; the computation does not depend on it.
    num_classes: width of the logits.
    head_init_scale: factor on the head's initial weights.
    final_norm_epsilon: epsilon of the norm before the head; the other norms have 1e-6.
  """

  def __init__(
    self,
    *,
    depths: Sequence[int],
    dims: Sequence[int],
    stem_stride: int = 4,
    image_size: int = 224,
    num_classes: int = 1000,
    drop_path_rate: float = 0.0,
    head_init_scale: float = 1.0,
    final_norm_epsilon: float = EPSILON,
    remat: bool = False,
    scan: bool = False,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    super().__init__(
      depths=depths,
      dims=dims,
      stem_stride=stem_stride,
      drop_path_rate=drop_path_rate,
      remat=remat,
      scan=scan,
      **common,
    )
    self.image_size = image_size
    self.norm = layer_norm(dims[-1], epsilon=final_norm_epsilon, **common)
    self.head = nnx.Linear(
      dims[-1],
      num_classes,
      kernel_init=nnx.initializers.normal(0.02 * head_init_scale),
      dtype=at_least_float32(dtype),
      param_dtype=param_dtype,
      rngs=rngs,
    )

  def features(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Mean over sites, then the final norm.

    Args:
      images: [B, H, W, 3] normalised, H and W at least 8 * stem_stride; pixels beyond a multiple of
        that at the right and at the bottom are ignored.
      deterministic: False turns stochastic depth on.
      rngs: must have a `dropout` stream; required when not deterministic.

    Returns:
      [B, dims[3]], at least float32.

    Raises:
      ValueError: wrong image shape, or no rngs when not deterministic.
    """
    smallest = 8 * self.stem_stride
    if images.ndim != 4 or images.shape[-1] != 3 or min(images.shape[1:3]) < smallest:
      raise ValueError(
        f"expected images [B, H, W, 3] of at least {smallest} pixels, got {images.shape}"
      )
    key = None if deterministic else dropout_key(rngs)
    *_, x = self.run_stages(images.astype(self.dtype), key)
    return self.norm(jnp.mean(x, axis=(1, 2), dtype=at_least_float32(x.dtype)))

  def __call__(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Logits [B, num_classes], at least float32; arguments as in `features`."""
    return self.head(self.features(images, deterministic=deterministic, rngs=rngs))


# Blocks and channels of each stage, by size.
SIZES: dict[str, dict[str, Any]] = {
  "atto": {"depths": (2, 2, 6, 2), "dims": (40, 80, 160, 320)},
  "femto": {"depths": (2, 2, 6, 2), "dims": (48, 96, 192, 384)},
  "pico": {"depths": (2, 2, 6, 2), "dims": (64, 128, 256, 512)},
  "nano": {"depths": (2, 2, 8, 2), "dims": (80, 160, 320, 640)},
  "tiny": {"depths": (3, 3, 9, 3), "dims": (96, 192, 384, 768)},
  "base": {"depths": (3, 3, 27, 3), "dims": (128, 256, 512, 1024)},
  "large": {"depths": (3, 3, 27, 3), "dims": (192, 384, 768, 1536)},
  "huge": {"depths": (3, 3, 27, 3), "dims": (352, 704, 1408, 2816)},
}

CONVNEXTV2_MODELS: dict[str, Callable[..., ConvNeXtV2]] = {
  f"convnextv2_{size}": functools.partial(ConvNeXtV2, **shape) for size, shape in SIZES.items()
}
