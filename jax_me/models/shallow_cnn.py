"""CNNs of two layers for a few hundred small images, such as optical flow of 28 x 28 pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jax_me.models.convolution import Convolution
from jax_me.models.layers import at_least_float32, dropout, dropout_key
from jax_me.models.patches import check_images
from jax_me.models.pooling import max_pool, mean_pool

KERNEL_INIT = nnx.initializers.he_normal()


def _head(
  inputs: int, outputs: int, *, dtype: DTypeLike, param_dtype: DTypeLike, rngs: nnx.Rngs
) -> nnx.Linear:
  return nnx.Linear(
    inputs,
    outputs,
    kernel_init=nnx.initializers.normal(0.01),
    dtype=at_least_float32(dtype),
    param_dtype=param_dtype,
    rngs=rngs,
  )


class _SmallCNN(nnx.Module):
  """Logits of the activations of all sites after the last pooling."""

  image_size: int
  drop_rate: float
  dtype: DTypeLike
  head: nnx.Linear

  def _pooled(self, images: jax.Array) -> jax.Array:
    """[B, image_size, image_size, 3] in the compute dtype -> [B, h, w, C]."""
    raise NotImplementedError

  def features(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Activations of all sites after the last pooling.

    Args:
      images: [B, image_size, image_size, 3] normalised.
      deterministic: False turns dropout on.
      rngs: must have a `dropout` stream; required when not deterministic.

    Returns:
      [B, sites * channels], at least float32; STSTNet has 400 values for the paper's 28 pixels.

    Raises:
      ValueError: wrong image shape, or no rngs when not deterministic.
    """
    check_images(images, self.image_size)
    key = None if deterministic else dropout_key(rngs)
    x = self._pooled(images.astype(self.dtype))
    flat = x.reshape(x.shape[0], -1).astype(at_least_float32(self.dtype))
    return dropout(flat, self.drop_rate, key)

  def __call__(
    self, images: jax.Array, *, deterministic: bool = True, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Logits [B, num_classes], at least float32; arguments as in `features`."""
    return self.head(self.features(images, deterministic=deterministic, rngs=rngs))


class ShallowCNN(_SmallCNN):
  """Convolutions with ReLU and max-pooling, then a linear layer on all sites.

  Args:
    widths: channels of each 3x3 convolution; each is followed by 2x2 max-pooling.
    drop_rate: dropout before the head.
    image_size: side of the square input in pixels.
    num_classes: width of the logits.
    dtype: compute dtype; the head uses at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    widths: Sequence[int] = (32, 64),
    drop_rate: float = 0.5,
    image_size: int = 28,
    num_classes: int = 3,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    side = image_size // 2 ** len(widths)
    if side < 1:
      raise ValueError(
        f"{len(widths)} poolings need images of at least {2 ** len(widths)} pixels a side, got "
        f"{image_size}"
      )
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.image_size = image_size
    self.drop_rate = drop_rate
    self.dtype = dtype
    inputs = [3, *widths[:-1]]
    self.convs = nnx.List(
      Convolution(narrow, wide, kernel_init=KERNEL_INIT, **common)
      for narrow, wide in zip(inputs, widths, strict=True)
    )
    self.head = _head(side**2 * widths[-1], num_classes, **common)

  def _pooled(self, images: jax.Array) -> jax.Array:
    x = images
    for conv in self.convs:
      x = jax.nn.relu(max_pool(conv(x), 2))  # Equal to pooling after ReLU, and faster.
    return x


class Streams(nnx.Module):
  """Parallel 3x3 convolutions of the same images, each with ReLU and max-pooling.

  Args:
    widths: filters of each stream.
  """

  def __init__(self, widths: Sequence[int], **common: Any):
    self.convs = nnx.List(
      Convolution(3, width, kernel_init=KERNEL_INIT, **common) for width in widths
    )

  def __call__(self, images: jax.Array) -> jax.Array:
    """[B, H, W, 3] -> [B, (H + 2) // 3, (W + 2) // 3, sum(widths)]."""
    x = jnp.concatenate([jax.nn.relu(conv(images)) for conv in self.convs], -1)
    # After ReLU, padding with zeros does not change a maximum.
    return max_pool(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), 3)


class STSTNet(_SmallCNN):
  """Shallow Triple Stream Three-dimensional CNN (arXiv:1902.03634) for optical flow images.

  Three streams see all three channels (horizontal flow, vertical flow, strain): a 3x3 convolution
  with 3, 5 or 8 filters, ReLU, and 3x3 max-pooling with stride 3 and padding 1. The 16 channels are
  averaged over 2x2 sites; a linear layer follows.

  Args:
    widths: filters of each stream.
    drop_rate: dropout before the head.
    image_size: side of the square input in pixels, 28 in the paper.
    num_classes: width of the logits.
    dtype: compute dtype; the head uses at least float32.
    param_dtype: dtype of the parameters.
    rngs: source of the initial values.
  """

  def __init__(
    self,
    *,
    widths: Sequence[int] = (3, 5, 8),
    drop_rate: float = 0.5,
    image_size: int = 28,
    num_classes: int = 3,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
  ):
    side = (image_size + 2) // 3 // 2
    if side < 1:
      raise ValueError(f"STSTNet needs images of at least 4 pixels a side, got {image_size}")
    common: dict[str, Any] = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    self.image_size = image_size
    self.drop_rate = drop_rate
    self.dtype = dtype
    self.streams = Streams(widths, **common)
    self.head = _head(side**2 * sum(widths), num_classes, **common)

  def _pooled(self, images: jax.Array) -> jax.Array:
    return mean_pool(self.streams(images), 2)


SHALLOW_CNN_MODELS: dict[str, Callable[..., nnx.Module]] = {
  "shallow_cnn": ShallowCNN,
  "shallow_ststnet": STSTNet,
}
