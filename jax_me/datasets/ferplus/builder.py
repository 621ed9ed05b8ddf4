"""FER+ builder (Barsoum et al., arXiv:1608.01041): the faces of FER2013 with ten votes each.

The kept faces and their labels depend on the vote table and the label mode (`ferplus.votes`).
Papers report the accuracy on "test"; state the table and the mode with a score.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from jax_me.datasets.fer2013.annotations import CsvRowLocation, csv_split, scan_csv
from jax_me.datasets.ferplus import annotations
from jax_me.datasets.ferplus.annotations import SPLIT_FOLDERS, VOTE_TABLES, FerPlusFiles, VotedFace
from jax_me.datasets.ferplus.votes import EMOTIONS, MODES, label_from_votes
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions, option
from jax_me.datasets.generation.process_images import SourceImage, image_split
from jax_me.datasets.generation.source_files import fingerprint_files
from jax_me.datasets.generation.tasks import Split

# Face counts that each mode gives on the published tables, in the order of EMOTIONS.
KNOWN_COUNTS = {
  ("label.csv", "majority"): {
    "train": (8733, 7284, 3136, 3022, 2098, 116, 536, 120),
    "validation": (1180, 862, 411, 348, 289, 25, 60, 16),
    "test": (1083, 892, 394, 382, 269, 16, 86, 15),
  },
  ("label.csv", "probability"): {
    "train": (10107, 7501, 3517, 3445, 2401, 170, 643, 163),
    "validation": (1311, 897, 452, 406, 319, 29, 69, 25),
    "test": (1250, 925, 438, 437, 315, 20, 96, 26),
  },
  ("label.csv", "multi_target"): {
    "train": (10056, 7489, 3481, 3410, 2337, 150, 598, 146),
    "validation": (1303, 893, 447, 400, 312, 29, 67, 21),
    "test": (1238, 921, 440, 435, 298, 18, 93, 23),
  },
  ("fer2013new", "majority"): {
    "train": (8740, 7287, 3149, 3014, 2100, 119, 532, 119),
    "validation": (1182, 865, 415, 351, 287, 24, 62, 13),
    "test": (1090, 893, 396, 384, 273, 18, 83, 16),
  },
  ("fer2013new", "probability"): {
    "train": (10122, 7503, 3524, 3430, 2407, 169, 641, 160),
    "validation": (1317, 897, 450, 401, 314, 31, 72, 23),
    "test": (1251, 925, 435, 435, 320, 22, 92, 25),
  },
  ("fer2013new", "multi_target"): {
    "train": (10071, 7492, 3486, 3399, 2327, 153, 598, 145),
    "validation": (1307, 893, 446, 400, 307, 30, 71, 18),
    "test": (1243, 921, 438, 434, 302, 21, 90, 23),
  },
}


@dataclasses.dataclass(frozen=True)
class FerPlusOptions(ImageOptions):
  """Options that change the content of the FER+ dataset, besides `ImageOptions`.

  Attributes:
    votes: "label.csv" (read by the authors' code; the usual one) or "fer2013new". Their votes
      differ for about one face in 22.
    mode: "majority", "probability" or "multi_target": see `ferplus.votes.select_votes`. The last
      two add `targets` to the index, class probabilities that are used as soft labels.
  """

  votes: str = option("label.csv", choices=VOTE_TABLES, of="FER+")
  mode: str = option("majority", choices=MODES, of="FER+")

  @property
  def title(self) -> str:
    title = f"{self.votes.replace('.', '_')}_{self.mode}"
    return f"{title}_{super().title}" if self.align else title


class FerPlus(FaceDataset[FerPlusOptions]):
  """FER+; see `FerPlusOptions`, and `ferplus.annotations` for the files.

  Labels are in the order of the vote tables' columns.
  """

  name = "ferplus"
  DESCRIPTION = "FER+: the faces of FER2013 with one of eight expressions, from ten votes each."
  CITATION = (
    "E. Barsoum, C. Zhang, C. Canton Ferrer, Z. Zhang: Training Deep Networks for Facial "
    "Expression Recognition with Crowd-Sourced Label Distribution. ICMI 2016. arXiv:1608.01041."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = annotations.INSTRUCTIONS
  Options = FerPlusOptions
  LABELS = EMOTIONS

  @classmethod
  def fingerprint(cls, options: FerPlusOptions, manual_dir: pathlib.Path) -> str:
    files = annotations.find_release(manual_dir, options.votes)
    tables = [files.fer2013new, *files.labels.values(), files.fer2013]
    folders = [] if files.fer2013 else files.image_folders.values()
    return fingerprint_files([path for path in tables if path is not None], folders)

  def known_counts(self) -> dict[str, dict[str, int]]:
    known = KNOWN_COUNTS[self.options.votes, self.options.mode]
    return {split: dict(zip(EMOTIONS, counts, strict=True)) for split, counts in known.items()}

  def splits(self) -> dict[str, Split]:
    files = annotations.find_release(self.manual_dir, self.options.votes)
    table = annotations.read_fer2013new(files.fer2013new) if files.fer2013new is not None else []
    if self.options.votes == "fer2013new":
      faces = list(enumerate(table))
    else:
      row_of_image = annotations.row_of_image(table)
      faces = [
        (row_of_image.get(face.image, -1), face)
        for split, path in files.labels.items()
        for face in annotations.read_label_csv(path, split)
      ]
    images = self._label_images(faces)
    for split in [split for split in SPLIT_FOLDERS if not images[split]]:
      self.report(split, "missing_split", "no face of this split is listed")
      del images[split]
    if files.fer2013 is not None:
      return self._splits_from_csv(files, table, images)
    return self._splits_from_folders(files, images)

  def _label_images(
    self, faces: Sequence[tuple[int, VotedFace]]
  ) -> dict[str, list[tuple[int, SourceImage]]]:
    """split -> (row of fer2013.csv, image); a second face of the same name ends in "#2"."""
    images: dict[str, list[tuple[int, SourceImage]]] = {split: [] for split in SPLIT_FOLDERS}
    seen: set[str] = set()
    for row, face in faces:
      if not face.votes or not face.split:
        what = "usage" if face.votes else "votes"
        self.report(face.location, "bad_row", f"invalid {what}")
        continue
      label, targets = label_from_votes(face.votes, self.options.mode)
      if not targets:
        self.report(face.image or face.location, "no_expression", label)
        continue
      if not face.image:
        self.report(face.location, "bad_row", "an expression, but no image name")
        continue
      file = f"{face.image}#2" if face.image in seen else face.image
      if file in seen:
        self.report(face.location, "duplicate", face.image)
        continue
      seen.add(file)
      is_soft = self.options.mode != "majority"
      soft_label = tuple(round(target, 6) for target in targets) if is_soft else ()
      images[face.split].append(
        (row, SourceImage(file, label, path=face.image, targets=soft_label))
      )
    return images

  def _splits_from_csv(
    self,
    files: FerPlusFiles,
    table: list[VotedFace],
    images: dict[str, list[tuple[int, SourceImage]]],
  ) -> dict[str, Split]:
    assert files.fer2013new is not None and files.fer2013 is not None
    csv = scan_csv(files.fer2013)
    annotations.check_matching_rows(table, files.fer2013new, csv)
    splits = {}
    for split, listed in images.items():
      rows: list[tuple[SourceImage, CsvRowLocation]] = []
      for row, image in listed:
        if row < 0:
          self.report(image.file, "missing", f"{files.fer2013new.name} has no such name")
        elif problem := csv.rows[row].problem:
          self.report(image.file, "bad_row", f"{csv.path.name}: {problem}")
        else:
          rows.append((image, csv.rows[row]))
      splits[split] = csv_split(csv, rows, self.options)
    return splits

  def _splits_from_folders(
    self, files: FerPlusFiles, images: dict[str, list[tuple[int, SourceImage]]]
  ) -> dict[str, Split]:
    splits = {}
    for split, listed in images.items():
      if split not in files.image_folders:
        self.report(split, "missing_split", f"no images in {SPLIT_FOLDERS[split]}")
        continue
      unique = []
      for _, image in listed:
        # A folder has only one file of each name, which is the first face.
        if image.file == image.path:
          unique.append(image)
        else:
          self.report(image.file, "duplicate", "a second face of this name")
      splits[split] = image_split(files.image_folders[split], unique, self.options)
    return splits
