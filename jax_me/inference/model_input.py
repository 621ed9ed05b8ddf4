"""What a model is shown of a person in a video: the picture that it was trained on.

Models trained on single frames ("apex", "key_frames", "frames", photographs) see the face of the
frame. Models trained on the motion of a clip see the motion up to the frame:

  flow, pair   from the frame 0.2 s before (a micro-expression rises in 0.1 to 0.3 s) to this one.
  dynamic      the rank-pooled picture of up to 10 frames of the last 0.4 s.

While somebody has been there for less, from the first frame there is. All faces of such a picture
are cut as the earliest one lies, like the clips in training.
"""

import collections
import dataclasses
from typing import Any, Protocol

import numpy as np

from jax_me.data.clip_inputs import dynamic_image, inputs
from jax_me.data.decoding import resize_image
from jax_me.faces.alignment import FaceChip

REFERENCE_SECONDS = 0.2
DYNAMIC_SECONDS = 0.4
DYNAMIC_FRAMES = 10
# How long each form of motion looks back; the others look at one frame.
WINDOWS = {"flow": REFERENCE_SECONDS, "pair": REFERENCE_SECONDS, "dynamic": DYNAMIC_SECONDS}


class View(Protocol):
  """A face and its surroundings, from which it can be cut as it lay in another frame."""

  def cut(self, chip: FaceChip) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class InputForm:
  """How a model's pictures are made.

  Attributes:
    input: one of `clip_inputs.INPUTS`, or "" for photographs.
    align: whether faces are found and cut; else the whole picture is taken.
    cut: side of the cut faces.
    side: side of the model's input.
  """

  input: str
  align: bool
  cut: int
  side: int

  @classmethod
  def of_source(cls, source: dict[str, Any], image_size: int) -> "InputForm":
    """Reads it from the source of a saved model.

    Raises:
      ValueError: an input that is not known here.
    """
    options = source.get("options", {})
    form = options.get("input", "")
    if form and form not in inputs.INPUTS:
      raise ValueError(
        f"the model was trained on the input {form!r}, which is none of {', '.join(inputs.INPUTS)}"
      )
    cut = int(options.get("size", 0)) or image_size
    return cls(form, bool(options.get("align", True)), cut, image_size)

  @property
  def is_motion(self) -> bool:
    """Whether the pictures show changes between frames rather than a frame."""
    return self.input in WINDOWS


class InputMaker:
  """Makes the pictures of one person, frame by frame; remembers what the form looks back on."""

  def __init__(self, form: InputForm):
    self._form = form
    self._past: collections.deque[tuple[float, View, FaceChip]] = collections.deque()

  def make(self, view: View, chip: FaceChip, seconds: float) -> np.ndarray:
    """uint8 [side, side, 3] for this frame."""
    form = self._form
    chip = dataclasses.replace(chip, size=form.cut)
    if not form.is_motion:
      return resize_image(view.cut(chip), form.side)
    self._past.append((seconds, view, chip))
    # The earliest frame that is kept is the last one from at least the window's length ago.
    while len(self._past) > 1 and seconds - self._past[1][0] >= WINDOWS[form.input] - 1e-6:
      self._past.popleft()
    lies = self._past[0][2]
    if form.input == "dynamic":
      count = min(len(self._past), DYNAMIC_FRAMES)
      at = np.rint(np.linspace(0, len(self._past) - 1, count)).astype(int)
      faces = (self._past[place][1].cut(lies) for place in at)
      picture = dynamic_image.dynamic_image(faces, count, inputs.DYNAMIC_GAIN)
    else:
      before, now = self._past[0][1].cut(lies), view.cut(lies)
      join = inputs.pair_image if form.input == "pair" else inputs.motion_image
      picture = join(before, now)
    return resize_image(picture, form.side)

  def reset(self) -> None:
    """The next frame has nothing to do with the last one."""
    self._past.clear()
