"""Analysis of an uploaded photograph: annotated copy, scores, heat maps or reconstructions."""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from jax_me.demo.uploads import RefusedUpload, UploadLimits, read_photograph_upload
from jax_me.faces.image_files import encode_image
from jax_me.inference.explain.explainer import Explanation, Reconstruction
from jax_me.inference.explain.explanation_figures import result_images
from jax_me.inference.model_input import InputSpec
from jax_me.inference.predictor import Predictor
from jax_me.inference.results import FaceResult
from jax_me.inference.source_results import face_results
from jax_me.inference.video.annotation import draw_photograph
from jax_me.inference.video.frame_stream import Detection, FrameDetections, with_finite_scores
from jax_me.inference.video.sources import Frame
from jax_me.reports.document import Block, Gallery, KeyFigures, Table, Text, Tile

# Faces with a column of scores and a heat map; all have a box.
MAX_FACES = 6
NO_FACE = (
  "No face was found. Use a photograph in which a face is turned to the camera and at least 80 "
  "pixels wide."
)


@dataclasses.dataclass(frozen=True)
class PhotographAnalysis:
  """What the page shows of a photograph.

  Attributes:
    annotated: uint8 [H, W, 3] RGB, with boxes and labels.
    blocks: scores, and heat maps or reconstructions.
  """

  annotated: np.ndarray
  blocks: Sequence[Block]


def analyse_photograph(
  predictor: Predictor, path: str | os.PathLike | None, limits: UploadLimits
) -> PhotographAnalysis:
  """Analyses the faces of an uploaded photograph.

  Args:
    predictor: a classifier of single images, or a masked autoencoder.
    path: of the upload; None without one.
    limits: of uploads.

  Returns:
    what the page shows.

  Raises:
    RefusedUpload: the photograph cannot be used, or the model takes clips only.
  """
  spec = InputSpec.from_model(predictor.saved)
  if spec.is_motion:
    raise RefusedUpload(
      f"This model was trained on motion ({spec.input}) and takes clips: use the other tab."
    )
  image = read_photograph_upload(path, limits)
  labels = predictor.labels
  explained = predictor.explain(image)  # with the scores, so that the faces are found once
  faces = [_detection(number, result) for number, result in enumerate(explained, start=1)]
  found = with_finite_scores(
    FrameDetections(Frame(0, 0.0, image), "ok" if faces else "no_face", faces)
  )
  annotated = draw_photograph(found, labels)
  assert annotated is not None
  if not found.detections:
    return PhotographAnalysis(annotated, [Text(found.frame.reason or NO_FACE, warning=True)])
  blocks = _scores(face_results(found, labels), labels) if labels else []
  for number, result in enumerate(explained[:MAX_FACES], start=1):
    blocks += _heat_maps(result, number) if labels else _reconstruction(result, number)
  return PhotographAnalysis(annotated, blocks)


def _detection(number: int, result: Explanation | Reconstruction) -> Detection:
  if isinstance(result, Reconstruction):
    return Detection(number, result.face.box)
  scores = np.array(list(result.scores.values()))
  return Detection(number, result.face.box, scores, affect=result.affect)


def _scores(faces: Sequence[FaceResult], labels: Sequence[str]) -> list[Block]:
  shown = faces[:MAX_FACES]
  names = [f"face {number}" if len(faces) > 1 else "face" for number in range(1, len(shown) + 1)]
  figures = []
  for name, face in zip(names, shown, strict=True):
    assert face.label is not None
    affect = ""
    if face.valence is not None:
      affect = f"; valence {face.valence:+.2f}, arousal {face.arousal:+.2f}"
    figures.append((name, face.label, f"score {face.scores[face.label]:.2f}{affect}"))
  rows = [[label, *(f"{face.scores[label]:.3f}" for face in shown)] for label in labels]
  blocks: list[Block] = [KeyFigures(figures), Table("Scores", ["class", *names], rows)]
  if len(faces) > len(shown):
    blocks.append(Text(f"{len(faces) - len(shown)} smaller faces have only a box."))
  return blocks


def _images(
  result: Explanation | Reconstruction, number: int, heading: str, note: str
) -> list[Block]:
  """The images of one face as tiles, below a heading."""
  tiles = [
    Tile([(encode_image(image), f"face {number}: {title}")], title)
    for title, image in result_images(result)
  ]
  return [Gallery(tiles, heading=heading), Text(note)]


def _heat_maps(result: Explanation, number: int) -> list[Block]:
  return _images(
    result,
    number,
    f"Face {number}: where the score of {result.label} depends on the image",
    "Bright areas count more. A heat map does not say why a score is high.",
  )


def _reconstruction(result: Reconstruction, number: int) -> list[Block]:
  return _images(
    result,
    number,
    f"Face {number}: removed patches and their reconstruction",
    f"Root mean squared error over the removed patches: {result.error:.3f}, of images in [0, 1].",
  )
