"""Aligned faces: dlib's face chip from a photograph, or one and the same chip from a whole clip."""

import dataclasses
from collections.abc import Iterable

import cv2
import dlib
import numpy as np

from jax_me.faces import detector

ON_NO_FACE = ("skip", "center", "error")

# The chip shows the face with this margin, as a share of its size (dlib.get_face_chip's default).
PADDING = 0.25


class NoFaceError(ValueError):
  """No face was found, and the policy on_no_face is "error"."""


@dataclasses.dataclass(frozen=True)
class FaceChip:
  """dlib's cut of a face: turned, scaled and moved, never sheared.

  Attributes:
    left, top, right, bottom: the square in source pixels before turning, as dlib states it.
    angle: radians by which the square is turned about its centre.
    size: side of the result in pixels.
  """

  left: float
  top: float
  right: float
  bottom: float
  angle: float
  size: int

  @classmethod
  def of_face(cls, face: detector.Face, size: int) -> "FaceChip":
    """The cut of `dlib.get_face_chip`: the landmarks fitted to dlib's mean face, padding 0.25."""
    left, top, right, bottom = face.box
    shape = dlib.full_object_detection(
      dlib.rectangle(left, top, right, bottom),
      [dlib.point(int(x), int(y)) for x, y in face.landmarks],
    )
    details = dlib.get_face_chip_details(shape, size=size, padding=PADDING)
    rect = details.rect
    return cls(rect.left(), rect.top(), rect.right(), rect.bottom(), details.angle, size)

  def matrix(self) -> np.ndarray:
    """float64 [2, 3]: chip (x, y) = matrix @ source (x, y, 1), pixel centres at whole numbers."""
    # dlib maps the square's corners, turned about its centre, to the chip's corner pixels.
    scale = (self.size - 1) / (self.right - self.left)
    cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
    turn = np.array([[cos, sin], [-sin, cos]])
    source = np.array([self.left + self.right, self.top + self.bottom]) / 2
    # Each halving of dlib's pyramid keeps the source pixels 2i + 2, but is reckoned as
    # p / 2 - (1.25, 0.75): a quarter of a halved pixel off, which would show in the record.
    source += (2 ** (self._halvings() + 1) - 2) * np.array([-0.25, 0.25])
    center = np.full(2, (self.size - 1) / 2)
    return np.column_stack([turn, center - turn @ source])

  def _halvings(self) -> int:
    """How often dlib halves the picture before it cuts: while the half has more pixels."""
    side, count = (self.right - self.left) / 2, 0
    while (side + 1) ** 2 > self.size**2:
      side, count = side / 2, count + 1
    return count

  def extract(self, image: np.ndarray) -> np.ndarray:
    """Cuts uint8 [H, W, 3] -> uint8 [size, size, 3]; black outside the picture."""
    rect = dlib.drectangle(self.left, self.top, self.right, self.bottom)
    details = dlib.chip_details(rect, dlib.chip_dims(self.size, self.size), self.angle)
    return dlib.extract_image_chip(np.ascontiguousarray(image), details)


@dataclasses.dataclass(frozen=True)
class CenterChip:
  """The largest centred square of a picture, for pictures without a face.

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
    side = min(height, width)
    return cls((width - side) // 2, (height - side) // 2, side, size)

  def matrix(self) -> np.ndarray:
    """float64 [2, 3]: chip (x, y) = matrix @ source (x, y, 1), pixel centres at whole numbers."""
    scale = self.size / self.side
    move = (scale - 1) / 2 - scale * np.array([self.left, self.top])
    return np.column_stack([np.eye(2) * scale, move])

  def extract(self, image: np.ndarray) -> np.ndarray:
    """Cuts uint8 [H, W, 3] -> uint8 [size, size, 3]."""
    square = image[self.top : self.top + self.side, self.left : self.left + self.side]
    # Not by dlib: its pyramid would leave a black frame where the square meets the border.
    interpolation = cv2.INTER_AREA if self.side > self.size else cv2.INTER_LINEAR
    return cv2.resize(square, (self.size, self.size), interpolation=interpolation)


@dataclasses.dataclass(frozen=True)
class AlignedFace:
  """An aligned face and where it came from.

  Attributes:
    image: uint8 [size, size, 3] RGB, or None where `record["status"]` says that there is none.
    record: JSON-ready dict:
      status: "ok", "several_faces" (the largest was taken), "no_face", "centered" (no face; the
        centred square), and in clips "size_mismatch".
      faces: number of faces found.
      box: [left, top, right, bottom] of the face taken, or None.
      landmarks: 68 pairs [x, y] in source pixels, or None.
      transform: 2 x 3 matrix from source pixels to chip pixels, or None.
      In clips box and landmarks are those of the frame `reference` (its index), whose transform
      all frames share.
  """

  image: np.ndarray | None
  record: dict


def align_image(image: np.ndarray, size: int, on_no_face: str = "skip") -> AlignedFace:
  """Aligns the largest face of a photograph.

  Args:
    image: uint8 [H, W, 3] RGB.
    size: side of the aligned face in pixels.
    on_no_face: "skip" (no image), "center" (the centred square) or "error".

  Raises:
    NoFaceError: no face, and on_no_face is "error".
    ValueError: bad arguments.
  """
  check_settings(size, on_no_face)
  return ClipAligner.from_frame(image, detector.find_faces(image), size, on_no_face).align(image)


def align_clip(
  frames: Iterable[np.ndarray], size: int, on_no_face: str = "skip"
) -> list[AlignedFace]:
  """Aligns a clip with one transform, that of the first frame in which a face is found.

  Aligning frame by frame would add the landmarks' jitter, and micro-expressions are motions of
  that order. Frames before the first face are cut with the same transform.

  Args:
    frames: uint8 [H, W, 3] RGB frames in their order. Only the results are kept, and the frames
      before the first face.
    size: side of the aligned faces in pixels.
    on_no_face: what to do when no frame has a face: "skip" (no images), "center" or "error".

  Returns:
    One AlignedFace per frame. A frame whose size differs from the reference frame's cannot share its
    transform: it has no image and the status "size_mismatch".

  Raises:
    NoFaceError: no frame has a face, and on_no_face is "error".
    ValueError: bad arguments.
  """
  check_settings(size, on_no_face)
  aligner, waiting, results = None, [], []
  for index, frame in enumerate(frames):
    if aligner is None:
      waiting.append(frame)
      if faces := detector.find_faces(frame):
        aligner = ClipAligner.from_frame(frame, faces, size, on_no_face, reference=index)
        results = [aligner.align(early) for early in waiting]
        waiting.clear()
    else:
      results.append(aligner.align(frame))
  if waiting:
    aligner = ClipAligner.from_frame(waiting[0], [], size, on_no_face, reference=0)
    results = [aligner.align(frame) for frame in waiting]
  return results


@dataclasses.dataclass(frozen=True)
class ClipAligner:
  """The one transform of a photograph or clip, and the record that goes with it.

  Attributes:
    shape: (height, width) of the frame that the transform was found in.
    chip: the cut; None when there is no face and nothing is to be cut.
    record: what `AlignedFace.record` shall say for each frame.
  """

  shape: tuple[int, int]
  chip: FaceChip | CenterChip | None
  record: dict

  @classmethod
  def from_frame(
    cls,
    frame: np.ndarray,
    faces: list[detector.Face],
    size: int,
    on_no_face: str,
    reference: int | str | None = None,
  ) -> "ClipAligner":
    """Takes the transform from a frame and its faces (largest first, as find_faces gives them).

    Args:
      frame: uint8 [H, W, 3] RGB.
      faces: the faces of this frame; empty when no frame has any.
      size, on_no_face: as in `align_clip`.
      reference: index or name of this frame, for the records of a clip; None for a photograph.

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
      "landmarks": faces[0].landmarks.astype(int).tolist() if faces else None,
      "transform": chip.matrix().tolist() if chip else None,
    }
    if reference is not None:
      record["reference"] = reference
    return cls((height, width), chip, record)

  def align(self, frame: np.ndarray) -> AlignedFace:
    """Cuts one frame."""
    if frame.shape[:2] != self.shape:
      return AlignedFace(None, {**self.record, "status": "size_mismatch", "transform": None})
    return AlignedFace(self.chip.extract(frame) if self.chip else None, dict(self.record))


def check_settings(size: int, on_no_face: str) -> None:
  """Raises ValueError when a setting is out of range."""
  if not 16 <= size <= 4096:
    raise ValueError(f"the size of aligned faces must be in [16, 4096] pixels, got {size}")
  if on_no_face not in ON_NO_FACE:
    raise ValueError(f"on_no_face must be one of {', '.join(ON_NO_FACE)}, got {on_no_face!r}")
