"""Heat maps on an image: upsampling, statistics by facial region, colour overlay."""

import dataclasses
from collections.abc import Mapping

import cv2
import matplotlib
import numpy as np
from flax import nnx

from jax_me.models.convnext_v2 import ConvNeXtV2
from jax_me.models.shallow_cnn import ShallowCNN, STSTNet
from jax_me.models.shallow_resnet import ShallowResNet
from jax_me.models.t2t_tokens import soft_splits
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer

# Landmark ranges (iBUG 300-W) per region. A pixel in several regions belongs to the first one.
REGIONS = {
  "eyes": ((36, 42), (42, 48)),
  "mouth": ((48, 68),),
  "nose": ((27, 36),),
  "brows": ((17, 22), (22, 27)),
}
# Margin around the landmarks of a region, as a fraction of the distance between the eyes.
REGION_MARGIN = 0.12


@dataclasses.dataclass(frozen=True)
class FeatureGrid:
  """Pixel coordinates of the cells of a square feature map; the same for rows and columns.

  Attributes:
    offset: centre of the first cell in pixels (pixel centres have integer coordinates).
    stride: pixels between neighbouring cells.
  """

  offset: float
  stride: float

  @classmethod
  def from_model(cls, model: nnx.Module) -> "FeatureGrid":
    """Grid of the patch tokens of a transformer, or of the feature maps that `grad_cam` takes."""
    if isinstance(model, VisionTransformer):
      return cls((model.patch_size - 1) / 2, model.patch_size)
    if isinstance(model, T2TViT):
      # With the original strides, token k is centred at 4 * 2 * 2 * k + 1, half a token away from
      # the centre of a 16-pixel patch.
      offset, stride = 0.0, 1.0
      for kernel, step, padding in soft_splits(model.strides):
        offset += stride * ((kernel - 1) / 2 - padding)
        stride *= step
      return cls(offset, stride)
    if isinstance(model, ConvNeXtV2):
      stride = 8.0 * model.stem_stride
      return cls((stride - 1) / 2, stride)
    if isinstance(model, ShallowResNet):
      # The stem is centred at every second pixel; mean pooling keeps the centre of its window.
      pooled = 2.0 ** (len(model.stages) - 1)
      return cls(pooled - 1, 2 * pooled)
    if isinstance(model, ShallowCNN):
      pooled = 2.0 ** (len(model.convs) - 1)
      return cls((pooled - 1) / 2, pooled)
    if isinstance(model, STSTNet):
      return cls(0.0, 3.0)
    raise ValueError(f"there is no feature grid for a {type(model).__name__}")

  def to_pixels(self, values: np.ndarray, side: int) -> np.ndarray:
    """Bilinear upsampling between cell centres, constant beyond the outer ones.

    Args:
      values: float [h, w].
      side: height and width of the image in pixels.

    Returns:
      float32 [side, side].
    """
    coordinates = (np.arange(side) - self.offset) / self.stride
    rows, columns = (
      np.stack([np.interp(coordinates, np.arange(n), unit) for unit in np.eye(n)], 1)
      for n in values.shape
    )
    return (rows @ values @ columns.T).astype(np.float32)


def centre_of_mass(heat: np.ndarray) -> tuple[float, float] | None:
  """(x, y) as fractions of the image's width and height; None if the map is zero everywhere.

  Args:
    heat: [H, W], non-negative.
  """
  total = float(heat.sum(dtype=np.float64))
  if total <= 0:
    return None
  height, width = heat.shape
  x = float((heat.sum(0, dtype=np.float64) * (np.arange(width) + 0.5)).sum() / total / width)
  y = float((heat.sum(1, dtype=np.float64) * (np.arange(height) + 0.5)).sum() / total / height)
  return x, y


def face_region_masks(landmarks: np.ndarray, side: int) -> dict[str, np.ndarray]:
  """Disjoint masks of eyes, mouth, nose and brows: boxes around their landmarks.

  Args:
    landmarks: [68, 2], (x, y) in pixels of the image.
    side: height and width of the image in pixels.

  Returns:
    {name: bool [side, side]}.
  """
  margin = REGION_MARGIN * float(
    np.linalg.norm(landmarks[36:42].mean(0) - landmarks[42:48].mean(0))
  )
  free = np.ones((side, side), bool)
  masks = {}
  for name, groups in REGIONS.items():
    mask = np.zeros((side, side), bool)
    for start, stop in groups:
      low = np.clip(np.rint(landmarks[start:stop].min(0) - margin), 0, side).astype(int)
      high = np.clip(np.rint(landmarks[start:stop].max(0) + margin) + 1, 0, side).astype(int)
      mask[low[1] : high[1], low[0] : high[0]] = True
    masks[name] = mask & free
    free &= ~mask
  return masks


def region_shares(
  heat: np.ndarray, regions: Mapping[str, np.ndarray]
) -> dict[str, dict[str, float]]:
  """Share of the map's total in each region, and the region's share of the image area.

  Args:
    heat: [S, S], non-negative.
    regions: disjoint masks, bool [S, S].

  Returns:
    {name: {"share": of the total, 0 for a map of zeros; "area": of the pixels}}, including
    "rest" for all other pixels.
  """
  total = float(heat.sum(dtype=np.float64))
  masks = dict(regions)
  masks["rest"] = ~np.any(list(regions.values()), axis=0)
  return {
    name: {
      "share": float(heat[mask].sum(dtype=np.float64)) / total if total > 0 else 0.0,
      "area": float(mask.mean()),
    }
    for name, mask in masks.items()
  }


def scale_to_unit(heat: np.ndarray, *, from_zero: bool) -> np.ndarray:
  """Scales a map so that its largest value is 1.

  Args:
    heat: non-negative.
    from_zero: True keeps 0 at 0; False maps the smallest value to 0.

  Returns:
    float32 in [0, 1]; zeros for a constant map.
  """
  low = 0.0 if from_zero else float(heat.min())
  span = float(heat.max()) - low
  return ((heat - low) / span if span > 0 else np.zeros_like(heat)).astype(np.float32)


def overlay(image: np.ndarray, heat: np.ndarray, side: int = 224) -> np.ndarray:
  """Blends a map into a grey copy of an image; dark is low, light is high.

  Args:
    image: uint8 [S, S, 3] RGB.
    heat: [S, S] in [0, 1].
    side: height and width of the result.

  Returns:
    uint8 [side, side, 3] RGB.
  """
  small = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
  grey, heat = (cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR) for x in (small, heat))
  colours = matplotlib.colormaps["inferno"](np.clip(heat, 0, 1))[..., :3]
  weight = 0.25 + 0.4 * heat[..., None]
  return np.rint(255 * ((1 - weight) * grey[..., None] + weight * colours)).astype(np.uint8)
