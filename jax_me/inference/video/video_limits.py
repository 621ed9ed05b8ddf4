"""Limits of the videos that are read: pixels of a frame, and number of frames."""

import dataclasses

from jax_me.faces.image_files import MAX_PIXELS

# Three hours of a camera with 200 frames per second, 19 hours with 30.
MAX_FRAMES = 2**21


@dataclasses.dataclass(frozen=True)
class VideoLimits:
  """Limits of a video file, so that a damaged or hostile one fills neither memory nor time.

  Attributes:
    pixels: greatest number of pixels of a frame.
    frames: greatest number of frames.

  Raises:
    ValueError: a limit below 1.
  """

  pixels: int = MAX_PIXELS
  frames: int = MAX_FRAMES

  def __post_init__(self):
    for field in dataclasses.fields(self):
      if getattr(self, field.name) < 1:
        raise ValueError(f"--max-{field.name} must be at least 1, got {getattr(self, field.name)}")

  def problem_of_size(self, width: int, height: int) -> str:
    """What is wrong with the size of a frame; "" if it is within the limit."""
    if width * height <= self.pixels:
      return ""
    return (
      f"a frame of {width} x {height} pixels has more than the {self.pixels:,} allowed; scale the "
      "video down (ffmpeg -i FILE -vf scale=1920:-2 copy.mp4), or allow more: --max-pixels of "
      "predict and study, max_pixels in Python"
    )

  def problem_of_length(self, frames: int) -> str:
    """What is wrong with a number of frames; "" if it is within the limit."""
    if frames <= self.frames:
      return ""
    return (
      f"it has more than the {self.frames:,} frames allowed; cut it, allow more (--max-frames of "
      "predict and study, max_frames in Python), or read a part of it (predict --seconds)"
    )
