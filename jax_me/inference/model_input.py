"""Model inputs of a tracked face in a video, in the form that the model was trained on.

Models trained on single frames ("apex", "key_frames", "frames", photographs) get the face crop of
the frame. Models trained on the motion of a clip get the motion up to the frame:

  flow, pair   from the frame 0.2 s earlier (a micro-expression rises in 0.1 to 0.3 s) to this one.
  dynamic      the rank-pooled image of up to 10 frames of the last 0.4 s.

If the track is shorter than that, motion starts at its first frame. All crops of a motion image
use the face chip of the earliest frame, as clips do in training.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jax_me.data.clip_inputs import dynamic_image, inputs
from jax_me.data.decoding import resize_image
from jax_me.faces.alignment import FaceChip

REFERENCE_SECONDS = 0.2
DYNAMIC_SECONDS = 0.4
DYNAMIC_FRAMES = 10
# Time window of each motion input; all other inputs use one frame.
WINDOW_SECONDS = {
  "flow": REFERENCE_SECONDS,
  "pair": REFERENCE_SECONDS,
  "dynamic": DYNAMIC_SECONDS,
}


class CroppableImage(Protocol):
  """A frame, or the region around a face, from which face chips are extracted."""

  def crop(self, chip: FaceChip) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class InputSpec:
  """Form of a model's input images.

  Attributes:
    input: one of `clip_inputs.INPUTS`, or "" for photographs.
    align: whether faces are detected and cropped; otherwise the whole image is used.
    crop_size: side of the face crops in pixels.
    image_size: side of the model input in pixels.
  """

  input: str
  align: bool
  crop_size: int
  image_size: int

  @classmethod
  def from_source(cls, source: Mapping[str, Any], image_size: int) -> "InputSpec":
    """Reads the specification from the `source` of a saved model.

    Raises:
      ValueError: the model was trained on an unknown input.
    """
    options = source.get("options", {})
    name = options.get("input", "")
    if name and name not in inputs.INPUTS:
      raise ValueError(
        f"the model was trained on the input {name!r}, which is none of {', '.join(inputs.INPUTS)}"
      )
    crop_size = int(options.get("size", 0)) or image_size
    return cls(name, bool(options.get("align", True)), crop_size, image_size)

  @property
  def is_motion(self) -> bool:
    """Whether the images show changes between frames instead of a single frame."""
    return self.input in WINDOW_SECONDS


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
    chip = dataclasses.replace(chip, size=spec.crop_size)
    if not spec.is_motion:
      return resize_image(image.crop(chip), spec.image_size)
    history.append((seconds, image, chip))
    # Keeps the last frame that is at least one window old, and all later ones.
    while len(history) > 1 and seconds - history[1][0] >= WINDOW_SECONDS[spec.input] - 1e-6:
      history.popleft()
    first_chip = history[0][2]
    if spec.input == "dynamic":
      count = min(len(history), DYNAMIC_FRAMES)
      indices = np.rint(np.linspace(0, len(history) - 1, count)).astype(int)
      faces = (history[index][1].crop(first_chip) for index in indices)
      motion = dynamic_image.dynamic_image(faces, count, inputs.DYNAMIC_GAIN)
    else:
      before, now = history[0][1].crop(first_chip), image.crop(first_chip)
      combine = inputs.pair_image if spec.input == "pair" else inputs.motion_image
      motion = combine(before, now)
    return resize_image(motion, spec.image_size)

  def reset(self) -> None:
    """Clears the history: the next frame does not continue the last one."""
    self._history.clear()
