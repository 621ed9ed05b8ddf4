"""A model as the JSON files of a hub folder describe it, and checks of their settings."""

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jax_me.image_preparation import ImagePreparation

from .errors import ConversionError

if TYPE_CHECKING:
  from .detection import Detection

Config = Mapping[str, Any]  # Content of a JSON file.


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """How a hub prepares images for a model.

  Attributes:
    image_size: side of the model input in pixels.
    mean, std: per RGB channel of images in [0, 1].
    resize: "shortest_edge" and "longest_edge" keep the aspect ratio (the latter pads with the
      mean), "stretch" does not, "none" leaves the image as it is.
    resize_to: edge length in pixels that the resize gives, before the central crop of `image_size`.
    crop_fraction: `image_size` over the edge length, as the hub states it.
    interpolation: of the resize: "nearest", "bilinear", "bicubic", "lanczos", "box" or "hamming".
    crop_rounding: of the position of the crop: "half_even" (timm) or "down" (transformers).
  """

  image_size: int
  mean: list[float]
  std: list[float]
  resize: str
  resize_to: int
  crop_fraction: float
  interpolation: str
  crop_rounding: str = "half_even"

  def __post_init__(self):
    if min(self.std) <= 0:
      raise ConversionError(f"the standard deviation of the pixels is {self.std}")

  def preparation(self, image_size: int) -> ImagePreparation:
    """The resize and crop, for a model with another `image_size` in proportion.

    Raises:
      ConversionError: a setting that jax_me does not have.
    """
    resize_to = self.resize_to
    if image_size != self.image_size:
      resize_to = math.floor(image_size / self.crop_fraction)
    try:
      return ImagePreparation(
        image_size,
        self.resize,
        resize_to,
        self.crop_fraction,
        self.interpolation,
        self.crop_rounding,
      )
    except ValueError as error:
      raise ConversionError(f"the preprocessing of the hub is impossible: {error}") from error


@dataclasses.dataclass(frozen=True)
class HubModel:
  """A model as the JSON files of its folder describe it.

  Attributes:
    library: "timm" or "transformers".
    architecture: the library's name, as "vit_base_patch16_224" or "ViTForImageClassification".
    family: see `Detection`; of an encoder alone, that of the classifier.
    arguments: constructor keywords.
    labels: class names in the order of the logits.
    preprocessing: None when the folder does not say.
    notes: decisions that the load report lists.
    warnings: limitations that the load report lists.
    licence: of the weights, "" if the folder does not say.
    folder: that holds the files.
  """

  library: str
  architecture: str
  family: str
  arguments: dict[str, Any]
  labels: list[str] | None = None
  preprocessing: Preprocessing | None = None
  notes: list[str] = dataclasses.field(default_factory=list)
  warnings: list[str] = dataclasses.field(default_factory=list)
  licence: str = ""
  folder: pathlib.Path | None = None

  def settings_for(self, detected: "Detection") -> dict[str, Any]:
    """Constructor keywords from the shapes of the weights and from config.json.

    Raises:
      ConversionError: they do not agree.
    """
    from .detection import changed_sizes

    differ = changed_sizes(self.arguments, detected.arguments)
    if differ:
      raise ConversionError(
        "config.json and the weights are of different models",
        problems=[
          f"{key}: {self.arguments[key]} in config.json, {detected.arguments[key]} in the weights"
          for key in differ
        ],
        remedy="fetch the folder again: its files belong together",
      )
    settings = detected.sizes() | self.arguments
    if "num_classes" not in detected.arguments:  # without a head, it may be any number
      settings.pop("num_classes", None)
    return settings


def require(config: Config, key: str, allowed: Sequence[object], where: str) -> None:
  """Refuses a setting that jax_me's models do not have.

  Args:
    config: settings; those that are absent have the library's default, which is allowed.
    key: name of the setting.
    allowed: its values with which the library's model computes what jax_me's does.
    where: name of the file, for the message.

  Raises:
    ConversionError: the setting has another value.
  """
  if key not in config or config[key] in allowed:
    return
  values = " or ".join(repr(value) for value in allowed)
  raise ConversionError(
    f"{where} sets {key} = {str(config[key])[:100]!r}; jax_me's model computes what the library's "
    f"computes with {values}",
    remedy="use a checkpoint of a plain ViT, MAE or ConvNeXt V2",
  )


def side_of(value: Any, what: str) -> int:
  """A size in pixels that is one number or a sequence of equal numbers.

  Raises:
    ConversionError: not square, or not a positive integer.
  """
  sides = [value] if isinstance(value, int) else list(value)
  if not sides or any(type(side) is not int or side != sides[0] for side in sides):
    raise ConversionError(f"{what} is {str(value)[:100]}; jax_me's models take square images")
  if not 0 < sides[0] < 2**20:
    raise ConversionError(f"{what} is {sides[0]}, which is no size in pixels")
  return sides[0]


def ratio_of(hidden: int, dim: int) -> float:
  """hidden / dim, where needed rounded up so that int(dim * ratio) is hidden."""
  ratio = hidden / dim
  return ratio if int(dim * ratio) == hidden else math.nextafter(ratio, math.inf)


def unique_labels(labels: Sequence[object], notes: list[str]) -> list[str]:
  """The labels as text; a name that is taken gets the class number (ImageNet has two "crane")."""
  result: list[str] = []
  for number, label in enumerate(map(str, labels)):
    if label in result:
      notes.append(f"two classes have the label {label!r}: class {number} is '{label} ({number})'")
      label = f"{label} ({number})"
    result.append(label)
  return result


def channel_values(value: Any) -> list[float]:
  """Mean or standard deviation: one number, or one for each of R, G and B."""
  values = [float(part) for part in (value if isinstance(value, list | tuple) else [value] * 3)]
  if len(values) != 3 or not all(map(math.isfinite, values)):
    raise ConversionError(f"mean and std are three numbers each, got {str(value)[:100]}")
  return values
