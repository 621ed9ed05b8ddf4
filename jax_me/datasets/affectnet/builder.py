"""AffectNet builder (Mollahosseini et al., arXiv:1708.03985) for its three releases.

Automatically annotated images, and images of AffectNet+ without a human label, are not used.
There is no public test set: papers report scores on "validation".
"""

import dataclasses
import pathlib
from collections.abc import Mapping

from jax_me.data.labels import EMOTIONS
from jax_me.datasets.affectnet import layout
from jax_me.datasets.affectnet.annotations import list_faces
from jax_me.datasets.affectnet.process_faces import AffectNetOptions, FaceProcessor
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.tasks import Split

FACES_PER_TASK = 32
# Starting a worker takes about two seconds, as long as this many tasks without alignment.
TASKS_PER_WORKER = 16

# Published image counts, in the order of the codes. The npy release has one validation image less:
# 3,999 in all, and 3,500 without contempt.
TRAIN_COUNTS = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750)
KNOWN_COUNTS = {
  "csv": {"train": TRAIN_COUNTS, "validation": (500,) * 8},
  "npy": {"train": TRAIN_COUNTS, "validation": (*(500,) * 7, 499)},
  # Before the release is known; csv and npy share these counts.
  "auto": {"train": TRAIN_COUNTS},
}


class AffectNet(FaceDataset[AffectNetOptions]):
  """AffectNet; see `AffectNetOptions`, and `affectnet.layout` for the accepted folder layouts."""

  name = "affectnet"
  DESCRIPTION = "AffectNet: faces from the web with one of 7 or 8 expressions, labelled by hand."
  CITATION = (
    "A. Mollahosseini, B. Hasani, M. H. Mahoor: AffectNet: A Database for Facial Expression, "
    "Valence, and Arousal Computing in the Wild. IEEE Transactions on Affective Computing, 2017. "
    "AffectNet+: arXiv:2410.22506."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
  Options = AffectNetOptions

  @classmethod
  def resolve_options(cls, options: AffectNetOptions, manual_dir: pathlib.Path) -> AffectNetOptions:
    splits = layout.find_release(manual_dir, options.release)
    return dataclasses.replace(options, release=splits[0].release)

  @classmethod
  def matches_options(cls, built: Mapping[str, object], options: AffectNetOptions) -> bool:
    if options.release == "auto":
      options = dataclasses.replace(options, release=str(built["release"]))
    return super().matches_options(built, options)

  @classmethod
  def fingerprint(cls, options: AffectNetOptions, manual_dir: pathlib.Path) -> str:
    return layout.fingerprint(layout.find_release(manual_dir, options.release))

  @classmethod
  def label_names(
    cls, options: AffectNetOptions, manual_dir: pathlib.Path | None
  ) -> tuple[str, ...]:
    del manual_dir
    return EMOTIONS[: options.classes]

  def known_counts(self) -> dict[str, dict[str, int]]:
    # No counts are published for AffectNet+.
    known = KNOWN_COUNTS.get(self.options.release, {})
    return {split: dict(zip(self.labels, counts, strict=False)) for split, counts in known.items()}

  def splits(self) -> dict[str, Split]:
    splits: dict[str, Split] = {}
    for split in layout.find_release(self.manual_dir, self.options.release):
      faces, problems = list_faces(split, self.manual_dir)
      self.listing_rows += problems
      images = tuple(str(folder) for folder in split.images)
      processor = FaceProcessor(str(split.labels), self.options, images, self.labels)
      splits[split.split] = processor.split(faces, FACES_PER_TASK, TASKS_PER_WORKER)
    for missing in sorted(set(layout.SPLITS) - set(splits)):
      self.report(missing, "missing_split", f"not in {self.manual_dir}")
    return splits
