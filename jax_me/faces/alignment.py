"""Face alignment: dlib's face chip of a photograph, or one shared chip for a whole clip."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import cv2
import dlib
import numpy as np

from jax_me.faces import detector as face_detector

ON_NO_FACE = ("skip", "center", "error")

# Margin around the face in the chip, as a share of its size (dlib.get_face_chip's default).
PADDING = 0.25

# JSON-ready description of an alignment; `AlignedFace` lists its keys.
FaceRecord = dict[str, Any]


class NoFaceError(ValueError):
  """No face was found, and the policy on_no_face is "error"."""


@dataclasses.dataclass(frozen=True)
class FaceChip:
  """dlib's face chip: a similarity transform (rotation, scale, translation) of the image.

  Attributes:
    left, top, right, bottom: the square in source pixels before rotation, as dlib defines it.
    angle: rotation of the square about its centre, radians.
    size: side of the result in pixels.
  """

  left: float
  top: float
  right: float
  bottom: float
  angle: float
  size: int

  @classmethod
  def of_face(cls, face: face_detector.Face, size: int) -> "FaceChip":
    """The chip of `dlib.get_face_chip`: landmarks fitted to dlib's mean face, padding 0.25."""
    left, top, right, bottom = face.box
    shape = dlib.full_object_detection(
      dlib.rectangle(left, top, right, bottom),
      [dlib.point(round(x), round(y)) for x, y in face.landmarks.tolist()],
    )
    details = dlib.get_face_chip_details(shape, size=size, padding=PADDING)
    rect = details.rect
    return cls(rect.left(), rect.top(), rect.right(), rect.bottom(), details.angle, size)

  def adjusted(self, scale: float, down: float, *, upright: bool) -> "FaceChip":
    """The square as other datasets crop faces, relative to this one.

    Args:
      scale: factor of the side.
      down: shift of the centre from forehead to chin, in sides of this chip.
      upright: no rotation, as where a face detector's box was cut out.

    Returns:
      the chip, of the same size in pixels.
    """
    width = self.right - self.left
    x = (self.left + self.right) / 2 - np.sin(self.angle) * down * width
    y = (self.top + self.bottom) / 2 + np.cos(self.angle) * down * width
    half = scale * width / 2
    angle = 0.0 if upright else self.angle
    return FaceChip(x - half, y - half, x + half, y + half, angle, self.size)

  def matrix(self) -> np.ndarray:
    """float64 [2, 3]: chip (x, y) = matrix @ source (x, y, 1), pixel centres at whole numbers."""
    # dlib maps the corners of the rotated square to the chip's corner pixels.
    scale = (self.size - 1) / (self.right - self.left)
    cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
    rotation = np.array([[cos, sin], [-sin, cos]])
    source = np.array([self.left + self.right, self.top + self.bottom]) / 2
    # Each level of dlib's pyramid keeps the source pixels 2i + 2, but dlib computes with
    # p / 2 - (1.25, 0.75). This corrects the difference of a quarter of a halved pixel.
    source += (2 ** (self._pyramid_levels() + 1) - 2) * np.array([-0.25, 0.25])
    center = np.full(2, (self.size - 1) / 2)
    return np.column_stack([rotation, center - rotation @ source])

  def _pyramid_levels(self) -> int:
    """Number of times dlib halves the image before extraction: while the half has more pixels."""
    side, count = (self.right - self.left) / 2, 0
    while (side + 1) ** 2 > self.size**2:
      side, count = side / 2, count + 1
    return count

  def extract(self, image: np.ndarray) -> np.ndarray:
    """Extracts the chip: uint8 [H, W, 3] -> uint8 [size, size, 3]; black outside the image."""
    rect = dlib.drectangle(self.left, self.top, self.right, self.bottom)
    details = dlib.chip_details(rect, dlib.chip_dims(self.size, self.size), self.angle)
    return dlib.extract_image_chip(np.ascontiguousarray(image), details)


@dataclasses.dataclass(frozen=True)
class CenterChip:
  """The largest centred square of an image, for images without a face.

  Attributes:
    left, top, side: the square in source pixels.
    size: side of the result in pixels.
  """

  left: int
  top: int
  side: int
  size: int

  @classmethod
  def of_image(cls, height: int, width: int, size: int) -> "CenterChip":
    """The centred square of an image of this size.

    Args:
      height: of the image, pixels.
      width: of the image, pixels.
      size: side of the result in pixels.

    Returns:
      the chip.
    """
    side = min(height, width)
    return cls((width - side) // 2, (height - side) // 2, side, size)

  def matrix(self) -> np.ndarray:
    """float64 [2, 3]: chip (x, y) = matrix @ source (x, y, 1), pixel centres at whole numbers."""
    scale = self.size / self.side
    offset = (scale - 1) / 2 - scale * np.array([self.left, self.top])
    return np.column_stack([np.eye(2) * scale, offset])

  def extract(self, image: np.ndarray) -> np.ndarray:
    """Extracts the chip: uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    square = image[self.top : self.top + self.side, self.left : self.left + self.side]
    # Not with dlib: its pyramid would leave a black frame where the square touches the border.
    interpolation = cv2.INTER_AREA if self.side > self.size else cv2.INTER_LINEAR
    return cv2.resize(square, (self.size, self.size), interpolation=interpolation)


@dataclasses.dataclass(frozen=True)
class AlignedFace:
  """An aligned face and the record of its alignment.

  Attributes:
    image: uint8 [size, size, 3] RGB, or None for a `record["status"]` without an image.
    record: JSON-ready dict:
      status: "ok", "several_faces" (the largest is used), "no_face", "centered" (no face; the
        centred square), and in clips "size_mismatch".
      faces: number of faces found.
      box: [left, top, right, bottom] of the face used, or None.
      landmarks: 68 pairs [x, y] in source pixels, or None.
      transform: 2 x 3 matrix from source pixels to chip pixels, or None.
      In clips box and landmarks are those of the frame `reference` (its index), whose transform
      all frames share.
  """

  image: np.ndarray | None
  record: FaceRecord


def align_image(
  image: np.ndarray,
  size: int,
  on_no_face: str = "skip",
  detector: str = face_detector.DEFAULT_DETECTOR,
) -> AlignedFace:
  """Aligns the largest face of a photograph.

  Args:
    image: uint8 [H, W, 3] RGB.
    size: side of the aligned face in pixels.
    on_no_face: "skip" (no image), "center" (the centred square) or "error".
    detector: one of `detector.DETECTORS`.

  Returns:
    the aligned face and its record.

  Raises:
    NoFaceError: no face, and on_no_face is "error".
    ValueError: bad arguments.
  """
  check_settings(size, on_no_face)
  faces = face_detector.find_faces(image, detector)
  return ClipAligner.from_frame(image, faces, size, on_no_face).align(image)


def align_clip(
  frames: Iterable[np.ndarray],
  size: int,
  on_no_face: str = "skip",
  detector: str = face_detector.DEFAULT_DETECTOR,
) -> list[AlignedFace]:
  """Aligns a clip with one transform, that of the first frame in which a face is found.

  Aligning frame by frame would add the landmarks' jitter, which is as large as the motion of a
  micro-expression. Frames before the first face use the same transform.

  Args:
    frames: uint8 [H, W, 3] RGB frames in order. Only the results and the frames before the first
      face are kept in memory.
    size: side of the aligned faces in pixels.
    on_no_face: treatment of a clip without any face: "skip" (no images), "center" or "error".
    detector: one of `detector.DETECTORS`.

  Returns:
    One AlignedFace per frame. A frame that differs in size from the reference frame cannot share
    its transform: it has no image and the status "size_mismatch".

  Raises:
    NoFaceError: no frame has a face, and on_no_face is "error".
    ValueError: bad arguments.
  """
  check_settings(size, on_no_face)
  ahead, every = itertools.tee(frames)
  aligner = ClipAligner.of_clip(enumerate(ahead), size, on_no_face, detector)
  del ahead  # otherwise all frames would be kept
  return [] if aligner is None else [aligner.align(frame) for frame in every]


@dataclasses.dataclass(frozen=True)
class ClipAligner:
  """The shared transform of a photograph or clip, and its record.

  Attributes:
    shape: (height, width) of the frame that the transform is from.
    chip: the region to extract; None when there is no face and no image is wanted.
    record: the `AlignedFace.record` of each frame.
  """

  shape: tuple[int, int]
  chip: FaceChip | CenterChip | None
  record: FaceRecord

  @classmethod
  def of_clip(
    cls,
    frames: Iterable[tuple[int | str, np.ndarray]],
    size: int,
    on_no_face: str,
    detector: str = face_detector.DEFAULT_DETECTOR,
  ) -> "ClipAligner | None":
    """Computes the transform of a clip: that of its first frame with a face.

    Args:
      frames: (index or name, uint8 [H, W, 3] RGB) of the frames in order; none is taken after the
        first face.
      size: side of the aligned faces in pixels.
      on_no_face: treatment of a clip without any face, as in `align_clip`.
      detector: one of `detector.DETECTORS`.

    Returns:
      the aligner; None without frames.

    Raises:
      NoFaceError: no frame has a face, and on_no_face is "error".
    """
    first = None
    for reference, frame in frames:
      if faces := face_detector.find_faces(frame, detector):
        return cls.from_frame(frame, faces, size, on_no_face, reference)
      first = first or (reference, frame)
    return None if first is None else cls.from_frame(first[1], [], size, on_no_face, first[0])

  @classmethod
  def from_frame(
    cls,
    frame: np.ndarray,
    faces: list[face_detector.Face],
    size: int,
    on_no_face: str,
    reference: int | str | None = None,
  ) -> "ClipAligner":
    """Computes the transform from a frame and its faces.

    Args:
      frame: uint8 [H, W, 3] RGB.
      faces: the faces of this frame, largest first; empty when no frame has any.
      size: side of the aligned faces in pixels.
      on_no_face: as in `align_clip`.
      reference: index or name of this frame, for the records of a clip; None for a photograph.

    Returns:
      the aligner.

    Raises:
      NoFaceError: no faces, and on_no_face is "error".
    """
    height, width = frame.shape[:2]
    if faces:
      chip: FaceChip | CenterChip | None = FaceChip.of_face(faces[0], size)
      status = "ok" if len(faces) == 1 else "several_faces"
    elif on_no_face == "center":
      chip, status = CenterChip.of_image(height, width, size), "centered"
    elif on_no_face == "skip":
      chip, status = None, "no_face"
    else:
      raise NoFaceError(f"no face found in the {width} x {height} image")
    record = {
      "status": status,
      "faces": len(faces),
      "box": list(faces[0].box) if faces else None,
      "landmarks": np.rint(faces[0].landmarks).astype(int).tolist() if faces else None,
      "transform": chip.matrix().tolist() if chip else None,
    }
    if reference is not None:
      record["reference"] = reference
    return cls((height, width), chip, record)

  def align(self, frame: np.ndarray) -> AlignedFace:
    """Aligns one frame."""
    if frame.shape[:2] != self.shape:
      return AlignedFace(None, {**self.record, "status": "size_mismatch", "transform": None})
    return AlignedFace(self.chip.extract(frame) if self.chip else None, dict(self.record))


def check_settings(size: int, on_no_face: str) -> None:
  """Raises ValueError when a setting is out of range."""
  if not 16 <= size <= 4096:
    raise ValueError(f"the size of aligned faces must be in [16, 4096] pixels, got {size}")
  if on_no_face not in ON_NO_FACE:
    raise ValueError(f"on_no_face must be one of {', '.join(ON_NO_FACE)}, got {on_no_face!r}")
