"""Pictures and clips as a model was trained to see them, with the landmarks of the face."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.data.decoding import resize_image
from jax_me.faces.alignment import FaceChip, align_clip
from jax_me.faces.detector import Box, find_faces
from jax_me.inference.model_input import InputForm
from jax_me.models.model_folder import SavedModel


@dataclasses.dataclass(frozen=True)
class ModelFace:
  """What a model is shown of a face.

  Attributes:
    image: uint8 [S, S, 3] RGB, the model's input before normalisation.
    box: (left, top, right, bottom) of the face in pixels of the picture; None where none was
      looked for.
    landmarks: float [68, 2], (x, y) in pixels of `image`; None likewise.
  """

  image: np.ndarray
  box: Box | None = None
  landmarks: np.ndarray | None = None


def model_faces(
  image: np.ndarray, saved: SavedModel, *, align: bool | None = None
) -> list[ModelFace]:
  """Finds and aligns the faces of a picture as the training data was.

  Args:
    image: uint8 [H, W, 3] RGB.
    saved: the model, with what is known of its training data.
    align: False takes the picture as it is: an aligned face, or the very input of a model of
      motion. None does as in training.

  Returns:
    the faces, largest first; empty when there is none. Where nothing is aligned it is the whole
    picture.

  Raises:
    ValueError: a model of motion, and a picture to be aligned.
  """
  form = InputForm.of_source(saved.source, saved.image_size)
  if align is False:
    return [ModelFace(resize_image(image, form.side))]
  if form.is_motion:
    what = "optical flow" if form.input == "flow" else f"motion ({form.input})"
    raise ValueError(
      f"{saved.name} was trained on {what} from onset to apex; it reads videos (predict_video) and "
      "clips, not single photographs"
    )
  if not (form.align if align is None else align):
    return [ModelFace(resize_image(image, form.side))]
  found = []
  for face in find_faces(image):
    chip = FaceChip.of_face(face, form.cut)
    landmarks = _moved(face.landmarks, chip.matrix(), form)
    found.append(ModelFace(resize_image(chip.extract(image), form.side), face.box, landmarks))
  return found


def clip_frames(saved: SavedModel, *, apex: int, count: int) -> list[int]:
  """Which frames of a clip from onset to offset the picture of motion is made from.

  Args:
    saved: a model of motion.
    apex: which frame shows the expression at its height, from 0.
    count: number of frames, the first being the onset and the last the offset.

  Raises:
    ValueError: too few frames, or an apex outside.
  """
  form = InputForm.of_source(saved.source, saved.image_size)
  needed = frames_needed(
    form.input, onset=0, apex=apex, offset=count - 1, available=range(count), count=0
  )
  if len(needed) < 2:
    raise ValueError(f"motion needs an onset and a later apex, got {count} frames and apex {apex}")
  return needed


def clip_face(
  frames: Mapping[int, np.ndarray], saved: SavedModel, *, apex: int, count: int
) -> ModelFace | None:
  """The picture of motion that a model was trained on, made from a clip.

  Args:
    frames: uint8 [H, W, 3] RGB, all of one size, by number: those that `clip_frames` names.
    saved, apex, count: as given to `clip_frames`.

  Returns:
    the face, aligned as it lies in the first frame where one is found; None where none is.

  Raises:
    ValueError: frames of different sizes.
  """
  form = InputForm.of_source(saved.source, saved.image_size)
  needed = sorted(frames)
  chosen = [frames[number] for number in needed]
  box = landmarks = None
  if form.align:
    aligned = align_clip(chosen, form.cut)
    record = aligned[0].record
    if any(one.image is None for one in aligned):
      if any(one.record["status"] == "size_mismatch" for one in aligned):
        raise ValueError("the frames of the clip differ in size")
      return None
    cut = [one.image for one in aligned]
    box = tuple(record["box"])
    landmarks = _moved(np.array(record["landmarks"]), np.array(record["transform"]), form)
  else:
    cut = [resize_image(frame, form.cut) for frame in chosen]
  given = {number: face for number, face in zip(needed, cut, strict=True) if face is not None}
  ((_, picture),) = make_clip_images(
    form.input, given, onset=0, apex=apex, offset=count - 1, count=0
  )
  return ModelFace(resize_image(picture, form.side), box, landmarks)


def _moved(landmarks: np.ndarray, matrix: np.ndarray, form: InputForm) -> np.ndarray:
  """[68, 2] in pixels of the picture -> pixels of the model's input."""
  cut = landmarks @ matrix[:, :2].T + matrix[:, 2]
  return (cut + 0.5) * (form.side / form.cut) - 0.5
