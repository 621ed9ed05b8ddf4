"""TFDS builder `demo_clips`: synthetic micro-expression clips of people who do not exist.

Rendered from one public-domain portrait by `jax_me.datasets.synthetic.clip_rendering`; needs
neither a download nor files of the user. A clip is aligned with the transform of its onset frame,
like real clips.
"""

import dataclasses
import pathlib

import numpy as np

from jax_me.data.clip_inputs.inputs import check_input
from jax_me.datasets.generation.base_builder import BuilderOptions, FaceDataset
from jax_me.datasets.generation.split import Split
from jax_me.datasets.micro.process_clips import examples_per_clip
from jax_me.datasets.synthetic import action_units, clip_rendering, render_examples

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
  """

  input: str = "flow"
  subjects: int = 60
  clips: int = 12
  frames: int = 8
  size: int = 128
  seed: int = 0

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
    if self.input != "frames":
      self._reset("frames")


class DemoClips(FaceDataset[DemoOptions]):
  """Builder of the demo clips, with `DemoOptions`."""

  name = "demo_clips"
  DESCRIPTION = (
    "Synthetic micro-expressions (negative, positive, surprise) of people who do not exist, with "
    "true subject, onset, apex and offset, at 100 frames per second. Faces are warps of the "
    "portrait in scikit-image; expressions are random mixes of FACS action units between 2 and 7 "
    "pixels strong on a face of 224, among blinks, unrelated action units and head motion. For "
    "trying programs out: scores on it say nothing about real faces."
  )
  CITATION = (
    "The portrait: NASA Great Images, astronaut Eileen Collins (https://flic.kr/p/r9qvLn, public "
    "domain), as astronaut.png in scikit-image (doi:10.7717/peerj.453)"
  )
  Options = DemoOptions

  @classmethod
  def label_names(cls, options: DemoOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return action_units.LABELS

  @classmethod
  def config_title(cls, options: DemoOptions) -> str:
    return f"{options.input}_{options.size}"

  def splits(self) -> dict[str, Split]:
    options = self.options
    images = options.subjects * options.clips * examples_per_clip(options.input, options.frames)
    return {"train": Split(render_examples.run_render_task, self._tasks(), images)}

  def face(self, file: str) -> np.ndarray | None:
    """Renders the aligned face of an example, for inputs that contain only motion.

    It takes tens of milliseconds, so it is meant for reports, not for training.

    Args:
      file: the example's `file`.

    Returns:
      uint8 [size, size, 3] RGB; None if the example was left out because no face was found.

    Raises:
      ValueError: the file is not an example of this dataset.
    """
    try:
      _, name, frame = pathlib.PurePosixPath(file).with_suffix("").parts
      subject, index = (int(part) for part in name.removeprefix("p").split("_"))
      clip = clip_rendering.demo_clip(self.options.seed, subject, index)
      numbers = [clip.onset, int(frame)]
      faces, _ = render_examples.aligned_frames(clip, numbers, self.options.size)
    except (ValueError, IndexError) as error:
      raise ValueError(f"{file!r} is not an example of dataset {self.name}") from error
    return faces[1]

  def _tasks(self) -> list[render_examples.RenderTask]:
    options = self.options
    return [
      render_examples.RenderTask(
        seed=options.seed,
        subject=subject,
        clips=options.clips,
        input=options.input,
        frames=options.frames,
        size=options.size,
      )
      for subject in range(options.subjects)
    ]
