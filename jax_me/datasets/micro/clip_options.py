"""Options of the micro-expression datasets.

Worker processes import this module, so it imports nothing of TFDS.
"""

import dataclasses
from typing import Any

from jax_me.data.clip_inputs.inputs import check_input
from jax_me.datasets.generation.options import BuilderOptions, detector_option, option
from jax_me.faces.alignment import check_settings
from jax_me.faces.image_files import ENCODINGS

APEX_POLICIES = ("middle", "skip")
# Annotated frames that an input requires.
REQUIRED_FRAMES = {
  "apex": ("apex",),
  "key_frames": ("onset", "apex", "offset"),
  "pair": ("onset", "apex"),
  "dynamic": ("onset", "offset"),
  "flow": ("onset", "apex"),
  "frames": ("onset", "offset"),
}
# Inputs computed from several frames, which must then have one size.
COMPUTED_INPUTS = ("pair", "dynamic", "flow")
DEFAULT_SIZE = 224


def examples_per_clip(input: str, frames: int) -> int:
  """Number of examples per clip; 0 if it varies."""
  return {"key_frames": 3, "frames": frames}.get(input, 1)


def takes_no_frames(options: Any) -> bool:
  """Whether the option `frames` is idle."""
  return options.input != "frames"


@dataclasses.dataclass(frozen=True)
class ClipOptions(BuilderOptions):
  """Options of a dataset of clips.

  Attributes:
    input: kind of the examples of a clip, see `jax_me.data.clip_inputs.inputs`: "apex",
      "key_frames" (onset, apex, offset: three examples), "pair", "dynamic", "flow" or "frames".
    frames: examples per clip for the input "frames", evenly spaced from onset to offset; 0 takes
      all. Ignored for the others.
    align: crop and align the face with dlib; all frames of a clip share the transform of its onset
      frame. False takes the release's images as they are.
    size: side of the stored images in pixels. 0 means 224, except for single frames that are not
      aligned: these keep their shape and, for ordinary JPEG and PNG, their bytes. Images that are
      not aligned are stretched to a square.
    on_no_face: for align, clips in which dlib finds no face: "skip", "center" or "error".
    encoding: "png" (lossless) or "jpg" (quality 95).
    apex_policy: for inputs with an apex, clips without a usable one: "middle" takes the frame
      half-way from onset to offset, which the report states; "skip" leaves the clip out. The stored
      `apex` is -1 either way.
    detector: for align, the face detector: "yunet+hog", "hog" (as in version 0.1) or "yunet".
  """

  input: str = "apex"
  frames: int = option(8, idle=takes_no_frames)
  align: bool = True
  size: int = 0
  on_no_face: str = option("skip", idle=lambda options: not options.align)
  encoding: str = option("png", choices=ENCODINGS, idle=lambda options: not options.size)
  apex_policy: str = option(
    "middle",
    choices=APEX_POLICIES,
    idle=lambda options: "apex" not in REQUIRED_FRAMES[options.input],
  )
  detector: str = detector_option()

  def __post_init__(self):
    check_input(self.input, self.frames)
    if self.size == 0 and (self.align or self.input in COMPUTED_INPUTS):
      self._set("size", DEFAULT_SIZE)
    check_settings(self.size or DEFAULT_SIZE, self.on_no_face)
    super().__post_init__()

  @property
  def title(self) -> str:
    kind = "aligned" if self.align else "original"
    return f"{self.input}_{kind}" + (f"_{self.size}" if self.size else "")
