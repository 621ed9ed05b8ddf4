"""Model inputs from images and clips, prepared as in training, with face landmarks."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.data.decoding import resize_image
from jax_me.faces.alignment import FaceChip, align_clip
from jax_me.faces.detector import Box, find_faces
from jax_me.inference.model_input import InputSpec
from jax_me.models.model_folder import SavedModel


@dataclasses.dataclass(frozen=True)
class FaceInput:
  """The model input for one face.

  Attributes:
    image: uint8 [S, S, 3] RGB, the input before normalisation.
    box: (left, top, right, bottom) of the face in pixels of the original image; None if no face
      detection was done.
    landmarks: float [68, 2], (x, y) in pixels of `image`; None if no face detection was done.
  """

  image: np.ndarray
  box: Box | None = None
  landmarks: np.ndarray | None = None


def face_inputs(
  image: np.ndarray, saved: SavedModel, *, align: bool | None = None
) -> list[FaceInput]:
  """Detects and aligns all faces of an image as in training.

  Args:
    image: uint8 [H, W, 3] RGB.
    saved: the model; its `source` says how the training data was aligned.
    align: False uses the image as it is: an aligned face, or the motion image of a motion model.
      None does as in training.

  Returns:
    one input per face, largest face first; empty if no face is found. Without alignment, the
    whole image is the only input.

  Raises:
    ValueError: a motion model with `align` other than False.
  """
  spec = InputSpec.from_source(saved.source, saved.image_size)
  if align is False:
    return [FaceInput(resize_image(image, spec.image_size))]
  if spec.is_motion:
    motion = "optical flow" if spec.input == "flow" else f"motion ({spec.input})"
    raise ValueError(
      f"{saved.name} was trained on {motion} from onset to apex; it accepts videos (predict_video) "
      "and clips, not single images"
    )
  if not (spec.align if align is None else align):
    return [FaceInput(resize_image(image, spec.image_size))]
  inputs = []
  for face in find_faces(image):
    chip = FaceChip.of_face(face, spec.crop_size)
    landmarks = _input_landmarks(face.landmarks, chip.matrix(), spec)
    crop = resize_image(chip.extract(image), spec.image_size)
    inputs.append(FaceInput(crop, face.box, landmarks))
  return inputs


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
  spec = InputSpec.from_source(saved.source, saved.image_size)
  required = frames_needed(
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
  spec = InputSpec.from_source(saved.source, saved.image_size)
  indices = sorted(frames)
  images = [frames[index] for index in indices]
  box = landmarks = None
  if spec.align:
    aligned = align_clip(images, spec.crop_size)
    record = aligned[0].record
    if any(face.image is None for face in aligned):
      if any(face.record["status"] == "size_mismatch" for face in aligned):
        raise ValueError("the frames of the clip differ in size")
      return None
    crops = [face.image for face in aligned]
    box = tuple(record["box"])
    landmarks = _input_landmarks(np.array(record["landmarks"]), np.array(record["transform"]), spec)
  else:
    crops = [resize_image(image, spec.crop_size) for image in images]
  faces = {index: crop for index, crop in zip(indices, crops, strict=True) if crop is not None}
  ((_, motion_image),) = make_clip_images(
    spec.input, faces, onset=0, apex=apex, offset=count - 1, count=0
  )
  return FaceInput(resize_image(motion_image, spec.image_size), box, landmarks)


def _input_landmarks(landmarks: np.ndarray, matrix: np.ndarray, spec: InputSpec) -> np.ndarray:
  """Landmarks [68, 2] in pixels of the original image -> pixels of the model input."""
  in_crop = landmarks @ matrix[:, :2].T + matrix[:, 2]
  return (in_crop + 0.5) * (spec.image_size / spec.crop_size) - 0.5
