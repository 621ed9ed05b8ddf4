"""A trained model that reads the expressions of photographs."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.faces.image_files import read_image
from jax_me.inference.face_input import model_faces
from jax_me.models.model_folder import SavedModel, load_model

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


@dataclasses.dataclass(frozen=True)
class VideoReading(Reading):
  """What a model makes of one person in one frame of a video.

  Attributes:
    status: "ok", or of a frame without people "no_face", "unreadable" or "skipped".
    frame: number of the frame, from 0.
    seconds: its time.
    person: number of the person, from 1; None where nobody is seen.
  """

  frame: int
  seconds: float
  person: int | None


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
    self._explainers: dict[tuple[str, ...], Any] = {}

  def preprocess(self, image: np.ndarray) -> list[tuple[np.ndarray, Box | None]]:
    """Finds and aligns the faces of a picture as the training data was.

    Args:
      image: uint8 [H, W, 3] RGB.

    Returns:
      (uint8 [S, S, 3], box) a face, largest first; empty when there is none. A model trained on
      pictures as they are gets the whole picture, with box None.
    """
    return [(face.image, face.box) for face in model_faces(image, self.saved)]

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

  def explain(
    self,
    pictures: Picture | Sequence[Picture],
    *,
    methods: Sequence[str] | None = None,
    label: str | None = None,
  ) -> list[Any]:
    """Shows what the scores of every face depend on, as heat maps (not why they do).

    Args:
      pictures: as in `predict`.
      methods: "rollout" (same for every class; needs attention) and "gradcam"; None for all that
        the model has.
      label: the class to explain; None takes each face's predicted one.

    Returns:
      for one picture a list of `Explanation`, largest face first, empty where there is none; for a
      list one such list each.

    Raises:
      UnreadableImage: a file that holds no picture.
      ValueError: an array of another type or shape, an unknown method or label.
    """
    # Imported here: reading faces needs none of it.
    from jax_me.inference.explain.explainer import Explainer, methods_of

    key = methods_of(self.saved, methods)
    if key not in self._explainers:
      self._explainers[key] = Explainer(self.saved, methods)
    explainer = self._explainers[key]
    if isinstance(pictures, str | os.PathLike | np.ndarray):
      faces = model_faces(_checked(pictures), self.saved)
      return [explainer.explain(face, label) for face in faces]
    return [self.explain(picture, methods=methods, label=label) for picture in pictures]

  def predict_video(
    self, video: str | os.PathLike, *, fps: float | None = None, every: int = 1
  ) -> Iterator[VideoReading]:
    """Reads a video, a folder of frames or a camera ("camera:0") while it runs.

    Args:
      video: where it is.
      fps: frames a second, for folders and instead of what a file states.
      every: look at every k-th frame only.

    Yields:
      at least one reading a frame, in order; one a person where several are seen. Models of motion
      compare each frame with the one 0.2 s before.

    Raises:
      ValueError: nothing there that could be read, or settings out of range.
    """
    # Imported here: photographs need none of it.
    from jax_me.inference.video.frame_stream import ObservationSettings, observe
    from jax_me.inference.video.sources import find_footage

    settings = ObservationSettings(every=every, motion=False)
    for footage in find_footage([video], fps):
      for observed in observe(footage, self.saved, settings):
        number, seconds = observed.frame.number, observed.frame.seconds
        if not observed.people:
          yield VideoReading(None, {}, None, observed.status, number, seconds, None)
        for one in observed.people:
          assert one.scores is not None
          scores = {n: float(s) for n, s in zip(self.labels, one.scores, strict=True)}
          label = max(scores, key=lambda name: scores[name])
          yield VideoReading(label, scores, one.box, "ok", number, seconds, one.person)

  def _read(self, picture: Picture) -> list[Reading]:
    faces = self.preprocess(_checked(picture))
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


def _checked(picture: Picture) -> np.ndarray:
  """uint8 [H, W, 3] of a path or an array; ValueError for any other array."""
  image = picture if isinstance(picture, np.ndarray) else read_image(picture)
  if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
    raise ValueError(f"a picture is uint8 [H, W, 3] RGB, got {image.dtype} {list(image.shape)}")
  return image


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
