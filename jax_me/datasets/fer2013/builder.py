"""FER2013 (Goodfellow et al., arXiv:1307.0414): seven expressions in 48 x 48 grey pixels.

Training, PublicTest and PrivateTest are the splits train, validation and test. Its labels are
known to be noisy: see `ferplus` for the same faces with ten votes each.
"""

import pathlib
from collections.abc import Sequence

from jax_me.datasets.fer2013 import annotations
from jax_me.datasets.fer2013.annotations import (
  EMOTIONS,
  INSTRUCTIONS,
  Place,
  find_table,
  read_places,
)
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.find_files import fingerprint
from jax_me.datasets.generation.image_dataset import PictureOptions
from jax_me.datasets.generation.process_images import Cut, Picture
from jax_me.datasets.generation.split import Split

# Published numbers of images, in the order of EMOTIONS.
KNOWN_COUNTS = {
  "train": (3995, 436, 4097, 7215, 4830, 3171, 4965),
  "validation": (467, 56, 496, 895, 653, 415, 607),
  "test": (491, 55, 528, 879, 594, 416, 626),
}


class Fer2013(FaceDataset):
  """See `PictureOptions`. Labels are in the order of the release's codes 0 to 6.

  An example's file is "row00000" for the first row below the header. Many faces stand in the
  release more than once, also in different splits; the report tells which.
  """

  name = "fer2013"
  DESCRIPTION = "FER2013: small grey faces from the web with one of seven expressions."
  CITATION = (
    "I. J. Goodfellow et al.: Challenges in Representation Learning: A Report on Three Machine "
    "Learning Contests. ICONIP 2013. arXiv:1307.0414."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = PictureOptions

  @classmethod
  def fingerprint(cls, options: PictureOptions, manual_dir: pathlib.Path) -> str:
    del options
    return fingerprint([find_table(manual_dir)])

  @classmethod
  def config_title(cls, options: PictureOptions) -> str:
    return options.cut_title

  @classmethod
  def label_names(cls, options: PictureOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return EMOTIONS

  def known_counts(self) -> dict[str, dict[str, int]]:
    return {split: dict(zip(EMOTIONS, known, strict=True)) for split, known in KNOWN_COUNTS.items()}

  def splits(self) -> dict[str, Split]:
    table = read_places(find_table(self.manual_dir))
    rows: dict[str, list[tuple[Picture, Place]]] = {split: [] for split in KNOWN_COUNTS}
    codes = {str(code): label for code, label in enumerate(EMOTIONS)}
    for number, place in enumerate(table.places):
      file = f"row{number:05d}"
      problem = place.problem
      if not problem and place.emotion not in codes:
        problem = f"emotion {place.emotion[:20]!r} is no code from 0 to {len(codes) - 1}"
      if problem:
        self.report(file, "bad_row", detail=problem)
      else:
        rows[place.split].append((Picture(file, codes[place.emotion]), place))
    for split in [split for split, listed in rows.items() if not listed]:
      self.report(split, "missing_split", detail=f"{table.path.name} has no row of it")
      del rows[split]
    return {split: row_split(table, listed, self.options.cut) for split, listed in rows.items()}


def row_split(table: annotations.Table, rows: Sequence[tuple[Picture, Place]], cut: Cut) -> Split:
  """The tasks for some rows, in their order."""
  size = annotations.ROWS_PER_TASK
  parts = [rows[start : start + size] for start in range(0, len(rows), size)]
  tasks = [
    annotations.Task(
      str(table.path),
      table.pixels,
      tuple((picture, place.offset, place.size) for picture, place in part),
      cut,
    )
    for part in parts
  ]
  return Split(annotations.run_rows, tasks, len(rows), 1 if cut.align else 8)
