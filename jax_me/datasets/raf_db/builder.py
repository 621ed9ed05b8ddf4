"""RAF-DB basic (Li et al., CVPR 2017): seven expressions of faces from the web, from one's copy.

Its own division into train and test is kept. Scores are the accuracy on "test", better with the
mean over the classes beside it.
"""

import dataclasses
import pathlib

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.find_files import fingerprint
from jax_me.datasets.generation.image_dataset import PictureOptions, tasks_per_worker
from jax_me.datasets.generation.process_images import picture_tasks
from jax_me.datasets.generation.split import Split
from jax_me.datasets.raf_db import layout
from jax_me.datasets.raf_db.layout import EMOTIONS
from jax_me.datasets.raf_db.manual_attributes import Task, run_task

IMAGES = ("aligned", "original")
# Published numbers of images, in the order of EMOTIONS.
KNOWN_COUNTS = {
  "train": (1290, 281, 717, 4772, 1982, 705, 2524),
  "test": (329, 74, 160, 1185, 478, 162, 680),
}


@dataclasses.dataclass(frozen=True)
class RafDbOptions(PictureOptions):
  """What changes the content of RAF-DB's dataset, besides `PictureOptions`.

  Attributes:
    images: "aligned", the release's faces of 100 x 100 pixels, or "original", the whole
      photographs. Only of these dlib can cut faces (align). Where the manual attributes are there
      it takes the face of several that has their landmarks.
  """

  images: str = "aligned"

  def __post_init__(self):
    super().__post_init__()
    if self.images not in IMAGES:
      raise ValueError(f"images of RAF-DB must be one of {', '.join(IMAGES)}: {self.images!r}")
    if self.align and self.images != "original":
      raise ValueError(
        "align cuts faces of whole photographs: give images=original with it, or leave it out for "
        "the faces that RAF-DB itself has aligned"
      )


class RafDb(FaceDataset):
  """See `RafDbOptions`. Labels are in the order of the release's codes 1 to 7.

  Gender, race and age stand in the rows of the report, where `Annotation/manual` is there.
  """

  name = "raf_db"
  DESCRIPTION = "RAF-DB basic: faces from the web with one of seven expressions."
  CITATION = (
    "S. Li, W. Deng, J. Du: Reliable Crowdsourcing and Deep Locality-Preserving Learning for "
    "Expression Recognition in the Wild. CVPR 2017."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
  Options = RafDbOptions

  @classmethod
  def fingerprint(cls, options: RafDbOptions, manual_dir: pathlib.Path) -> str:
    lists = layout.find_lists(manual_dir)
    images = layout.find_images(manual_dir, options.images)
    attributes = layout.find_attributes(manual_dir)
    return fingerprint(lists, [images, *([attributes] if attributes else [])])

  @classmethod
  def config_title(cls, options: RafDbOptions) -> str:
    return options.cut_title if options.align else options.images

  @classmethod
  def label_names(cls, options: RafDbOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return EMOTIONS

  def known_counts(self) -> dict[str, dict[str, int]]:
    return {split: dict(zip(EMOTIONS, known, strict=True)) for split, known in KNOWN_COUNTS.items()}

  def splits(self) -> dict[str, Split]:
    lists = layout.find_lists(self.manual_dir)
    images = layout.find_images(self.manual_dir, self.options.images)
    attributes = layout.find_attributes(self.manual_dir)
    pictures, rows = layout.list_pictures(lists, images)
    for row in rows:
      self.report(row.file, row.status, **row.details)
    for missing in [split for split in layout.SPLITS if split not in pictures]:
      self.report(missing, "missing_split", detail="no image of it is listed")
    return {
      split: Split(
        run_task,
        [
          Task(task, str(attributes or ""))
          for task in picture_tasks(images, listed, self.options.cut)
        ],
        len(listed),
        tasks_per_worker(self.options.cut),
      )
      for split, listed in pictures.items()
    }
