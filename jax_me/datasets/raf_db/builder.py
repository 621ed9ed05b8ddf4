"""RAF-DB basic builder (Li et al., CVPR 2017): faces from the web, seven expressions.

The official train and test splits are kept. Papers report the accuracy on "test"; the mean
accuracy over classes is a useful addition.
"""

import dataclasses
import pathlib

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions, option
from jax_me.datasets.generation.source_files import fingerprint_files
from jax_me.datasets.generation.tasks import Split
from jax_me.datasets.raf_db import layout
from jax_me.datasets.raf_db.layout import EMOTIONS
from jax_me.datasets.raf_db.manual_attributes import RafDbProcessor

IMAGES = ("aligned", "original")


@dataclasses.dataclass(frozen=True)
class RafDbOptions(ImageOptions):
  """Options that change the content of the RAF-DB dataset, besides `ImageOptions`.

  Attributes:
    images: "aligned", the release's 100 x 100 face crops, or "original", the whole photographs.
      align requires "original". In photographs with several faces the landmarks of the manual
      attributes, if present, select the annotated face.
  """

  images: str = option("aligned", choices=IMAGES, of="RAF-DB")

  def __post_init__(self):
    super().__post_init__()
    if self.align and self.images != "original":
      raise ValueError(
        "align needs whole photographs: give images=original with it, or leave align out to use "
        "the faces that RAF-DB has aligned itself"
      )

  @property
  def title(self) -> str:
    return super().title if self.align else self.images


class RafDb(FaceDataset[RafDbOptions]):
  """RAF-DB; see `RafDbOptions`. Labels are in the order of the release's codes 1 to 7.

  If `Annotation/manual` is present, the report's rows include gender, race and age.
  """

  name = "raf_db"
  DESCRIPTION = "RAF-DB basic: faces from the web with one of seven expressions."
  CITATION = (
    "S. Li, W. Deng, J. Du: Reliable Crowdsourcing and Deep Locality-Preserving Learning for "
    "Expression Recognition in the Wild. CVPR 2017."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
  Options = RafDbOptions
  LABELS = EMOTIONS
  KNOWN_COUNTS = {
    "train": (1290, 281, 717, 4772, 1982, 705, 2524),
    "test": (329, 74, 160, 1185, 478, 162, 680),
  }

  @classmethod
  def fingerprint(cls, options: RafDbOptions, manual_dir: pathlib.Path) -> str:
    lists = layout.find_lists(manual_dir)
    images = layout.find_images(manual_dir, options.images)
    attributes = layout.find_attributes(manual_dir)
    return fingerprint_files(lists, [images, *([attributes] if attributes else [])])

  def splits(self) -> dict[str, Split]:
    lists = layout.find_lists(self.manual_dir)
    images = layout.find_images(self.manual_dir, self.options.images)
    attributes = layout.find_attributes(self.manual_dir)
    listed, rows = layout.list_images(lists, images)
    self.listing_rows += rows
    for missing in [split for split in layout.SPLITS if split not in listed]:
      self.report(missing, "missing_split", "no image of this split is listed")
    options = self.options.narrowed(ImageOptions)
    processor = RafDbProcessor(str(images), options, str(attributes or ""))
    return {split: processor.split(listed[split]) for split in listed}
