"""What a model's answer for a face depends on: heat maps, or what a masked autoencoder paints.

Heat maps show what a score depends on, not why. Attention rollout follows attention weights alone
and is the same for every class; Grad-CAM is of one class.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jax_me.inference.explain.attention_rollout import attention_rollout
from jax_me.inference.explain.grad_cam import grad_cam
from jax_me.inference.explain.heat_map import SiteGrid
from jax_me.inference.face_input import ModelFace
from jax_me.models.convnext_v2 import ConvNeXtV2
from jax_me.models.fcmae import FCMAE
from jax_me.models.mae import MaskedAutoencoder
from jax_me.models.model_folder import SavedModel, split_model
from jax_me.models.patches import patch_grid
from jax_me.models.t2t_vit import T2TViT
from jax_me.models.vit import VisionTransformer
from jax_me.training.reconstruction import make_reconstructor

METHODS = ("rollout", "gradcam", "reconstruction")
_OF_FAMILY: dict[type, tuple[str, ...]] = {
  VisionTransformer: ("rollout", "gradcam"),
  T2TViT: ("rollout", "gradcam"),
  ConvNeXtV2: ("gradcam",),
  MaskedAutoencoder: ("reconstruction",),
  FCMAE: ("reconstruction",),
}
# What the families are pre-trained with.
MASK_RATIOS: dict[type, float] = {MaskedAutoencoder: 0.75, FCMAE: 0.6}


@dataclasses.dataclass(frozen=True)
class HeatMap:
  """How much each place of a picture counts.

  Attributes:
    method: "rollout" (see `attention_rollout`) or "gradcam" (see `grad_cam`).
    sites: float32 [h, w], not negative: the map as it is computed.
    pixels: float32 [S, S], the same laid over the picture.
  """

  method: str
  sites: np.ndarray
  pixels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Explanation:
  """A classifier's answer for a face, and what it depends on.

  Attributes:
    face: what the model saw.
    label: the class that is explained.
    predicted: the most probable class.
    scores: {class: probability}.
    maps: {method: its map}.
  """

  face: ModelFace
  label: str
  predicted: str
  scores: dict[str, float]
  maps: dict[str, HeatMap]


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """What a masked autoencoder paints where it sees nothing.

  Attributes:
    face: what it was given.
    masked: uint8 [S, S, 3] RGB, removed patches grey.
    reconstructed: uint8 [S, S, 3] RGB, removed patches as the model predicts them.
    error: root of the mean squared difference over the removed patches, in [0, 1].
  """

  face: ModelFace
  masked: np.ndarray
  reconstructed: np.ndarray
  error: float


def methods_of(saved: SavedModel, wanted: Sequence[str] | None = None) -> tuple[str, ...]:
  """The methods that a model's family supports.

  Args:
    saved: the model.
    wanted: only these; None for all.

  Raises:
    ValueError: one that is unknown, or that the family does not support; names those it does.
  """
  known = _OF_FAMILY.get(type(saved.model), ())
  for method in wanted or ():
    if method not in METHODS:
      raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method not in known:
      raise ValueError(f"{saved.name} has no {method}; it has {', '.join(known)}")
  return known if wanted is None else tuple(method for method in known if method in wanted)


class Explainer:
  """Explains a classifier's answers, one face at a time; compiles once.

  Args:
    saved: a classifier with its labels.
    methods: see `methods_of`.
  """

  def __init__(self, saved: SavedModel, methods: Sequence[str] | None = None):
    if saved.labels is None:
      raise ValueError(f"{saved.name} has no class labels, and no class to explain")
    self.methods = methods_of(saved, methods)
    self._labels = saved.labels
    self._side = saved.image_size
    self._grid = SiteGrid.of_model(saved.model)
    graphdef, self._state = nnx.split(saved.model)
    mean, std = (jnp.asarray(x, jnp.float32) for x in (saved.mean, saved.std))

    def run(state: Any, image: jax.Array, which: jax.Array) -> tuple[jax.Array, dict]:
      model: Any = nnx.merge(graphdef, state)
      images = (image[None].astype(jnp.float32) / 255.0 - mean) / std
      maps = {}
      if "rollout" in self.methods:
        maps["rollout"] = attention_rollout(model, images)[0]
      if "gradcam" in self.methods:
        cam, logits = grad_cam(model, images, which[None])
        maps["gradcam"] = cam[0]
      else:
        logits = model(images)
      return jax.nn.softmax(logits[0].astype(jnp.float32)), maps

    self._run = jax.jit(run)

  def explain(self, face: ModelFace, label: str | None = None) -> Explanation:
    """Explains the answer for one face.

    Args:
      face: see `model_faces`.
      label: the class to explain; None takes the predicted one.

    Raises:
      ValueError: a label that the model does not know.
    """
    which = -1 if label is None else self.index(label)
    scores, maps = jax.device_get(self._run(self._state, face.image, np.int32(which)))
    predicted = self._labels[int(scores.argmax())]
    return Explanation(
      face=face,
      label=predicted if label is None else label,
      predicted=predicted,
      scores={name: float(score) for name, score in zip(self._labels, scores, strict=True)},
      maps={  # in the methods' order: jax sorts dicts
        method: HeatMap(
          method, maps[method].astype(np.float32), self._grid.to_pixels(maps[method], self._side)
        )
        for method in self.methods
      },
    )

  def index(self, label: str) -> int:
    """Place of a label among the logits; ValueError where there is none of that name."""
    if label not in self._labels:
      raise ValueError(f"the model knows no label {label!r}; it knows {', '.join(self._labels)}")
    return self._labels.index(label)


class FaceReconstructor:
  """Lets a masked autoencoder (MAE, FCMAE) paint faces, one at a time; compiles once.

  Args:
    saved: the model.
    mask_ratio: share of the patches to remove, in (0, 1); None takes that of its pre-training.
    seed: which patches; the same for every face.
  """

  methods: tuple[str, ...] = ("reconstruction",)

  def __init__(self, saved: SavedModel, *, mask_ratio: float | None = None, seed: int = 0):
    model: Any = saved.model
    if type(model) not in MASK_RATIOS:
      raise ValueError(f"{saved.name} is no masked autoencoder: it reconstructs nothing")
    self.mask_ratio = MASK_RATIOS[type(model)] if mask_ratio is None else mask_ratio
    count = patch_grid(saved.image_size, model.patch_size) ** 2
    stay = int(count * (1 - self.mask_ratio))
    if not 0 < self.mask_ratio < 1 or not 0 < stay < count:
      raise ValueError(
        f"mask_ratio must remove some of the {count} patches and leave some, got {self.mask_ratio}"
      )
    self.seed = seed
    self._removed = 1 - stay / count
    graphdef, params, state = split_model(model)
    self._weights = {"params": params, "model_state": state}
    self._constants = {
      "mean": jnp.asarray(saved.mean, jnp.float32),
      "std": jnp.asarray(saved.std, jnp.float32),
    }
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("data",))
    self._run = make_reconstructor(graphdef, mesh, mask_ratio=self.mask_ratio)

  def reconstruct(self, face: ModelFace) -> Reconstruction:
    """Masks a face (see `model_faces`) and paints it."""
    key = jax.random.key(self.seed)
    pictures = self._run(self._weights, self._constants, face.image[None], key)
    masked, painted = pictures["masked"][0], pictures["reconstructed"][0]
    difference = (painted.astype(np.float64) - face.image) / 255
    # Patches that were kept do not differ.
    error = float(np.sqrt(np.mean(difference**2) / self._removed))
    return Reconstruction(face, masked, painted, error)
