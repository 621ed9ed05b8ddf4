"""FER2013 builder (Goodfellow et al., arXiv:1307.0414): 48 x 48 grey faces, seven expressions.

Training, PublicTest and PrivateTest are the splits train, validation and test. The labels are
known to be noisy; `ferplus` has the same faces with ten votes each.
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

from jax_me.datasets.fer2013.annotations import (
  EMOTIONS,
  INSTRUCTIONS,
  CsvRowLocation,
  csv_split,
  find_csv,
  scan_csv,
)
from jax_me.datasets.fer2013.class_folders import list_images, split_of, unknown_class
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import SourceImage, image_split
from jax_me.datasets.generation.source_files import fingerprint_files
from jax_me.datasets.generation.tasks import Split

# Training images that are held out from "train", for fitting a temperature.
CALIBRATION = "calibration"

RowT = TypeVar("RowT")


@dataclasses.dataclass(frozen=True)
class Fer2013Options(ImageOptions):
  """Options of FER2013, besides `ImageOptions`.

  Attributes:
    calibration: n moves every nth training image into a split "calibration"; 0 has no such split.
  """

  calibration: int = 0

  def __post_init__(self):
    super().__post_init__()
    if self.calibration < 0 or self.calibration == 1:
      raise ValueError(f"calibration must be 0 or at least 2, got {self.calibration}")


class Fer2013(FaceDataset[Fer2013Options]):
  """FER2013; see `Fer2013Options`. Labels are in the order of the release's codes 0 to 6.

  An example's file is "row00000" for the first row below the header of the csv, or the name of the
  image where the release is given as class folders. The release has many duplicate images, also
  across splits; the report lists them.
  """

  name = "fer2013"
  DESCRIPTION = "FER2013: small grey faces from the web with one of seven expressions."
  CITATION = (
    "I. J. Goodfellow et al.: Challenges in Representation Learning: A Report on Three Machine "
    "Learning Contests. ICONIP 2013. arXiv:1307.0414."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = Fer2013Options
  LABELS = EMOTIONS
  KNOWN_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "validation": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
  }

  @classmethod
  def fingerprint(cls, options: Fer2013Options, manual_dir: pathlib.Path) -> str:
    if has_class_folders(manual_dir):
      return super().fingerprint(options, manual_dir)
    return fingerprint_files([find_csv(manual_dir)])

  @classmethod
  def is_source(cls, name: str) -> bool:
    return bool(split_of(name))

  def known_counts(self) -> dict[str, dict[str, int]]:
    published = super().known_counts()
    if self.options.calibration:
      del published["train"]
    return published

  def splits(self) -> dict[str, Split]:
    if has_class_folders(self.manual_dir):
      images = self._held_out(self._images())
      return {
        split: image_split(self.manual_dir, found, self.options) for split, found in images.items()
      }
    csv = scan_csv(find_csv(self.manual_dir))
    rows = self._held_out(self._rows(csv.rows))
    return {split: csv_split(csv, found, self.options) for split, found in rows.items()}

  def _images(self) -> Iterator[tuple[str, SourceImage]]:
    for split, image in list_images(self.manual_dir):
      if row := unknown_class(image):
        self.listing_rows.append(row)
      else:
        yield split, image

  def _rows(
    self, rows: Sequence[CsvRowLocation]
  ) -> Iterator[tuple[str, tuple[SourceImage, CsvRowLocation]]]:
    label_of_code = {str(code): label for code, label in enumerate(EMOTIONS)}
    for number, row in enumerate(rows):
      file = f"row{number:05d}"
      problem = row.problem
      if not problem and row.emotion not in label_of_code:
        problem = f"emotion {row.emotion[:20]!r} is not a code from 0 to {len(EMOTIONS) - 1}"
      if problem:
        self.report(file, "bad_row", problem)
      else:
        yield row.split, (SourceImage(file, label_of_code[row.emotion]), row)

  def _held_out(self, found: Iterator[tuple[str, RowT]]) -> dict[str, list[RowT]]:
    """The images of each split that has some, after the calibration images are held out."""
    listed: dict[str, list[RowT]] = {split: [] for split in self.KNOWN_COUNTS}
    for split, image in found:
      listed[split].append(image)
    for split in [split for split, images in listed.items() if not images]:
      self.report(split, "missing_split", "there is no image of this split")
      del listed[split]
    every = self.options.calibration
    if every and "train" in listed:
      held_out = listed["train"][every - 1 :: every]
      del listed["train"][every - 1 :: every]
      if held_out:
        listed[CALIBRATION] = held_out
    return listed


def has_class_folders(folder: pathlib.Path) -> bool:
  """Whether FER2013 is given as class folders instead of a csv."""
  return any(True for _ in list_images(folder))
