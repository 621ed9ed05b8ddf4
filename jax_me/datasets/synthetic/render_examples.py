"""Options of the demo clips, and the rendering of a subject: render, align, compute the input.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses

import numpy as np

from jax_me.data.clip_inputs.inputs import check_input, frames_needed, make_clip_images
from jax_me.datasets.generation.options import BuilderOptions, detector_option, option
from jax_me.datasets.generation.tasks import Example, ReportRow, TaskResult
from jax_me.datasets.micro.clip_options import takes_no_frames
from jax_me.datasets.synthetic import clip_rendering
from jax_me.datasets.synthetic.action_units import affect_of_units
from jax_me.faces.alignment import align_clip
from jax_me.faces.image_files import encode_image

# Frames of the shortest expression, onset and offset included.
MAX_FRAMES = clip_rendering.DURATION[0] + 1


@dataclasses.dataclass(frozen=True)
class DemoOptions(BuilderOptions):
  """Options of the demo clips.

  Attributes:
    input: kind of an example, see `jax_me.data.clip_inputs.inputs`: "flow", "apex", "pair" or
      "dynamic", one per clip; "key_frames", three per clip; or "frames".
    subjects: number of subjects, at least 1.
    clips: clips of each subject, at least 1; multiples of 3 show every label equally often.
    frames: examples per clip for the input "frames", 2 to 23; ignored for the others.
    size: side of the aligned face in pixels, 32 to 512. Clips are rendered so that about 170
      pixels hold all their detail.
    seed: at least 0; another seed gives other subjects and other clips.
    detector: the face detector: "yunet+hog", "hog" (as in version 0.1) or "yunet".
  """

  input: str = "flow"
  subjects: int = 60
  clips: int = 12
  frames: int = option(8, idle=takes_no_frames)
  size: int = 128
  seed: int = 0
  detector: str = detector_option(idle=lambda options: False)

  def __post_init__(self):
    ranges = {
      "subjects": (1, 1_000_000),
      "clips": (1, 1_000_000),
      "frames": (2, MAX_FRAMES),
      "size": (32, 512),
      "seed": (0, 2**31 - 1),
    }
    for name, (low, high) in ranges.items():
      if not low <= getattr(self, name) <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {getattr(self, name)}")
    check_input(self.input, self.frames)
    super().__post_init__()

  @property
  def title(self) -> str:
    return f"{self.input}_{self.size}"


@dataclasses.dataclass(frozen=True)
class DemoProcessor:
  """Makes the examples of all clips of a subject."""

  options: DemoOptions

  def __call__(self, subject: int) -> TaskResult:
    """Renders and aligns the frames that the input needs, for every clip of the subject."""
    options = self.options
    person = clip_rendering.DemoSubject(options.seed, subject)
    examples, rows = [], []
    for index in range(options.clips):
      clip = clip_rendering.demo_clip(options.seed, person, index)
      key_frames = {"onset": clip.onset, "apex": clip.apex, "offset": clip.offset}
      numbers = frames_needed(
        options.input, **key_frames, available=range(clip.length), count=options.frames
      )
      faces, status = aligned_frames(clip, numbers, options.size, options.detector)
      found = {n: face for n, face in zip(numbers, faces, strict=True) if face is not None}
      if len(found) < len(numbers):
        rows.append(ReportRow(f"{person.name}/{clip.name}", status))
        continue
      images = make_clip_images(options.input, found, **key_frames, count=options.frames)
      for number, image in images:
        file = f"{person.name}/{clip.name}/{number:03d}.png"
        rows.append(ReportRow(file, status))
        examples.append(
          Example(
            encode_image(image),
            clip.label,
            file,
            subject=person.name,
            clip=clip.name,
            frame=number,
            onset=clip.onset,
            apex=clip.apex,
            offset=clip.offset,
            affect=affect_of_clip(clip, number),
          )
        )
    return TaskResult(tuple(examples), tuple(rows))


def affect_of_clip(clip: clip_rendering.DemoClip, frame: int) -> tuple[float, float]:
  """Valence and arousal of the labelled expression in a frame, in (-1, 1)."""
  expression = clip.movements[0]
  scale = expression.activation(frame) / clip_rendering.INTENSITY[1]
  return affect_of_units(expression.units, scale)


def aligned_frames(
  clip: clip_rendering.DemoClip, numbers: list[int], size: int, detector: str
) -> tuple[list[np.ndarray | None], str]:
  """Renders frames of a clip and aligns them with the transform of the first one.

  Args:
    clip: the clip.
    numbers: the frames.
    size: side of the aligned faces in pixels.
    detector: the face detector.

  Returns:
    uint8 [size, size, 3] per frame, None where no face was found; and the alignment's status.
  """
  aligned = align_clip((clip.frame(number) for number in numbers), size, detector=detector)
  return [face.image for face in aligned], aligned[0].record["status"]
