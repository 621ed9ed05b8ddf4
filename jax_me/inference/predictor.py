"""A loaded model that classifies or reconstructs the faces of images and videos."""

import dataclasses
import os
from collections.abc import Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_me.bundled import PACKAGED, import_bundled
from jax_me.faces.detector import Box
from jax_me.faces.image_files import MAX_PIXELS
from jax_me.inference.batched_inference import DEFAULT_BATCH
from jax_me.inference.model_input import face_inputs
from jax_me.inference.results import FrameResult, Results
from jax_me.inference.training_note import training_note
from jax_me.inference.video.video_limits import MAX_FRAMES, VideoLimits
from jax_me.models.classifier import check_head
from jax_me.models.fcmae import FCMAE
from jax_me.models.mae import MaskedAutoencoder
from jax_me.models.model_folder import SavedModel

if TYPE_CHECKING:
  from jax_me.inference.explain.explainer import Explainer, FaceReconstructor
  from jax_me.inference.prediction_inputs import PredictionInput
  from jax_me.inference.video.sources import ReadAs


class Predictor:
  """A loaded model with its preprocessing.

  Attributes:
    model: the module; call it on normalised [B, H, W, 3], and the mean of several folds on images
      in [0, 1].
    labels: class names in the order of the logits; empty for a masked autoencoder, which only
      `explain` takes.
    saved: name, arguments, normalisation statistics and source of the weights.
    origin: what it was loaded from, "" if it was not.
  """

  def __init__(self, saved: SavedModel, origin: str = ""):
    self.saved = saved
    self.origin = origin
    self.model = saved.model
    self.labels = saved.labels or []
    self._explainers: dict[Hashable, Explainer | FaceReconstructor] = {}
    if not isinstance(saved.model, MaskedAutoencoder | FCMAE):
      self.require_labels()

  def __repr__(self) -> str:
    trained_on = self.saved.source.get("trained_on", "")
    parts = [self.saved.title, ", ".join(self.labels), training_note(trained_on)]
    return f"<Predictor: {'; '.join(part for part in parts if part)}>"

  @classmethod
  def from_pretrained(
    cls, repository: str, *, revision: str = "", verify: bool = False, **overrides: object
  ) -> "Predictor":
    """Loads a model of the Hugging Face hub, as `load("hf://OWNER/NAME")` does.

    Args:
      repository: "OWNER/NAME", of jax_me (`push_to_hub`), timm or transformers.
      revision: branch, tag or commit; "" takes the newest commit of main.
      verify: as in `load`.
      **overrides: as in `load`.

    Returns:
      the classifier.

    Raises:
      ValueError: there is no such model, it is damaged, or it cannot be reached.
    """
    at = f"@{revision}" if revision else ""
    return load(f"hf://{repository}{at}", verify=verify, **overrides)

  def push_to_hub(
    self,
    repository: str,
    *,
    private: bool = True,
    token: str | None = None,
    licence: str = "",
  ) -> str:
    """Uploads the model with a model card to the Hugging Face hub.

    Args:
      repository: "OWNER/NAME"; created if it does not exist.
      private: whether a new repository is private; an existing one stays as it is.
      token: of the hub; None takes that of `hf auth login` or `HF_TOKEN`.
      licence: of the weights: a name of the hub, or a sentence; "" takes that of the model.

    Returns:
      the address of the repository.

    Raises:
      ValueError: the mean of several folds, a name of another form, or the upload failed.
    """
    from jax_me.inference.sharing.shared_model import share_model

    return share_model(
      self.saved, repository, origin=self.origin, private=private, token=token, licence=licence
    )

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

  def predict(
    self,
    images: Any,
    *,
    align: bool | None = None,
    as_: "ReadAs | None" = None,
    fps: float | None = None,
    every: int = 1,
    seconds: float | None = None,
    motion: bool = True,
    batch: int = DEFAULT_BATCH,
    allow_urls: bool = False,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = MAX_FRAMES,
  ) -> Results[Any]:
    """Classifies the expression of every face in photographs or videos.

    Args:
      images: a path, bytes, `PIL.Image` or array of a photograph; a path, "camera:0" or array [T,
        H, W, 3] of a video; a folder, a glob, or a list of these (see docs/predict.md). Arrays are
        grey, RGB or RGBA, uint8 or floating point in [0, 1].
      align: True finds and crops faces. False uses the images as they are: aligned faces, or the
        motion images of a motion model. None does as the model was trained; a converted model gets
        the whole image, because nothing is known of its training.
      as_: "photos" or "frames": whether the images of a folder, glob, list or array [T, H, W, 3]
        are photographs or the frames of one clip. None takes a folder of numbered images that look
        alike and an array for frames, all others for photographs.
      fps: frames per second, for frames or to override the rate of a video file.
      every: process every k-th frame of videos only.
      seconds: stop after this many seconds of a video.
      motion: measure facial motion in videos; without, expressions are spotted from scores only.
      batch: faces per call of the model, for lists and videos; larger ones help on accelerators.
      allow_urls: download http:// and https:// addresses, up to 200 MiB and 60 s each.
      max_pixels: refuse video files whose frames have more pixels.
      max_frames: end a video file that has more frames with an unreadable one.

    Returns:
      of a photograph, a `FaceResult` per face, largest face first, or one with the status
      "no_face"; of a video, a `FrameResult` per frame and person, read when they are needed (see
      `VideoResults`); of a list, glob or folder, one such `Results` per item, where unusable items
      have the status "unreadable" and a reason.

    Raises:
      UnreadableImage: a single photograph is not readable.
      ValueError: the input does not exist or is no image; the model has no labels; a motion model
        and photographs.
      TypeError: an object of another type.
    """
    # Imported here: the modules of videos are not needed to load a model.
    from jax_me.inference.photograph_stream import stream_photographs
    from jax_me.inference.prediction_inputs import (
      InputGroup,
      InputSettings,
      Photograph,
      all_photographs,
      find_input,
    )
    from jax_me.inference.source_results import PhotographResults, VideoResults
    from jax_me.inference.video.frame_stream import FrameStreamSettings
    from jax_me.inference.video.sources import VideoSource

    self.require_labels()
    stream = FrameStreamSettings(every=every, motion=motion, align=align, batch=batch)
    limits = VideoLimits(max_pixels, max_frames)
    found = find_input(images, InputSettings(as_, fps, allow_urls, limits))
    if isinstance(found, Photograph):
      pixels = found.read()  # raises, where a list has a result with the reason
      held = dataclasses.replace(found, read=lambda: pixels)
      (result,) = stream_photographs([held], self.saved, align=align, batch=1)
      return PhotographResults(found, result, self)

    results = stream_photographs(all_photographs(found), self.saved, align=align, batch=batch)

    def collect(item: "PredictionInput") -> Results[Any]:
      if isinstance(item, InputGroup):
        return Results([collect(part) for part in item.items], item.name, self, item.note)
      if isinstance(item, VideoSource):
        return VideoResults(item, self, stream, seconds)
      return PhotographResults(item, next(results), self)

    return collect(found)

  def explain(
    self,
    images: Any,
    *,
    methods: Sequence[str] | None = None,
    label: str | None = None,
    mask_ratio: float | None = None,
    seed: int = 0,
    align: bool | None = None,
  ) -> list[Any]:
    """Heat maps of what the scores of every face depend on (not why), or reconstructions.

    Args:
      images: photographs, as in `predict`.
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
    from jax_me.inference.prediction_inputs import (
      InputGroup,
      InputSettings,
      Photograph,
      find_input,
    )

    explainer = self._explainer(methods, mask_ratio, seed)

    def explain_item(item: "PredictionInput") -> list[Any]:
      if isinstance(item, InputGroup):
        return [explain_item(part) for part in item.items]
      if not isinstance(item, Photograph):
        raise ValueError(f"{item.name} is no photograph {getattr(item, 'reason', '')}".rstrip())
      faces = face_inputs(item.read(), self.saved, align=align)
      return [explainer.explain(face, label) for face in faces]

    return explain_item(find_input(images, InputSettings(read_as="photos")))

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
    """The frames of a video, a folder of frames or a camera ("camera:0") as a stream.

    The same as a loop over `predict(video, as_="frames", motion=False)`.

    Args:
      video: path, or camera name.
      fps: as in `predict`.
      every: as in `predict`.
      align: as in `predict`.

    Returns:
      an iterator with at least one result per frame, in order; one per person if there are several.
      Motion models compare each frame with the one 0.2 s earlier.

    Raises:
      ValueError: the video cannot be opened, a setting is out of range, or the model has no labels.
    """
    results = self.predict(video, as_="frames", fps=fps, every=every, align=align, motion=False)
    return _frames(results)


def _frames(results: Results[Any]) -> Iterator[FrameResult]:
  for result in results:
    if isinstance(result, Results):
      yield from _frames(result)
    else:
      yield result


def load(
  folder: str | os.PathLike = PACKAGED, *, verify: bool = False, **overrides: object
) -> Predictor:
  """Loads a model folder, a run, a checkpoint, or weights by name.

  Args:
    folder: written by `convert` or `run.py`; or a torch or safetensors file, or a folder of timm or
      transformers; or a name: hf://OWNER/NAME[@REVISION], timm://NAME, release://FILE. Of a run
      with several folds, RUN is the final model if it has one, else the mean of the probabilities
      of the folds; RUN/ensemble is always this mean, RUN/final the final model, RUN/fold1 a fold.
    verify: also compare the output for a synthetic image with the one that the folder keeps.
    **overrides: constructor keywords that do not change the parameters (`dtype`, ...).

  Returns:
    the classifier.

  Raises:
    SavedModelError: the folder has no model, a damaged or an edited one.
    ConversionError: the checkpoint cannot be converted or downloaded.
    ValueError: the model is neither a classifier with labels nor a masked autoencoder, or its head
      is untrained.
  """
  saved = import_bundled("convert.model_source").open_model(folder, verify=verify, **overrides)
  check_head(saved)
  return Predictor(saved, os.fspath(folder))
