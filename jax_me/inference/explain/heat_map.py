"""A value for each patch of a picture: laid over the pixels, summed up, coloured."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import matplotlib
import numpy as np

from jax_me.models.convnext_v2 import ConvNeXtV2
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer

# Landmarks (iBUG 300-W) of each region, in the order in which a pixel chooses among several.
REGIONS = {
  "eyes": ((36, 42), (42, 48)),
  "mouth": ((48, 68),),
  "nose": ((27, 36),),
  "brows": ((17, 22), (22, 27)),
}
# How far a region reaches beyond its landmarks, as a share of the distance between the eyes.
REACH = 0.12


@dataclasses.dataclass(frozen=True)
class SiteGrid:
  """Where the sites of a square map lie in the picture; the same for rows and columns.

  Attributes:
    first: centre of the first site in pixels (pixel centres lie at whole numbers).
    step: pixels from one site to the next.
  """

  first: float
  step: float

  @classmethod
  def of_model(cls, model: Any) -> "SiteGrid":
    """Of the patch tokens of a transformer, or the last stage of ConvNeXt V2."""
    if isinstance(model, VisionTransformer):
      return cls((model.patch_size - 1) / 2, model.patch_size)
    if isinstance(model, T2TViT):
      # Three windows of 7, 3 and 3 at strides 4, 2 and 2 with padding 2, 1 and 1: token k is
      # centred at 4 * 2 * 2 * k + 1, half a token from where a patch of 16 would be.
      return cls(1.0, 16.0)
    if isinstance(model, ConvNeXtV2):
      return cls(15.5, 32.0)
    raise ValueError(f"there is no map of a {type(model).__name__}")

  def to_pixels(self, sites: np.ndarray, side: int) -> np.ndarray:
    """Bilinear between the sites' centres, constant beyond the outer ones.

    Args:
      sites: float [h, w].
      side: of the picture.

    Returns:
      float32 [side, side].
    """
    places = (np.arange(side) - self.first) / self.step
    rows, columns = (
      np.stack([np.interp(places, np.arange(n), unit) for unit in np.eye(n)], 1)
      for n in sites.shape
    )
    return (rows @ sites @ columns.T).astype(np.float32)


def centre_of_mass(heat: np.ndarray) -> tuple[float, float] | None:
  """(x, y) in [0, 1] of the picture's width and height; None for a map that is zero everywhere.

  Args:
    heat: [H, W], not negative.
  """
  total = float(heat.sum(dtype=np.float64))
  if total <= 0:
    return None
  height, width = heat.shape
  x = float((heat.sum(0, dtype=np.float64) * (np.arange(width) + 0.5)).sum() / total / width)
  y = float((heat.sum(1, dtype=np.float64) * (np.arange(height) + 0.5)).sum() / total / height)
  return x, y


def face_regions(landmarks: np.ndarray, side: int) -> dict[str, np.ndarray]:
  """Boxes around the landmarks of eyes, mouth, nose and brows; a pixel belongs to one at most.

  Args:
    landmarks: [68, 2], (x, y) in pixels of the picture.
    side: of the square picture.

  Returns:
    {name: bool [side, side]}.
  """
  reach = REACH * float(np.linalg.norm(landmarks[36:42].mean(0) - landmarks[42:48].mean(0)))
  free = np.ones((side, side), bool)
  regions = {}
  for name, groups in REGIONS.items():
    mask = np.zeros((side, side), bool)
    for start, stop in groups:
      low = np.clip(np.rint(landmarks[start:stop].min(0) - reach), 0, side).astype(int)
      high = np.clip(np.rint(landmarks[start:stop].max(0) + reach) + 1, 0, side).astype(int)
      mask[low[1] : high[1], low[0] : high[0]] = True
    regions[name] = mask & free
    free &= ~mask
  return regions


def region_shares(heat: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict[str, dict]:
  """Each region's share of the map's mass, beside its share of the picture.

  Args:
    heat: [S, S], not negative.
    regions: bool [S, S] each, disjoint.

  Returns:
    {name: {"share": of the mass, 0 for a map of zeros; "area": of the pixels}}, and "rest".
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


def relative(heat: np.ndarray, *, from_zero: bool) -> np.ndarray:
  """The map scaled so that its largest value is 1.

  Args:
    heat: not negative.
    from_zero: 0 stays 0; otherwise the smallest value becomes 0.

  Returns:
    float32 in [0, 1]; zeros where nothing differs.
  """
  low = 0.0 if from_zero else float(heat.min())
  span = float(heat.max()) - low
  return ((heat - low) / span if span > 0 else np.zeros_like(heat)).astype(np.float32)


def overlay(image: np.ndarray, heat: np.ndarray, side: int = 224) -> np.ndarray:
  """A grey copy of a picture with a map laid over it, dark where it is low and light where high.

  Args:
    image: uint8 [S, S, 3] RGB.
    heat: [S, S] in [0, 1].
    side: of the result.

  Returns:
    uint8 [side, side, 3] RGB.
  """
  small = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
  grey, heat = (cv2.resize(x, (side, side), interpolation=cv2.INTER_LINEAR) for x in (small, heat))
  colours = matplotlib.colormaps["inferno"](np.clip(heat, 0, 1))[..., :3]
  weight = 0.25 + 0.4 * heat[..., None]
  return np.rint(255 * ((1 - weight) * grey[..., None] + weight * colours)).astype(np.uint8)
