"""What the builders of labelled pictures share: the options of cutting faces, and a split."""

import dataclasses
import pathlib
from collections.abc import Sequence

from jax_me.datasets.generation.process_images import Cut, Picture, picture_tasks, run_pictures
from jax_me.datasets.generation.split import Split
from jax_me.faces.alignment import check_settings

ENCODINGS = ("png", "jpg")


@dataclasses.dataclass(frozen=True)
class PictureOptions:
  """How the pictures of a dataset are cut.

  Attributes:
    align: cut out and align the face with dlib. False keeps the release's pictures as they are.
    size: side of aligned faces in pixels.
    on_no_face: for align, where dlib finds none: "skip", "center" (unaligned) or "error".
    encoding: "png" (lossless) or "jpg" (quality 95, a fifth of the size), for aligned faces.
  """

  align: bool = False
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "png"

  def __post_init__(self):
    check_settings(self.size, self.on_no_face)
    if self.encoding not in ENCODINGS:
      raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}: {self.encoding!r}")
    if not self.align:
      # These settings then change nothing, so they must not make another dataset.
      for field in ("size", "on_no_face", "encoding"):
        object.__setattr__(self, field, type(self).__dataclass_fields__[field].default)

  @property
  def cut(self) -> Cut:
    """The same for the tasks."""
    return Cut(self.align, self.size, self.on_no_face, self.encoding)

  @property
  def cut_title(self) -> str:
    """For the names of built variants: "aligned_224" or "original"."""
    return f"aligned_{self.size}" if self.align else "original"


def picture_split(folder: pathlib.Path, pictures: Sequence[Picture], cut: Cut) -> Split:
  """The split of some pictures below a folder, in their order."""
  tasks = picture_tasks(folder, pictures, cut)
  return Split(run_pictures, tasks, len(pictures), tasks_per_worker(cut))


def tasks_per_worker(cut: Cut) -> int:
  """See `generation.Split`: aligning a picture takes some 30 times as long as reading it."""
  return 2 if cut.align else 64
