"""FER2013 builder (Goodfellow et al., arXiv:1307.0414): 48 x 48 grey faces, seven expressions.

Training, PublicTest and PrivateTest are the splits train, validation and test. The labels are
known to be noisy; `ferplus` has the same faces with ten votes each.
"""

import pathlib

from jax_me.datasets.fer2013.annotations import (
  EMOTIONS,
  INSTRUCTIONS,
  CsvRowLocation,
  csv_split,
  find_csv,
  scan_csv,
)
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import SourceImage
from jax_me.datasets.generation.source_files import fingerprint_files
from jax_me.datasets.generation.tasks import Split


class Fer2013(FaceDataset[ImageOptions]):
  """FER2013; see `ImageOptions`. Labels are in the order of the release's codes 0 to 6.

  An example's file is "row00000" for the first row below the header. The release has many
  duplicate images, also across splits; the report lists them.
  """

  name = "fer2013"
  DESCRIPTION = "FER2013: small grey faces from the web with one of seven expressions."
  CITATION = (
    "I. J. Goodfellow et al.: Challenges in Representation Learning: A Report on Three Machine "
    "Learning Contests. ICONIP 2013. arXiv:1307.0414."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = ImageOptions
  LABELS = EMOTIONS
  KNOWN_COUNTS = {
    "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
    "validation": (467, 56, 496, 895, 653, 415, 607),
    "test": (491, 55, 528, 879, 594, 416, 626),
  }

  @classmethod
  def fingerprint(cls, options: ImageOptions, manual_dir: pathlib.Path) -> str:
    del options
    return fingerprint_files([find_csv(manual_dir)])

  def splits(self) -> dict[str, Split]:
    csv = scan_csv(find_csv(self.manual_dir))
    listed: dict[str, list[tuple[SourceImage, CsvRowLocation]]] = {
      split: [] for split in self.KNOWN_COUNTS
    }
    label_of_code = {str(code): label for code, label in enumerate(EMOTIONS)}
    for number, row in enumerate(csv.rows):
      file = f"row{number:05d}"
      problem = row.problem
      if not problem and row.emotion not in label_of_code:
        problem = f"emotion {row.emotion[:20]!r} is not a code from 0 to {len(EMOTIONS) - 1}"
      if problem:
        self.report(file, "bad_row", problem)
      else:
        listed[row.split].append((SourceImage(file, label_of_code[row.emotion]), row))
    for split in [split for split, rows in listed.items() if not rows]:
      self.report(split, "missing_split", f"{csv.path.name} has no row of this split")
      del listed[split]
    return {split: csv_split(csv, rows, self.options) for split, rows in listed.items()}
