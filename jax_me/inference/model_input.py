"""Model inputs from images, clips and tracked faces, in the form that the model was trained on.

Models trained on single frames ("apex", "key_frames", "frames", photographs) get the face crop of
the image. Models trained on the motion of a clip get, in a video, the motion up to the frame:

  flow, pair   from the frame 0.2 s earlier (a micro-expression rises in 0.1 to 0.3 s) to this one.
  dynamic      the rank-pooled image of up to 10 frames of the last 0.4 s.

If the track is shorter than that, motion starts at its first frame. All crops of a motion image
use the face chip of the earliest frame, as clips do in training.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Protocol

import cv2
import numpy as np

from jax_me.data.clip_inputs import inputs
from jax_me.faces.alignment import FaceChip, align_clip
from jax_me.faces.detector import EARLIER_DETECTOR, Box, check_detector, find_faces
from jax_me.image_preparation import resize_image
from jax_me.models.model_folder import SavedModel

REFERENCE_SECONDS = 0.2
DYNAMIC_SECONDS = 0.4
DYNAMIC_FRAMES = 10
# Time window of each motion input; all other inputs use one frame.
WINDOW_SECONDS = {
  "flow": REFERENCE_SECONDS,
  "pair": REFERENCE_SECONDS,
  "dynamic": DYNAMIC_SECONDS,
}


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """Form of a model's input images.

  Attributes:
    input: one of `clip_inputs.INPUTS`, or "" for photographs.
    align: whether faces are detected and cropped; otherwise the whole image is used.
    crop_size: side of the face crops in pixels.
    image_size: side of the model input in pixels.
    detector: one of `detector.DETECTORS`, as in training.
    scale, down, upright: how the training images crop a face, relative to its face chip: see
      `FaceChip.adjusted`.
    grey: whether the training images are grey.
  """

  input: str
  align: bool
  crop_size: int
  image_size: int
  detector: str = EARLIER_DETECTOR
  scale: float = 1.0
  down: float = 0.0
  upright: bool = False
  grey: bool = False

  @classmethod
  def from_model(cls, saved: SavedModel, *, align: bool | None = None) -> "InputSpec":
    """Reads the specification from the metadata of a saved model.

    Args:
      saved: the model.
      align: whether to detect and crop faces; None does as the model's metadata say. Those of a
        converted model say that it takes whole images unless its user said otherwise.

    Raises:
      ValueError: the model was trained on an unknown input, or with an unknown detector.
    """
    name, alignment = saved.input, saved.alignment
    if name and name not in inputs.INPUTS:
      raise ValueError(
        f"the model was trained on the input {name!r}, which is none of {', '.join(inputs.INPUTS)}"
      )
    crop_size = alignment["size"] or saved.image_size
    align = alignment["align"] if align is None else align
    check_detector(alignment["detector"])
    crop = {setting: alignment[setting] for setting in ("scale", "down", "upright", "grey")}
    return cls(name, align, crop_size, saved.image_size, alignment["detector"], **crop)

  def crop_of(self, chip: FaceChip) -> FaceChip:
    """The square that a training image would show of a face with this chip."""
    sized = dataclasses.replace(chip, size=self.crop_size)
    if (self.scale, self.down, self.upright) == (1.0, 0.0, False):
      return sized
    return sized.adjusted(self.scale, self.down, upright=self.upright)

  def model_image(self, image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] RGB, a crop or a whole image -> uint8 [image_size, image_size, 3]."""
    image = resize_image(image, self.image_size)
    if self.grey:
      image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return image

  @property
  def is_motion(self) -> bool:
    """Whether the images show changes between frames instead of a single frame."""
    return self.input in WINDOW_SECONDS


def with_detector(saved: SavedModel, detector: str) -> SavedModel:
  """The model with another face detector than that of its training images."""
  return dataclasses.replace(saved, alignment={**saved.alignment, "detector": detector})


@dataclasses.dataclass(frozen=True)
class FaceInput:
  """The model input for one face.

  Attributes:
    image: uint8 [S, S, 3] RGB, the input before normalisation.
    box: (left, top, right, bottom) of the face in pixels of the original image; None if no face
      detection was done.
    landmarks: float [68, 2], (x, y) in pixels of `image`; None if no face detection was done.
    original_landmarks: the same in pixels of the original image.
  """

  image: np.ndarray
  box: Box | None = None
  landmarks: np.ndarray | None = None
  original_landmarks: np.ndarray | None = None


def face_inputs(
  image: np.ndarray, saved: SavedModel, *, align: bool | None = None
) -> list[FaceInput]:
  """Detects and aligns all faces of an image as in training.

  Args:
    image: uint8 [H, W, 3] RGB.
    saved: the model; its `alignment` is that of the training data.
    align: see `InputSpec.from_model`. False uses the image as it is: an aligned face, or the motion
      image of a motion model.

  Returns:
    one input per face, largest face first; empty if no face is found. Without alignment, the
    whole image is the only input.

  Raises:
    ValueError: a motion model with `align` other than False.
  """
  spec = InputSpec.from_model(saved, align=align)
  if spec.is_motion and align is not False:
    motion = "optical flow" if spec.input == "flow" else f"motion ({spec.input})"
    raise ValueError(
      f"{saved.name} was trained on {motion} from onset to apex; it accepts videos (predict_video) "
      "and clips, not single images"
    )
  if not spec.align:
    return [FaceInput(spec.model_image(saved.prepare(image)))]
  faces = []
  for face in find_faces(image, spec.detector):
    chip = spec.crop_of(FaceChip.of_face(face, spec.crop_size))
    landmarks = _input_landmarks(face.landmarks, chip.matrix(), spec)
    faces.append(
      FaceInput(spec.model_image(chip.extract(image)), face.box, landmarks, face.landmarks)
    )
  return faces


def required_clip_frames(saved: SavedModel, *, apex: int, count: int) -> list[int]:
  """Indices of the frames that the motion image of a clip is computed from.

  Args:
    saved: a motion model.
    apex: index of the apex frame, from 0.
    count: number of frames; the first one is the onset, the last one the offset.

  Returns:
    frame indices in ascending order, at least two.

  Raises:
    ValueError: too few frames, or the apex is out of range.
  """
  spec = InputSpec.from_model(saved)
  required = inputs.frames_needed(
    spec.input, onset=0, apex=apex, offset=count - 1, available=range(count), count=0
  )
  if len(required) < 2:
    raise ValueError(f"motion needs an onset and a later apex, got {count} frames and apex {apex}")
  return required


def clip_face(
  frames: Mapping[int, np.ndarray], saved: SavedModel, *, apex: int, count: int
) -> FaceInput | None:
  """The motion image of a clip, computed as in training.

  Args:
    frames: {index: uint8 [H, W, 3] RGB}, all of one size: those of `required_clip_frames`.
    saved: a motion model.
    apex: index of the apex frame, from 0.
    count: number of frames of the clip.

  Returns:
    the input, aligned by the first frame in which a face is found; None if there is none.

  Raises:
    ValueError: the frames differ in size.
  """
  spec = InputSpec.from_model(saved)
  indices = sorted(frames)
  images = [frames[index] for index in indices]
  box = landmarks = None
  if spec.align:
    aligned = align_clip(images, spec.crop_size, detector=spec.detector)
    record = aligned[0].record
    if any(face.record["status"] == "size_mismatch" for face in aligned):
      raise ValueError("the frames of the clip differ in size")
    if record["status"] == "no_face":
      return None
    crops = [face.image for face in aligned if face.image is not None]
    box = tuple(record["box"])
    landmarks = _input_landmarks(np.array(record["landmarks"]), np.array(record["transform"]), spec)
  else:
    crops = [resize_image(image, spec.crop_size) for image in images]
  image = _motion_input(dict(zip(indices, crops, strict=True)), spec, apex=apex, last=count - 1)
  return FaceInput(image, box, landmarks)


def _motion_input(
  crops: Mapping[int, np.ndarray], spec: InputSpec, *, apex: int, last: int
) -> np.ndarray:
  """The motion image of face crops by frame number, from frame 0 (onset) to `last` (offset)."""
  ((_, image),) = inputs.make_clip_images(
    spec.input, crops, onset=0, apex=apex, offset=last, count=0
  )
  return resize_image(image, spec.image_size)


def _input_landmarks(landmarks: np.ndarray, matrix: np.ndarray, spec: InputSpec) -> np.ndarray:
  """Landmarks [68, 2] in pixels of the original image -> pixels of the model input."""
  in_crop = landmarks @ matrix[:, :2].T + matrix[:, 2]
  return (in_crop + 0.5) * (spec.image_size / spec.crop_size) - 0.5


class CroppableImage(Protocol):
  """A frame, or the region around a face, from which face chips are extracted."""

  def crop(self, chip: FaceChip) -> np.ndarray: ...


class InputBuilder:
  """Builds the model inputs of one person, frame by frame; keeps the frames of the time window."""

  def __init__(self, spec: InputSpec):
    self._spec = spec
    self._history: collections.deque[tuple[float, CroppableImage, FaceChip]] = collections.deque()

  def build(self, image: CroppableImage, chip: FaceChip, seconds: float) -> np.ndarray:
    """The model input for the next frame.

    Args:
      image: the frame, or the region around the face.
      chip: face chip in this frame, of any size.
      seconds: time of the frame.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    spec, history = self._spec, self._history
    chip = spec.crop_of(chip)
    if not spec.is_motion:
      return spec.model_image(image.crop(chip))
    history.append((seconds, image, chip))
    # Keeps the last frame that is at least one window old, and all later ones.
    while len(history) > 1 and seconds - history[1][0] >= WINDOW_SECONDS[spec.input] - 1e-6:
      history.popleft()
    last, first_chip = len(history) - 1, history[0][2]
    count = min(last + 1, DYNAMIC_FRAMES) if spec.input == "dynamic" else 2
    indices = np.rint(np.linspace(0, last, count)).astype(int).tolist()
    return _motion_input(
      {index: history[index][1].crop(first_chip) for index in indices}, spec, apex=last, last=last
    )
