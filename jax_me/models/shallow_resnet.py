"""Small residual CNN with batch normalisation for faces of 28 to 64 pixels.

The basic block is that of ResNet (arXiv:1512.03385, figure 2), with mean pooling between the stages
instead of strides. Our own design for small grey faces (FER2013); no published weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.convolution import Convolution
from jax_me.models.layers import at_least_float32, dropout, dropout_key, is_portable
from jax_me.models.pooling import mean_pool

KERNEL_INIT = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class BatchNorm(nnx.BatchNorm):
  """Batch normalisation (arXiv:1502.03167), in at least float32.

  The running mean and variance have decay 0.9 and epsilon is 1e-5, as in torch.

  Args:
    dim: channels.
    dtype: of the output.
    **arguments: of `nnx.BatchNorm`.
  """

  def __init__(self, dim: int, *, dtype: DTypeLike, **arguments: Any):
    super().__init__(dim, momentum=0.9, epsilon=1e-5, dtype=at_least_float32(dtype), **arguments)
    self.output_dtype = dtype

  def normalise(self, x: jax.Array, deterministic: bool) -> jax.Array:
    """[..., C] -> [..., C]; unless deterministic, by the batch's statistics, which it records."""
    return self(x, use_running_average=deterministic).astype(self.output_dtype)


class ResidualBlock(nnx.Module):
  """Two 3x3 convolutions with batch norm and a residual connection.

  Args:
    inputs, outputs: channels; when they differ the residual connection has a 1x1 convolution.
  """

  def __init__(
    self,
    inputs: int,
    outputs: int,
    *,
    dtype: DTypeLike,
    param_dtype: DTypeLike,
    rngs: nnx.Rngs,
  ):
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    convolution: dict[str, Any] = dict(use_bias=False, kernel_init=KERNEL_INIT, **common)
    self.conv1 = Convolution(inputs, outputs, **convolution)
    self.bn1 = BatchNorm(outputs, **common)
    self.conv2 = Convolution(outputs, outputs, **convolution)
    # Zero: each block starts as its residual connection (arXiv:1706.02677, section 5.1).
    self.bn2 = BatchNorm(outputs, scale_init=nnx.initializers.zeros, **common)
    widens = inputs != outputs
    self.shortcut = Convolution(inputs, outputs, size=1, **convolution) if widens else None
    self.shortcut_bn = BatchNorm(outputs, **common) if widens else None

  def __call__(self, x: jax.Array, deterministic: bool = True) -> jax.Array:
    """[B, H, W, inputs] -> [B, H, W, outputs]; not deterministic: with the batch's statistics."""
    y = jax.nn.relu(self.bn1.normalise(self.conv1(x), deterministic))
    y = self.bn2.normalise(self.conv2(y), deterministic)
    if self.shortcut is not None and self.shortcut_bn is not None:
      x = self.shortcut_bn.normalise(self.shortcut(x), deterministic)
    return jax.nn.relu(x + y)


class ShallowResNet(nnx.Module):
  """Residual CNN: a 3x3 convolution with stride 2, and stages of residual blocks at 1/2, 1/4, ...

  A call that is not deterministic updates the running statistics of the batch norms in place.

  Args:
    widths: channels of each stage; the first convolution has those of the first stage.
    depths: residual blocks of each stage.
    drop_rate: dropout before the head.
    mirrored: a deterministic call averages the features of each image and of its mirror image.
    zoom: a deterministic call enlarges the images by this factor first. Faces look larger and
      smoother after the random resizing of training than in tests (arXiv:1906.06423).
    image_size: nominal side of the input in pixels; the computation does not depend on it.
    num_classes: width of the logits.
    dtype: compute dtype; the statistics and the head use at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    widths: Sequence[int] = (32, 96, 192, 256),
    depths: Sequence[int] = (1, 1, 1, 1),
    drop_rate: float = 0.0,
    mirrored: bool = False,
    zoom: float = 1.0,
    image_size: int = 48,
    num_classes: int = 7,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    if not widths or len(widths) != len(depths) or min(depths) < 1:
      raise ValueError(f"each stage needs a width and at least one block, got {widths=}, {depths=}")
    if zoom < 1:
      raise ValueError(f"zoom must be at least 1, got {zoom}")
    check_side(image_size, 2 ** len(widths))
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.image_size = image_size
    self.drop_rate = drop_rate
    self.mirrored = mirrored
    self.zoom = zoom
    self.dtype = dtype
    self.stem = nnx.Conv(
      3, widths[0], (3, 3), strides=2, padding=1, use_bias=False, kernel_init=KERNEL_INIT, **common
    )
    self.stem_bn = BatchNorm(widths[0], **common)
    inputs = [widths[0], *widths[:-1]]
    self.stages = nnx.List(
      nnx.List(
        ResidualBlock(narrow if block == 0 else wide, wide, **common) for block in range(depth)
      )
      for narrow, wide, depth in zip(inputs, widths, depths, strict=True)
    )
    self.head = nnx.Linear(
      widths[-1],
      num_classes,
      kernel_init=nnx.initializers.normal(0.01),
      dtype=at_least_float32(dtype),
      param_dtype=param_dtype,
      rngs=rngs,
    )

  def features(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Mean over sites after the last stage.

    Args:
      images: [B, H, W, 3] normalised, H and W at least 2 ** number of stages.
      deterministic: False takes the batch's statistics, updates the running ones, and turns
        dropout on.
      rngs: must have a `dropout` stream; required when not deterministic.

    Returns:
      [B, widths[-1]], at least float32.

    Raises:
      ValueError: wrong image shape, or no rngs when not deterministic.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
      raise ValueError(f"expected images [B, H, W, 3], got {list(images.shape)}")
    check_side(min(images.shape[1:3]), 2 ** len(self.stages))
    key = None if deterministic else dropout_key(rngs)
    if deterministic:
      images = zoomed(images, self.zoom)
    if not (self.mirrored and deterministic):
      pooled = self._pooled(images, deterministic)
    elif is_portable():  # jax2onnx cannot split a batch of unknown size.
      pooled = 0.5 * (self._pooled(images) + self._pooled(images[:, :, ::-1]))
    else:
      pooled = self._pooled(jnp.concatenate([images, images[:, :, ::-1]]))
      pooled = pooled.reshape(2, -1, pooled.shape[-1]).mean(axis=0)
    return dropout(pooled, self.drop_rate, key)

  def _pooled(self, images: jax.Array, deterministic: bool = True) -> jax.Array:
    """Means of the last stage over the image: [B, H, W, 3] -> [B, widths[-1]]."""
    x = self.stem(images.astype(self.dtype))
    x = jax.nn.relu(self.stem_bn.normalise(x, deterministic))
    for number, stage in enumerate(self.stages):
      x = mean_pool(x, 2) if number else x
      for block in stage:
        x = block(x, deterministic)
    return jnp.mean(x, axis=(1, 2), dtype=at_least_float32(x.dtype))

  def __call__(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Logits [B, num_classes], at least float32; arguments as in `features`."""
    return self.head(self.features(images, deterministic=deterministic, rngs=rngs))


def zoomed(images: jax.Array, factor: float) -> jax.Array:
  """Images [B, H, W, C] resized about their centre by a factor (bilinear), of the same shape."""
  if factor == 1:
    return images
  scale = jnp.full(2, factor, jnp.float32)
  shift = jnp.array(images.shape[1:3], jnp.float32) * (1 - scale) / 2
  return jax.image.scale_and_translate(
    images, images.shape, (1, 2), scale, shift, "linear", antialias=False
  )


def check_side(side: int, smallest: int) -> None:
  """Raises ValueError when an image is smaller than the poolings of a model need."""
  if side < smallest:
    raise ValueError(f"the model needs images of at least {smallest} pixels a side, got {side}")


SHALLOW_RESNET_MODELS: dict[str, Callable[..., ShallowResNet]] = {"shallow_resnet": ShallowResNet}
