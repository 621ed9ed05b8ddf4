"""FER+ (Barsoum et al., arXiv:1608.01041): the faces of FER2013 with ten people's votes each.

Which faces are kept, and as what, depends on the table of votes and on the rule (`ferplus_votes`).
Published scores are accuracies on "test"; say with which of them.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

from jax_me.datasets.fer2013.annotations import Place, read_places
from jax_me.datasets.fer2013.builder import row_split
from jax_me.datasets.ferplus import annotations
from jax_me.datasets.ferplus.annotations import SPLITS, VOTES, Files, Voted
from jax_me.datasets.ferplus.votes import EMOTIONS, MODES, decide
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.find_files import fingerprint
from jax_me.datasets.generation.image_dataset import PictureOptions, picture_split
from jax_me.datasets.generation.process_images import Picture
from jax_me.datasets.generation.split import Split

# Numbers of faces that the rule gives on the published tables, in the order of EMOTIONS.
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
class FerPlusOptions(PictureOptions):
  """What changes the content of FER+'s dataset, besides `PictureOptions`.

  Attributes:
    votes: "label.csv" (read by the authors' code; the usual one) or "fer2013new". Their votes
      differ for about one face in twenty-two.
    mode: "majority", "probability" or "multi_target": see `ferplus_votes.chosen_votes`. In the
      last two the index has `targets`, the probabilities of the classes, and training uses them.
  """

  votes: str = "label.csv"
  mode: str = "majority"

  def __post_init__(self):
    super().__post_init__()
    if self.votes not in VOTES:
      raise ValueError(f"votes of FER+ must be one of {', '.join(VOTES)}: {self.votes!r}")
    if self.mode not in MODES:
      raise ValueError(f"mode of FER+ must be one of {', '.join(MODES)}: {self.mode!r}")


class FerPlus(FaceDataset):
  """See `FerPlusOptions`, and `ferplus_lists` for the files. Labels are in the tables' order."""

  name = "ferplus"
  DESCRIPTION = "FER+: the faces of FER2013 with one of eight expressions, from ten votes each."
  CITATION = (
    "E. Barsoum, C. Zhang, C. Canton Ferrer, Z. Zhang: Training Deep Networks for Facial "
    "Expression Recognition with Crowd-Sourced Label Distribution. ICMI 2016. arXiv:1608.01041."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = annotations.INSTRUCTIONS
  Options = FerPlusOptions

  @classmethod
  def fingerprint(cls, options: FerPlusOptions, manual_dir: pathlib.Path) -> str:
    files = annotations.find(manual_dir, options.votes)
    tables = [files.table, *files.labels.values(), files.faces]
    return fingerprint(
      [path for path in tables if path is not None], [] if files.faces else files.folders.values()
    )

  @classmethod
  def config_title(cls, options: FerPlusOptions) -> str:
    title = f"{options.votes.replace('.', '_')}_{options.mode}"
    return f"{title}_{options.cut_title}" if options.align else title

  @classmethod
  def label_names(cls, options: FerPlusOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return EMOTIONS

  def known_counts(self) -> dict[str, dict[str, int]]:
    known = KNOWN_COUNTS[self.options.votes, self.options.mode]
    return {split: dict(zip(EMOTIONS, counts, strict=True)) for split, counts in known.items()}

  def splits(self) -> dict[str, Split]:
    files = annotations.find(self.manual_dir, self.options.votes)
    table = annotations.read_table(files.table) if files.table is not None else []
    if self.options.votes == "fer2013new":
      voted = list(enumerate(table))
    else:
      rows = annotations.rows_by_name(table)
      voted = [
        (rows.get(face.name, -1), face)
        for split, path in files.labels.items()
        for face in annotations.read_labels(path, split)
      ]
    pictures = self._pictures(voted)
    for split in [split for split in SPLITS if not pictures[split]]:
      self.report(split, "missing_split", detail="no face of it is listed")
      del pictures[split]
    if files.faces is not None:
      return self._from_csv(files, table, pictures)
    return self._from_folders(files, pictures)

  def _pictures(self, voted: Sequence[tuple[int, Voted]]) -> dict[str, list[tuple[int, Picture]]]:
    """split -> (row of fer2013.csv, picture); names of a second face end in "#2"."""
    pictures: dict[str, list[tuple[int, Picture]]] = {split: [] for split in SPLITS}
    seen: set[str] = set()
    for row, face in voted:
      if not face.votes or not face.split:
        what = "usage" if face.votes else "ten votes"
        self.report(face.place, "bad_row", detail=f"no {what} that can be read")
        continue
      label, targets = decide(face.votes, self.options.mode)
      if not targets:
        self.report(face.name or face.place, "no_expression", detail=label)
        continue
      if not face.name:
        self.report(face.place, "bad_row", detail="an expression, but no name of an image")
        continue
      file = f"{face.name}#2" if face.name in seen else face.name
      if file in seen:
        self.report(face.place, "duplicate", detail=face.name)
        continue
      seen.add(file)
      soft = self.options.mode != "majority"
      shares = tuple(round(target, 6) for target in targets) if soft else ()
      pictures[face.split].append((row, Picture(file, label, path=face.name, targets=shares)))
    return pictures

  def _from_csv(
    self, files: Files, table: list[Voted], pictures: dict[str, list[tuple[int, Picture]]]
  ) -> dict[str, Split]:
    assert files.table is not None and files.faces is not None
    faces = read_places(files.faces)
    annotations.check_rows(table, files.table, faces)
    splits = {}
    for split, listed in pictures.items():
      rows: list[tuple[Picture, Place]] = []
      for row, picture in listed:
        if row < 0:
          self.report(picture.file, "missing", detail=f"{files.table.name} has no such name")
        elif problem := faces.places[row].problem:
          self.report(picture.file, "bad_row", detail=f"{faces.path.name}: {problem}")
        else:
          rows.append((picture, faces.places[row]))
      splits[split] = row_split(faces, rows, self.options.cut)
    return splits

  def _from_folders(
    self, files: Files, pictures: dict[str, list[tuple[int, Picture]]]
  ) -> dict[str, Split]:
    splits = {}
    for split, listed in pictures.items():
      if split not in files.folders:
        self.report(split, "missing_split", detail=f"no pictures in {SPLITS[split]}")
        continue
      here = []
      for _, picture in listed:
        # A folder has one file of that name, and the first is meant.
        if picture.file == picture.path:
          here.append(picture)
        else:
          self.report(picture.file, "duplicate", detail="a second face of this name")
      splits[split] = picture_split(files.folders[split], here, self.options.cut)
    return splits
