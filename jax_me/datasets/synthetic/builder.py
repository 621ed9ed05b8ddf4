"""TFDS builder `demo_clips`: synthetic micro-expression clips of people who do not exist.

Rendered from one public-domain portrait by `jax_me.datasets.synthetic.clip_rendering`; needs
neither a download nor files of the user. A clip is aligned with the transform of its onset frame,
like real clips.
"""

import pathlib

import numpy as np

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.tasks import Split
from jax_me.datasets.micro.clip_options import examples_per_clip
from jax_me.datasets.synthetic import action_units, clip_rendering, render_examples
from jax_me.datasets.synthetic.render_examples import DemoOptions, DemoProcessor


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
  LABELS = action_units.LABELS

  def splits(self) -> dict[str, Split]:
    options = self.options
    images = options.subjects * options.clips * examples_per_clip(options.input, options.frames)
    return {"train": Split(DemoProcessor(options), range(options.subjects), images)}

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
      faces, _ = render_examples.aligned_frames(
        clip, numbers, self.options.size, self.options.detector
      )
    except (ValueError, IndexError) as error:
      raise ValueError(f"{file!r} is not an example of dataset {self.name}") from error
    return faces[1]
