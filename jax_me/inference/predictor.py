"""A trained model that reads the expressions of photographs."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.data.decoding import resized
from jax_me.faces.alignment import FaceChip
from jax_me.faces.detector import find_faces
from jax_me.faces.images import read_image
from jax_me.models.saved import SavedModel, load_model

Picture = str | os.PathLike | np.ndarray
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Reading:
  """What a model makes of one face, or the fact that there is none.

  Attributes:
    label: the most probable class; None where there is no face.
    scores: {class: probability}; empty where there is no face.
    box: (left, top, right, bottom) of the face in pixels of the picture, None without one.
    status: "ok", or "no_face".
  """

  label: str | None
  scores: dict[str, float]
  box: Box | None
  status: str


@nnx.jit
def _probabilities(model: Any, images: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
  logits = model((images.astype(jnp.float32) / 255.0 - mean) / std)
  return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)


class Predictor:
  """A loaded classifier with what it was trained to see.

  Attributes:
    model: the module; call it on normalised [B, H, W, 3].
    labels: class names in the order of the logits.
    saved: name, arguments, statistics and source of the weights.
  """

  def __init__(self, saved: SavedModel):
    if saved.labels is None:
      raise ValueError(
        f"{saved.name} has no class labels: it is a pre-training model. Fine-tune it "
        "(--config.init_from=FOLDER), or give --labels when converting"
      )
    self.saved = saved
    self.model = saved.model
    self.labels = saved.labels

  def preprocess(self, image: np.ndarray) -> list[tuple[np.ndarray, Box | None]]:
    """Finds and aligns the faces of a picture as the training data was.

    Args:
      image: uint8 [H, W, 3] RGB.

    Returns:
      (uint8 [S, S, 3], box) a face, largest first; empty when there is none. A model trained on
      pictures as they are gets the whole picture, with box None.
    """
    options = self.saved.source.get("options", {})
    size = self.saved.image_size
    if options.get("input", "").startswith("flow"):
      raise ValueError(
        f"{self.saved.name} was trained on optical flow from onset to apex; it reads clips, not "
        "single photographs"
      )
    if not options.get("align", True):
      return [(resized(image, size), None)]
    cut = int(options.get("size", size))
    return [
      (resized(FaceChip.of_face(face, cut).extract(image), size), face.box)
      for face in find_faces(image)
    ]

  def predict(self, pictures: Picture | Sequence[Picture]) -> list[Any]:
    """Reads the expression of every face.

    Args:
      pictures: a path, an array uint8 [H, W, 3] RGB, or a list of these.

    Returns:
      for one picture a list of `Reading`, largest face first; for a list one such list each. A
      picture without a face gives one reading with status "no_face".

    Raises:
      UnreadableImage: a file that holds no picture.
      ValueError: an array of another type or shape.
    """
    if isinstance(pictures, str | os.PathLike | np.ndarray):
      return self._read(pictures)
    return [self._read(picture) for picture in pictures]

  def _read(self, picture: Picture) -> list[Reading]:
    image = picture if isinstance(picture, np.ndarray) else read_image(picture)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
      raise ValueError(f"a picture is uint8 [H, W, 3] RGB, got {image.dtype} {list(image.shape)}")
    faces = self.preprocess(image)
    if not faces:
      return [Reading(None, {}, None, "no_face")]
    scores = np.asarray(
      _probabilities(
        self.model,
        jnp.asarray(np.stack([face for face, _ in faces])),
        jnp.asarray(self.saved.mean, jnp.float32),
        jnp.asarray(self.saved.std, jnp.float32),
      )
    )
    return [
      Reading(
        label=self.labels[int(row.argmax())],
        scores={name: float(score) for name, score in zip(self.labels, row, strict=True)},
        box=box,
        status="ok",
      )
      for row, (_, box) in zip(scores, faces, strict=True)
    ]


def load(folder: str | os.PathLike, **overrides: Any) -> Predictor:
  """The classifier of a converted folder or of a run's workdir, ready to call.

  Args:
    folder: written by `convert` or `run.py`.
    **overrides: constructor keywords that leave the parameters as they are (`dtype`, ...).

  Raises:
    SavedModelError: no model there, or damaged.
    ValueError: a model without class labels.
  """
  return Predictor(load_model(folder, **overrides))
