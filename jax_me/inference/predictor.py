"""A loaded model that classifies or reconstructs the faces of images and videos."""

import os
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

import numpy as np

from jax_me.faces.detector import Box
from jax_me.faces.image_files import read_image
from jax_me.inference.batched_inference import BatchedInference
from jax_me.inference.model_input import face_inputs
from jax_me.inference.results import FaceResult, FrameResult, Results
from jax_me.models.fcmae import FCMAE
from jax_me.models.mae import MaskedAutoencoder
from jax_me.models.model_folder import SavedModel, load_model

if TYPE_CHECKING:
  from jax_me.inference.explain.explainer import (
    Explainer,
    Explanation,
    FaceReconstructor,
    Reconstruction,
  )

ImageInput = str | os.PathLike | np.ndarray


class ExplainOptions(TypedDict, total=False):
  """Keyword arguments of `Predictor.explain`."""

  methods: Sequence[str] | None
  label: str | None
  mask_ratio: float | None
  seed: int
  align: bool | None


class Predictor:
  """A loaded model with its preprocessing.

  Attributes:
    model: the module; call it on normalised [B, H, W, 3].
    labels: class names in the order of the logits; empty for a masked autoencoder, which only
      `explain` takes.
    saved: name, arguments, normalisation statistics and source of the weights.
  """

  def __init__(self, saved: SavedModel):
    self.saved = saved
    self.model = saved.model
    self.labels = saved.labels or []
    self._explainers: dict[Hashable, Explainer | FaceReconstructor] = {}
    if not isinstance(saved.model, MaskedAutoencoder | FCMAE):
      self.require_labels()

  def require_labels(self) -> list[str]:
    """The class names.

    Raises:
      ValueError: the model has none.
    """
    if not self.labels:
      raise ValueError(
        f"{self.saved.name} has no class labels: it is a pre-training model. Fine-tune it "
        "(--config.init_from=FOLDER), or give --labels when converting"
      )
    return self.labels

  def preprocess(
    self, image: np.ndarray, *, align: bool | None = None
  ) -> list[tuple[np.ndarray, Box | None]]:
    """Detects and aligns the faces of an image as in training.

    Args:
      image: uint8 [H, W, 3] RGB.
      align: see `predict`.

    Returns:
      (uint8 [S, S, 3], box) per face, largest face first; empty if there is none. For a model
      trained on whole images, the whole image with box None.
    """
    return [(face.image, face.box) for face in face_inputs(image, self.saved, align=align)]

  @overload
  def predict(  # type: ignore[overload-overlap]
    self, images: ImageInput, *, align: bool | None = None
  ) -> Results[FaceResult]: ...

  @overload
  def predict(
    self, images: Sequence[ImageInput], *, align: bool | None = None
  ) -> Results[Results[FaceResult]]: ...

  def predict(
    self, images: ImageInput | Sequence[ImageInput], *, align: bool | None = None
  ) -> Results[FaceResult] | Results[Results[FaceResult]]:
    """Classifies the expression of every face.

    Args:
      images: a path, an array uint8 [H, W, 3] RGB, or a list of these.
      align: True finds and crops faces. False uses the images as they are: aligned faces, or the
        motion images of a motion model. None does as the model was trained; a converted model gets
        the whole image, because nothing is known of its training.

    Returns:
      for one image, its results, largest face first; for a list, one `Results` per image. An
      image without a face gives one result with status "no_face".

    Raises:
      UnreadableImage: a file is not a readable image.
      ValueError: an array has another dtype or shape, or the model has no labels.
    """
    self.require_labels()
    if isinstance(images, str | os.PathLike | np.ndarray):
      return self._predict([images], BatchedInference(self.saved, batch=1), align)[0]
    return self._predict(images, BatchedInference(self.saved), align)

  @overload
  def explain(  # type: ignore[overload-overlap]
    self, images: ImageInput, **options: Unpack[ExplainOptions]
  ) -> "list[Explanation] | list[Reconstruction]": ...

  @overload
  def explain(
    self, images: Sequence[ImageInput], **options: Unpack[ExplainOptions]
  ) -> "list[list[Explanation]] | list[list[Reconstruction]]": ...

  def explain(
    self,
    images: ImageInput | Sequence[ImageInput],
    *,
    methods: Sequence[str] | None = None,
    label: str | None = None,
    mask_ratio: float | None = None,
    seed: int = 0,
    align: bool | None = None,
  ) -> "list[Any]":
    """Heat maps of what the scores of every face depend on (not why), or reconstructions.

    Args:
      images: as in `predict`.
      methods: "rollout" (same for every class; needs attention), "gradcam", and for masked
        autoencoders "reconstruction"; None for all that the model supports.
      label: the class to explain; None uses the predicted class of each face.
      mask_ratio: fraction of the patches that a masked autoencoder has to reconstruct, in (0, 1);
        None takes that of its pre-training: 0.75 for MAE, 0.6 for FCMAE.
      seed: selects these patches; they are the same for every face.
      align: as in `predict`.

    Returns:
      for one image, one `Explanation` (classifier) or `Reconstruction` (masked autoencoder) per
      face, largest face first, empty without a face; for a list, one such list per image.

    Raises:
      UnreadableImage: a file is not a readable image.
      ValueError: an array has another dtype or shape; unknown method or label; a setting of the
        other kind of model.
    """
    explainer = self._explainer(methods, mask_ratio, seed)

    def explain_image(image: ImageInput) -> list[Any]:
      faces = face_inputs(_load_image(image), self.saved, align=align)
      return [explainer.explain(face, label) for face in faces]

    if isinstance(images, str | os.PathLike | np.ndarray):
      return explain_image(images)
    return [explain_image(image) for image in images]

  def _explainer(
    self, methods: Sequence[str] | None, mask_ratio: float | None, seed: int
  ) -> "Explainer | FaceReconstructor":
    """The compiled explainer for these arguments of `explain`."""
    # Imported here: prediction does not need it.
    from jax_me.inference.explain.explainer import make_explainer

    key = (None if methods is None else tuple(methods), mask_ratio, seed)
    if key not in self._explainers:
      self._explainers[key] = make_explainer(self.saved, methods, mask_ratio, seed)
    return self._explainers[key]

  def predict_video(
    self,
    video: str | os.PathLike,
    *,
    fps: float | None = None,
    every: int = 1,
    align: bool | None = None,
  ) -> Iterator[FrameResult]:
    """Classifies the frames of a video, a folder of frames or a camera ("camera:0") as a stream.

    Args:
      video: path, or camera name.
      fps: frames per second, for folders or to override the rate of a video file.
      every: process every k-th frame only.
      align: as in `predict`.

    Yields:
      at least one result per frame, in order; one per person if there are several. Motion models
      compare each frame with the one 0.2 s earlier.

    Raises:
      ValueError: the video cannot be opened, a setting is out of range, or the model has no labels.
    """
    self.require_labels()
    # Imported here: images do not need it.
    from jax_me.inference.video.frame_stream import FrameStreamSettings, stream_detections
    from jax_me.inference.video.sources import find_sources

    settings = FrameStreamSettings(every=every, motion=False, align=align)
    for source in find_sources([video], fps):
      for result in stream_detections(source, self.saved, settings):
        number, seconds = result.frame.number, result.frame.seconds
        if not result.detections:
          yield FrameResult(None, {}, None, result.status, number, seconds, None)
        for detection in result.detections:
          assert detection.scores is not None
          label, scores = self._named(detection.scores)
          yield FrameResult(label, scores, detection.box, "ok", number, seconds, detection.person)

  def _predict(
    self,
    images: Sequence[ImageInput],
    inference: BatchedInference[tuple[Results[FaceResult], Box | None]],
    align: bool | None,
  ) -> Results[Results[FaceResult]]:
    """The results of each image."""
    results: Results[Results[FaceResult]] = Results()
    scored = []
    for image in images:
      faces = self.preprocess(_load_image(image), align=align)
      found = Results() if faces else Results([FaceResult(None, {}, None, "no_face")])
      results.append(found)
      for face, box in faces:
        scored += inference.submit(face, (found, box))
    for (found, box), scores in scored + inference.flush():
      found.append(FaceResult(*self._named(scores), box, "ok"))
    return results

  def _named(self, scores: np.ndarray) -> tuple[str, dict[str, float]]:
    """The most probable class, and {class: probability}."""
    named = {name: float(score) for name, score in zip(self.labels, scores, strict=True)}
    return self.labels[int(scores.argmax())], named


def _load_image(image: ImageInput) -> np.ndarray:
  """uint8 [H, W, 3] from a path or an array; ValueError for any other array."""
  pixels = image if isinstance(image, np.ndarray) else read_image(image)
  if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
    raise ValueError(
      f"an image must be uint8 [H, W, 3] RGB, got {pixels.dtype} {list(pixels.shape)}"
    )
  return pixels


def load(folder: str | os.PathLike, **overrides: object) -> Predictor:
  """Loads the model of a converted model folder or of a run.

  Args:
    folder: written by `convert` or `run.py`.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Raises:
    SavedModelError: the folder has no model, or a damaged one.
    ValueError: the model is neither a classifier with labels nor a masked autoencoder.
  """
  return Predictor(load_model(folder, **overrides))
