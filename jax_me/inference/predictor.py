"""Expression classifier for images and videos."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict, Unpack, overload

import numpy as np

from jax_me.bundled import import_bundled
from jax_me.faces.detector import Box
from jax_me.faces.image_files import read_image
from jax_me.inference.batched_inference import BatchedInference
from jax_me.inference.model_input import face_inputs
from jax_me.inference.results import FaceResult, FrameResult, Results
from jax_me.models.classifier import check_head
from jax_me.models.model_folder import SavedModel

if TYPE_CHECKING:
  from jax_me.inference.explain.explainer import Explainer, Explanation

ImageInput = str | os.PathLike | np.ndarray


class ExplainOptions(TypedDict, total=False):
  """Keyword arguments of `Predictor.explain`."""

  methods: Sequence[str] | None
  label: str | None


class Predictor:
  """A loaded classifier with its preprocessing.

  Attributes:
    model: the module; call it on normalised [B, H, W, 3].
    labels: class names in the order of the logits.
    saved: name, arguments, normalisation statistics and source of the weights.
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
    self._explainers: dict[tuple[str, ...], Explainer] = {}

  def preprocess(self, image: np.ndarray) -> list[tuple[np.ndarray, Box | None]]:
    """Detects and aligns the faces of an image as in training.

    Args:
      image: uint8 [H, W, 3] RGB.

    Returns:
      (uint8 [S, S, 3], box) per face, largest face first; empty if there is none. For a model
      trained on whole images, the whole image with box None.
    """
    return [(face.image, face.box) for face in face_inputs(image, self.saved)]

  @overload
  def predict(self, images: ImageInput) -> Results[FaceResult]: ...  # type: ignore[overload-overlap]

  @overload
  def predict(self, images: Sequence[ImageInput]) -> Results[Results[FaceResult]]: ...

  def predict(
    self, images: ImageInput | Sequence[ImageInput]
  ) -> Results[FaceResult] | Results[Results[FaceResult]]:
    """Classifies the expression of every face.

    Args:
      images: a path, an array uint8 [H, W, 3] RGB, or a list of these.

    Returns:
      for one image, its results, largest face first; for a list, one `Results` per image. An
      image without a face gives one result with status "no_face".

    Raises:
      UnreadableImage: a file is not a readable image.
      ValueError: an array has another dtype or shape.
    """
    if isinstance(images, str | os.PathLike | np.ndarray):
      return self._predict([images], BatchedInference(self.saved, batch=1))[0]
    return self._predict(images, BatchedInference(self.saved))

  @overload
  def explain(  # type: ignore[overload-overlap]
    self, images: ImageInput, **options: Unpack[ExplainOptions]
  ) -> "list[Explanation]": ...

  @overload
  def explain(
    self, images: Sequence[ImageInput], **options: Unpack[ExplainOptions]
  ) -> "list[list[Explanation]]": ...

  def explain(
    self,
    images: ImageInput | Sequence[ImageInput],
    *,
    methods: Sequence[str] | None = None,
    label: str | None = None,
  ) -> "list[Explanation] | list[list[Explanation]]":
    """Heat maps of what the scores of every face depend on (not why).

    Args:
      images: as in `predict`.
      methods: "rollout" (same for every class; needs attention) and "gradcam"; None for all that
        the model supports.
      label: the class to explain; None uses the predicted class of each face.

    Returns:
      for one image, one `Explanation` per face, largest face first, empty without a face; for a
      list, one such list per image.

    Raises:
      UnreadableImage: a file is not a readable image.
      ValueError: an array has another dtype or shape; unknown method or label.
    """
    # Imported here: prediction does not need it.
    from jax_me.inference.explain.explainer import Explainer, supported_methods

    key = supported_methods(self.saved, methods)
    if key not in self._explainers:
      self._explainers[key] = Explainer(self.saved, methods)
    explainer = self._explainers[key]
    if isinstance(images, str | os.PathLike | np.ndarray):
      faces = face_inputs(_load_image(images), self.saved)
      return [explainer.explain(face, label) for face in faces]
    return [self.explain(image, methods=methods, label=label) for image in images]

  def predict_video(
    self, video: str | os.PathLike, *, fps: float | None = None, every: int = 1
  ) -> Iterator[FrameResult]:
    """Classifies the frames of a video, a folder of frames or a camera ("camera:0") as a stream.

    Args:
      video: path, or camera name.
      fps: frames per second, for folders or to override the rate of a video file.
      every: process every k-th frame only.

    Yields:
      at least one result per frame, in order; one per person if there are several. Motion models
      compare each frame with the one 0.2 s earlier.

    Raises:
      ValueError: the video cannot be opened, or a setting is out of range.
    """
    # Imported here: images do not need it.
    from jax_me.inference.video.frame_stream import FrameStreamSettings, stream_detections
    from jax_me.inference.video.sources import find_sources

    settings = FrameStreamSettings(every=every, motion=False)
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
  ) -> Results[Results[FaceResult]]:
    """The results of each image."""
    results: Results[Results[FaceResult]] = Results()
    scored = []
    for image in images:
      faces = self.preprocess(_load_image(image))
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


def load(folder: str | os.PathLike, *, verify: bool = False, **overrides: object) -> Predictor:
  """Loads the classifier of a model folder, a run, a checkpoint, or of weights by name.

  Args:
    folder: written by `convert` or `run.py`; or a torch or safetensors file, or a folder of timm or
      transformers; or a name: hf://OWNER/NAME[@REVISION], timm://NAME, release://FILE.
    verify: also compare the output for a synthetic image with the one that the folder keeps.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Returns:
    the classifier.

  Raises:
    SavedModelError: the folder has no model, a damaged or an edited one.
    ConversionError: the checkpoint cannot be converted or downloaded.
    ValueError: the model has no class labels, or its head is untrained.
  """
  saved = import_bundled("convert.model_source").open_model(folder, verify=verify, **overrides)
  check_head(saved)
  return Predictor(saved)
