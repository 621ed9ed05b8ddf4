"""Photographs to detections: decoding, detection and alignment in threads beside the model."""

import collections
import concurrent.futures
from collections.abc import Iterable, Iterator

import numpy as np

from jax_me.cpu_cores import available_cores
from jax_me.faces.head_pose import HeadPose
from jax_me.inference.batched_inference import DEFAULT_BATCH, BatchedInference
from jax_me.inference.detection_threads import detection_threads
from jax_me.inference.model_input import FaceInput, face_inputs
from jax_me.inference.prediction_inputs import Photograph, UnusableInput, read_photograph
from jax_me.inference.video.frame_stream import (
  MAX_PENDING_FRAMES,
  Detection,
  FrameDetections,
  Status,
  with_finite_scores,
)
from jax_me.inference.video.sources import Frame
from jax_me.models.classifier import split_outputs
from jax_me.models.model_folder import SavedModel


def stream_photographs(
  photographs: Iterable[Photograph | UnusableInput],
  saved: SavedModel,
  *,
  align: bool | None = None,
  batch: int = DEFAULT_BATCH,
) -> Iterator[FrameDetections]:
  """Classifies the faces of photographs, each on its own.

  Args:
    photographs: read when they are needed; a few are held at a time.
    saved: a classifier.
    align: see `InputSpec.from_model`.
    batch: faces per model call.

  Yields:
    each photograph as a frame, in order, its faces numbered from the largest on; status "ok",
    "no_face", "unreadable" or "not_finite" (the scores of the model).

  Raises:
    ValueError: a motion model with `align` other than False.
  """
  inference: BatchedInference[Detection] = BatchedInference(saved, batch)
  pending: collections.deque[FrameDetections] = collections.deque()
  for frame, faces in _detect_in_threads(photographs, saved, align):
    detections = [_detection(number, face) for number, face in enumerate(faces, start=1)]
    status: Status = "unreadable" if frame.image is None else "ok" if faces else "no_face"
    pending.append(FrameDetections(frame, status, detections))
    for face, detection in zip(faces, detections, strict=True):
      _assign_scores(inference.submit(face.image, detection), saved.affect)
    if len(pending) > MAX_PENDING_FRAMES:
      _assign_scores(inference.flush(), saved.affect)
    while pending and all(d.scores is not None for d in pending[0].detections):
      yield with_finite_scores(pending.popleft())
  _assign_scores(inference.flush(), saved.affect)
  yield from map(with_finite_scores, pending)


def _detection(number: int, face: FaceInput) -> Detection:
  landmarks = face.original_landmarks
  pose = None if landmarks is None else HeadPose.of_landmarks(landmarks)
  return Detection(number, face.box, landmarks=landmarks, pose=pose)


def _assign_scores(ready: Iterable[tuple[Detection, np.ndarray]], affect: bool) -> None:
  for detection, outputs in ready:
    detection.scores, detection.affect = split_outputs(outputs, affect)


def _detect_in_threads(
  photographs: Iterable[Photograph | UnusableInput], saved: SavedModel, align: bool | None
) -> Iterator[tuple[Frame, list[FaceInput]]]:
  """The photographs and their faces, in order. Decoders and detectors run without Python's lock."""

  def detect(photograph: Photograph | UnusableInput) -> tuple[Frame, list[FaceInput]]:
    image, reason = read_photograph(photograph)
    frame = Frame(photograph.number, 0.0, image, photograph.file, reason)
    return frame, [] if image is None else face_inputs(image, saved, align=align)

  executor, workers = detection_threads(), available_cores()
  running: collections.deque[concurrent.futures.Future[tuple[Frame, list[FaceInput]]]]
  running = collections.deque()
  try:
    for photograph in photographs:
      running.append(executor.submit(detect, photograph))
      if len(running) > 2 * workers:
        yield running.popleft().result()
    while running:
      yield running.popleft().result()
  finally:
    for future in running:
      future.cancel()
