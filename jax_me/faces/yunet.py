"""YuNet face detector (OpenCV's `FaceDetectorYN`), which also finds small, turned and masked faces.

W. Wu, H. Peng, S. Yu: YuNet: A Tiny Millisecond-level Face Detector. Machine Intelligence Research
20, 2023. The network in this folder is that of OpenCV Zoo (MIT, Copyright (c) 2020 Shiqi Yu; see
face_detection_yunet_2023mar.LICENSE.txt). It gives a box, a score and five points per face.

The image is searched at one or two scales, and again in a turned copy if its faces are turned.
A detection that is not clear needs a second cue: the face is searched again in an enlarged crop, in
eight rotations. The best of them is also the rotation of the face in the plane, which the network
does not tell: its points of an inverted face are those of an upright one.
"""

import dataclasses
import hashlib
import math
import pathlib
import threading
from collections.abc import Iterable

import cv2
import numpy as np

MODEL_FILE = pathlib.Path(__file__).with_name("face_detection_yunet_2023mar.onnx")
MODEL_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"

# Lowest score of a detection. With OpenCV's default of 0.9 faces turned by 90 degrees are lost.
MIN_SCORE = 0.6
# Only upright faces (within about 40 degrees) reach this score, and hardly anything else.
CLEAR_SCORE = 0.92
# Other faces are accepted with this score in the best crop, or with this sum of both scores.
# Animals and drawings often have scores of up to 0.88 in the image, but lower ones in the crop.
CROP_SCORE = 0.85
SUM_OF_SCORES = 1.6
# In a crop, hardly any face that is not upright reaches this score.
CLEAR_CROP_SCORE = 0.91
# Longest sides of the copies that are searched. Larger copies lose large faces.
SMALL_SIDE, LARGE_SIDE = 320, 640
# A face with fewer pixels per side in the small copy leads to a search of the large one.
SMALL_FACE = 48
# Side of the face in the crop, side of the crop in pixels, number of rotations of the crop.
CROP_FACE, CROP_SIDE, CROP_ROTATIONS = 64, 128, 8
# Faces with fewer pixels per side are dropped: they have no usable landmarks.
MIN_SIDE = 12
# Faces with a larger roll lead to a search of a copy in which they are upright.
MAX_ROLL = math.radians(30)
# Copies that have no brighter pixel than this are brightened.
DARK = 128
# Boxes that overlap more than this (intersection over union) are one face.
SAME_FACE_IOU = 0.3
# Most images have far fewer candidates; a limit for the suppression of overlapping ones.
_MAX_CANDIDATES = 5000

_detectors = threading.local()
_log_level_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False)
class YuNetFace:
  """A detection in pixels of the image.

  Attributes:
    center: float64 [2], (x, y) of the middle of its box.
    side: side of the square with the area of the box.
    roll: rotation of the face in the plane in radians, 0 for an upright face, positive clockwise.
    score: in [0, 1].
  """

  center: np.ndarray
  side: float
  roll: float
  score: float


def find_faces(image: np.ndarray) -> list[YuNetFace]:
  """Finds the faces of an image in any rotation in the plane.

  Args:
    image: uint8 [H, W, 3] RGB.

  Returns:
    the faces in no particular order, empty when there is none.

  Raises:
    ValueError: the network's file is damaged.
    FileNotFoundError: the network's file is missing.
  """
  faces = _search(image, (SMALL_SIDE, LARGE_SIDE))
  sides: tuple[int, ...] = (SMALL_SIDE, LARGE_SIDE)
  if faces:
    roll = max(faces, key=lambda face: face.score).roll
    rolls = [roll] if abs(math.remainder(roll, 2 * math.pi)) > MAX_ROLL else []
  else:
    rolls, sides = [math.pi / 2, math.pi, -math.pi / 2], (SMALL_SIDE,)
  for roll in rolls:
    turned, to_turned = _turn(image, roll)
    faces += [_map_back(face, to_turned) for face in _search(turned, sides)]
  return [face for face in _suppress_overlaps(faces) if face.side >= MIN_SIDE]


def detect(image: np.ndarray, scale: float = 1.0) -> list[YuNetFace]:
  """Runs the network once, without second cues.

  Args:
    image: uint8 [H, W, 3] RGB.
    scale: factor of the copy that is searched. The network finds faces of about 10 to 300 pixels.

  Returns:
    the detections with a score of at least MIN_SCORE, with a roll within about 45 degrees.
  """
  copy = rescale(image, scale)
  if 0 < (brightest := int(copy.max())) < DARK:
    copy = cv2.convertScaleAbs(copy, alpha=255 / brightest)
  detector = _detector()
  detector.setInputSize(copy.shape[1::-1])
  _, rows = detector.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
  if rows is None:
    return []
  factors = np.array(image.shape[1::-1]) / copy.shape[1::-1]
  faces = []
  for row in rows.astype(np.float64):
    # Left, top, width, height; five points; score.
    size, points = row[2:4] * factors, row[4:14].reshape(5, 2) * factors
    if np.isfinite(row).all() and size.min() > 0:
      center = row[:2] * factors + size / 2
      faces.append(YuNetFace(center, math.sqrt(size.prod()), _roll(points), float(row[14])))
  return faces


def _roll(points: np.ndarray) -> float:
  """Rotation of a face in the plane from its eyes and the corners of its mouth."""
  one_eye, other_eye, _, one_corner, other_corner = points
  down = (one_corner + other_corner - one_eye - other_eye) / 2
  # The eyes alone give no direction in a profile, where they are close together.
  right = (other_eye - one_eye) + (other_corner - one_corner) + [down[1], -down[0]]
  return math.atan2(right[1], right[0])


def upright_crop(
  image: np.ndarray, face: YuNetFace, face_side: float, crop_side: int
) -> tuple[np.ndarray, np.ndarray]:
  """Cuts out a face, turned upright.

  Args:
    image: uint8 [H, W, 3] RGB.
    face: the face.
    face_side: its side in the crop in pixels.
    crop_side: side of the crop in pixels; the box of the face is in the middle.

  Returns:
    uint8 [crop_side, crop_side, 3], black outside the image; float64 [2, 3], crop (x, y) =
    matrix @ image (x, y, 1).
  """
  scale = face_side / face.side
  cos, sin = math.cos(face.roll) * scale, math.sin(face.roll) * scale
  rotation = np.array([[cos, sin], [-sin, cos]])
  matrix = np.column_stack([rotation, crop_side / 2 - rotation @ face.center])
  # Only the region around the face is shrunk, by area averaging: a large image costs no more.
  half = crop_side / scale / math.sqrt(2)
  low = np.maximum(np.floor(face.center - half), 0).astype(int)
  high = np.minimum(np.ceil(face.center + half) + 1, image.shape[1::-1]).astype(int)
  if (high <= low).any():  # the face is outside the image
    return np.zeros((crop_side, crop_side, 3), np.uint8), matrix
  region = image[low[1] : high[1], low[0] : high[0]]
  if scale < 1:
    size = tuple(max(1, round(side * scale)) for side in region.shape[1::-1])
    factors = np.array(size) / region.shape[1::-1]
    region = cv2.resize(region, size, interpolation=cv2.INTER_AREA)
  else:
    factors = np.ones(2)
  # Pixel centres have integer coordinates: region = (image + 0.5 - low) * factors - 0.5.
  to_image = np.diag([*(1 / factors), 1.0])
  to_image[:2, 2] = low - 0.5 + 0.5 / factors
  to_crop = matrix @ to_image
  return cv2.warpAffine(region, to_crop, (crop_side, crop_side), flags=cv2.INTER_LINEAR), matrix


def find_near(image: np.ndarray, face: YuNetFace) -> YuNetFace | None:
  """Searches a face in an upright crop around its expected place (2 ms).

  Args:
    image: uint8 [H, W, 3] RGB.
    face: where it is expected, with which size and roll.

  Returns:
    the best detection of similar place and size; None if there is none.
  """
  crop, to_crop = upright_crop(image, face, CROP_FACE, CROP_SIDE)
  near = [
    found
    for found in detect(crop)
    if np.abs(found.center - CROP_SIDE / 2).max() < 0.35 * CROP_FACE
    and 0.6 * CROP_FACE < found.side < 1.6 * CROP_FACE
  ]
  best = max(near, key=lambda found: found.score, default=None)
  return None if best is None else _map_back(best, to_crop)


def _search(image: np.ndarray, sides: Iterable[int]) -> list[YuNetFace]:
  """Accepted faces of copies with these longest sides.

  A larger copy is searched only if the smaller ones have no face, or an unclear or small one.
  """
  faces: list[YuNetFace] = []
  last = 0.0
  for side in sides:
    scale = min(2.0, side / max(image.shape[:2]))
    if scale > last:
      faces = _suppress_overlaps(faces + detect(image, scale))
      last = scale
    if faces and all(f.score >= CLEAR_SCORE and f.side * scale >= SMALL_FACE for f in faces):
      break
  accepted = [_accept(image, face) for face in faces]
  return _suppress_overlaps([face for face in accepted if face is not None])


def _accept(image: np.ndarray, face: YuNetFace) -> YuNetFace | None:
  """The face with its rotation if it is clear or has a second cue, else None."""
  if face.score >= CLEAR_SCORE:
    return face
  best = None
  for rotation in range(CROP_ROTATIONS):
    roll = face.roll + rotation * 2 * math.pi / CROP_ROTATIONS
    found = find_near(image, dataclasses.replace(face, roll=roll))
    if found is not None and (best is None or found.score > best.score):
      best = found
      if best.score >= CLEAR_CROP_SCORE:
        break
  if best is None or max(best.score - CROP_SCORE, face.score + best.score - SUM_OF_SCORES) < 0:
    return None
  return dataclasses.replace(best, score=max(face.score, best.score))


def _suppress_overlaps(faces: list[YuNetFace]) -> list[YuNetFace]:
  """Non-maximum suppression: of overlapping detections the one with the highest score."""
  kept: list[YuNetFace] = []
  for face in sorted(faces, key=lambda face: face.score, reverse=True):
    if all(_iou(face, other) <= SAME_FACE_IOU for other in kept):
      kept.append(face)
  return kept


def _iou(face: YuNetFace, other: YuNetFace) -> float:
  """Intersection over union of two squares."""
  widths = (face.side + other.side) / 2 - np.abs(face.center - other.center)
  inside = float(np.clip(widths, 0, min(face.side, other.side)).prod())
  return inside / (face.side**2 + other.side**2 - inside)


def rescale(image: np.ndarray, scale: float) -> np.ndarray:
  """Scales an image by a factor, to at least one pixel per side; with factor 1 the image itself."""
  if scale == 1:
    return image
  height, width = (max(1, round(side * scale)) for side in image.shape[:2])
  # Area averaging keeps the gradients of a shrunk image free of aliasing.
  interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
  return cv2.resize(image, (width, height), interpolation=interpolation)


def _turn(image: np.ndarray, roll: float) -> tuple[np.ndarray, np.ndarray]:
  """Turns a copy of an image so that faces with this roll are upright.

  Returns:
    the copy, with a longest side of at most about LARGE_SIDE; float64 [2, 3], copy (x, y) =
    matrix @ image (x, y, 1).
  """
  height, width = image.shape[:2]
  small = rescale(image, min(1.0, LARGE_SIDE / max(height, width)))
  factors = np.array(small.shape[1::-1]) / [width, height]
  cos, sin = math.cos(roll), math.sin(roll)
  rotation = np.array([[cos, sin], [-sin, cos]])
  size = np.rint(np.abs(rotation) @ small.shape[1::-1]).astype(int).tolist()
  # Pixel centres have integer coordinates: (x + 0.5) * factor - 0.5.
  shift = (np.array(size) - 1) / 2 - rotation @ ((np.array(small.shape[1::-1]) - 1) / 2)
  turned = cv2.warpAffine(small, np.column_stack([rotation, shift]), size)
  return turned, np.column_stack([rotation * factors, rotation @ (factors / 2 - 0.5) + shift])


def _map_back(face: YuNetFace, matrix: np.ndarray) -> YuNetFace:
  """Maps a face of a turned copy or crop to the image.

  Args:
    face: in pixels of the copy.
    matrix: float64 [2, 3], copy (x, y) = matrix @ image (x, y, 1).
  """
  to_image = cv2.invertAffineTransform(matrix)
  center = to_image[:, :2] @ face.center + to_image[:, 2]
  scale = math.sqrt(abs(np.linalg.det(to_image[:, :2])))
  roll = face.roll + math.atan2(to_image[1, 0], to_image[0, 0])
  return YuNetFace(center, face.side * scale, roll, face.score)


def _detector() -> cv2.FaceDetectorYN:
  """The detector of this thread: it keeps the image size and buffers between calls."""
  detector = getattr(_detectors, "detector", None)
  if detector is None:
    detector = _detectors.detector = _load_detector()
  return detector


def _load_detector() -> cv2.FaceDetectorYN:
  network = MODEL_FILE.read_bytes()
  if hashlib.sha256(network).hexdigest() != MODEL_SHA256:
    raise ValueError(f"{MODEL_FILE} is damaged: install jax_me again")
  arguments = np.frombuffer(network, np.uint8), np.zeros(0, np.uint8), (SMALL_SIDE, SMALL_SIDE)
  # OpenCV 5 logs a warning about targets for every network that is loaded.
  with _log_level_lock:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(min(level, cv2.utils.logging.LOG_LEVEL_ERROR))
    try:
      return cv2.FaceDetectorYN.create("onnx", *arguments, MIN_SCORE, 0.3, _MAX_CANDIDATES)
    finally:
      cv2.utils.logging.setLogLevel(level)
