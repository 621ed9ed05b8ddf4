"""Explanations of model outputs for a face: heat maps and masked-autoencoder reconstructions.

Heat maps show what a score depends on, not why. Attention rollout uses attention weights only and
is the same for every class; Grad-CAM is class-specific.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_me.inference.explain.attention_rollout import attention_rollout
from jax_me.inference.explain.grad_cam import CONVOLUTIONAL, grad_cam
from jax_me.inference.explain.heat_map import FeatureGrid
from jax_me.inference.model_input import FaceInput
from jax_me.models.classifier import classify, split_outputs
from jax_me.models.ensemble import Ensemble, architecture
from jax_me.models.fcmae import FCMAE
from jax_me.models.mae import MaskedAutoencoder
from jax_me.models.model_folder import SavedModel, merge_model
from jax_me.models.patches import patch_grid
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer
from jax_me.reports.saved_report import RECONSTRUCTION_IMAGES
from jax_me.training.reconstruction import make_reconstructor

METHODS = ("rollout", "gradcam", "reconstruction")
_METHODS_BY_FAMILY: dict[type, tuple[str, ...]] = {
  VisionTransformer: ("rollout", "gradcam"),
  T2TViT: ("rollout", "gradcam"),
  **{family: ("gradcam",) for family in CONVOLUTIONAL},
  MaskedAutoencoder: ("reconstruction",),
  FCMAE: ("reconstruction",),
}
# Default mask ratios of pre-training.
MASK_RATIOS: dict[type, float] = {MaskedAutoencoder: 0.75, FCMAE: 0.6}


@dataclasses.dataclass(frozen=True)
class HeatMap:
  """Relevance of each position of an image.

  Attributes:
    method: "rollout" (see `attention_rollout`) or "gradcam" (see `grad_cam`).
    values: float32 [h, w], non-negative: the map on the feature grid.
    pixels: float32 [S, S], the map upsampled to the image.
  """

  method: str
  values: np.ndarray
  pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
  """A classifier's output for a face, with heat maps.

  Attributes:
    face: the model input.
    label: the explained class.
    predicted: the most probable class.
    scores: {class: probability}.
    maps: {method: heat map}.
    affect: float32 [2], valence and arousal; None for a model without these outputs.
  """

  face: FaceInput
  label: str
  predicted: str
  scores: dict[str, float]
  maps: dict[str, HeatMap]
  affect: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """A masked autoencoder's reconstruction of the removed patches of a face.

  Attributes:
    face: the model input before masking.
    masked: uint8 [S, S, 3] RGB, removed patches grey.
    reconstructed: uint8 [S, S, 3] RGB, removed patches as predicted.
    error: root mean squared error over the removed patches, in [0, 1].
  """

  face: FaceInput
  masked: np.ndarray
  reconstructed: np.ndarray
  error: float


def make_explainer(
  saved: SavedModel,
  methods: Sequence[str] | None = None,
  mask_ratio: float | None = None,
  seed: int = 0,
) -> "Explainer | FaceReconstructor":
  """The explainer of a classifier, or the reconstructor of a masked autoencoder.

  Args:
    saved: the model.
    methods: see `supported_methods`.
    mask_ratio, seed: see `FaceReconstructor`.

  Returns:
    An object whose `explain(face, label)` explains one face.

  Raises:
    ValueError: an unsupported method, or a mask ratio for a classifier.
  """
  if supported_methods(saved, methods) == ("reconstruction",):
    return FaceReconstructor(saved, mask_ratio=mask_ratio, seed=seed)
  if mask_ratio is not None:
    raise ValueError(f"a mask ratio is not allowed: {saved.name} is not a masked autoencoder")
  return Explainer(saved, methods)


def supported_methods(saved: SavedModel, requested: Sequence[str] | None = None) -> tuple[str, ...]:
  """Explanation methods of a model's family, restricted to the requested ones (None: all).

  Raises:
    ValueError: a requested method is unknown or not supported by the family.
  """
  supported = _METHODS_BY_FAMILY.get(type(architecture(saved.model)), ())
  for method in requested or ():
    if method not in METHODS:
      raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method not in supported:
      raise ValueError(f"{saved.name} does not support {method}; use {', '.join(supported)}")
  if requested is None:
    return supported
  return tuple(method for method in supported if method in requested)


class Explainer:
  """Explains a classifier's outputs, one face at a time; compiles once.

  The maps of an ensemble are the means of those of its classifiers, for one class.

  Args:
    saved: a classifier with class labels.
    methods: see `supported_methods`.
  """

  def __init__(self, saved: SavedModel, methods: Sequence[str] | None = None):
    if saved.labels is None:
      raise ValueError(f"{saved.name} has no class labels, so there is no class to explain")
    self.methods = supported_methods(saved, methods)
    self.settings = {"methods": list(self.methods)}
    self.panels = ("model input", *self.methods)
    self._labels = saved.labels
    self._image_size = saved.image_size
    self._affect = saved.affect
    self._grid = FeatureGrid.from_model(architecture(saved.model))
    graphdef, self._weights, self._normalisation = saved.split()

    def run(weights: Any, normalisation: Any, image: jax.Array, class_index: jax.Array):
      model: Any = merge_model(graphdef, weights["params"], weights["model_state"])
      if not isinstance(model, Ensemble):
        return self._outputs_and_maps(model, normalisation, image, class_index)
      outputs = self._outputs(model, image, normalisation)
      scores, _ = split_outputs(outputs, self._affect)
      chosen = jnp.where(class_index < 0, scores.argmax().astype(class_index.dtype), class_index)
      maps = model.map_members(
        lambda member, own: self._outputs_and_maps(member, own, image, chosen)[1]
      )
      return outputs, jax.tree.map(lambda rows: rows.mean(axis=0), maps)

    self._run = jax.jit(run)

  def _outputs_and_maps(
    self, model: Any, normalisation: Any, image: jax.Array, class_index: jax.Array
  ) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Outputs of `classify` and maps of one model; class -1 is the predicted one."""
    maps = {}

    def forward(images: jax.Array) -> jax.Array:
      if "rollout" in self.methods:
        maps["rollout"] = attention_rollout(model, images)[0]
      if "gradcam" not in self.methods:
        return model(images)
      cam, logits = grad_cam(model, images, class_index[None], self._affect)
      maps["gradcam"] = cam[0]
      return logits

    return self._outputs(forward, image, normalisation), maps

  def _outputs(
    self, model: Callable[[jax.Array], jax.Array], image: jax.Array, normalisation: Any
  ) -> jax.Array:
    return classify(model, image[None], normalisation, self._affect)[0]

  def explain(self, face: FaceInput, label: str | None = None) -> Explanation:
    """Computes scores and heat maps of one face for `label` (None: the predicted class).

    Raises:
      ValueError: the model has no such label.
    """
    class_index = -1 if label is None else self.class_index(label)
    outputs, maps = jax.device_get(
      self._run(self._weights, self._normalisation, face.image, np.int32(class_index))
    )
    scores, affect = split_outputs(outputs, self._affect)
    predicted = self._labels[int(scores.argmax())]
    return Explanation(
      face=face,
      label=predicted if label is None else label,
      predicted=predicted,
      scores={name: float(score) for name, score in zip(self._labels, scores, strict=True)},
      maps={  # in the order of `methods`: jax sorts dicts by key
        method: HeatMap(
          method,
          maps[method].astype(np.float32),
          self._grid.to_pixels(maps[method], self._image_size),
        )
        for method in self.methods
      },
      affect=affect,
    )

  def class_index(self, label: str) -> int:
    """Index of a label in the logits; ValueError if the model has no such label."""
    if label not in self._labels:
      raise ValueError(f"the model has no label {label!r}; its labels: {', '.join(self._labels)}")
    return self._labels.index(label)


class FaceReconstructor:
  """Reconstructs masked faces with a masked autoencoder (MAE, FCMAE); compiles once.

  Args:
    saved: the masked autoencoder.
    mask_ratio: fraction of patches to remove, in (0, 1); None uses the pre-training default.
    seed: selects the removed patches; they are the same for every face.
  """

  panels = RECONSTRUCTION_IMAGES

  def __init__(self, saved: SavedModel, *, mask_ratio: float | None = None, seed: int = 0):
    model: Any = saved.model
    if type(model) not in MASK_RATIOS:
      raise ValueError(f"{saved.name} is not a masked autoencoder and cannot reconstruct images")
    ratio = MASK_RATIOS[type(model)] if mask_ratio is None else mask_ratio
    count = patch_grid(saved.image_size, model.patch_size) ** 2
    visible = int(count * (1 - ratio))
    if not 0 < ratio < 1 or not 0 < visible < count:
      raise ValueError(
        f"mask_ratio must remove some of the {count} patches and keep some, got {ratio}"
      )
    self.settings = {"methods": ["reconstruction"], "mask_ratio": ratio, "seed": seed}
    self._name = saved.name
    self._key = jax.random.key(seed)
    self._removed_share = 1 - visible / count
    graphdef, self._weights, self._normalisation = saved.split()
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("data",))
    self._run = make_reconstructor(graphdef, mesh, mask_ratio=ratio)

  def explain(self, face: FaceInput, label: str | None = None) -> Reconstruction:
    """Masks one face and reconstructs the removed patches.

    Raises:
      ValueError: a label is given.
    """
    if label is not None:
      self.class_index(label)
    images = self._run(self._weights, self._normalisation, face.image[None], self._key)
    masked, reconstructed = images["masked"][0], images["reconstructed"][0]
    difference = (reconstructed.astype(np.float64) - face.image) / 255
    # The difference is zero on visible patches.
    error = float(np.sqrt(np.mean(difference**2) / self._removed_share))
    return Reconstruction(face, masked, reconstructed, error)

  def class_index(self, label: str) -> NoReturn:
    """Raises ValueError: a masked autoencoder has no labels."""
    raise ValueError(
      f"a label ({label!r}) is not allowed: {self._name} is a masked autoencoder and has no labels"
    )
