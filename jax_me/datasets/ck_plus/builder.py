"""CK+ builder (Lucey et al., CVPR workshops 2010): posed expressions from neutral to peak.

There is one split, "train", for subject-independent cross-validation. The protocol of most papers,
ten folds with every tenth subject each, is `jax_me.data.folds.step_folds(index, 10)`.
"""

import dataclasses
import pathlib

from jax_me.datasets.ck_plus import annotations
from jax_me.datasets.ck_plus.annotations import EMOTIONS, NEUTRAL
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import SourceImage, image_split
from jax_me.datasets.generation.source_files import fingerprint_folder
from jax_me.datasets.generation.tasks import Split
from jax_me.faces.image_files import is_image_name

# Labelled sequences, in the order of EMOTIONS: 327 of 593.
KNOWN_SEQUENCES = (45, 18, 59, 25, 69, 28, 83)


@dataclasses.dataclass(frozen=True)
class CkPlusOptions(ImageOptions):
  """Options that change the content of the CK+ dataset, besides `ImageOptions`.

  Attributes:
    peak_frames: number of last frames of a sequence that are stored with its label; papers use 1
      or 3.
    neutral_first: also store the first frame of each labelled sequence, as neutral.
    contempt: False leaves contempt out. With neutral_first there are 8 classes with contempt and
      7 without, else 7 and 6.
  """

  peak_frames: int = 3
  neutral_first: bool = False
  contempt: bool = True

  def __post_init__(self):
    super().__post_init__()
    if self.peak_frames < 1:
      raise ValueError(f"peak_frames of CK+ must be at least 1, got {self.peak_frames}")

  @property
  def title(self) -> str:
    return f"last_{self.peak_frames}_{super().title}"


class CkPlus(FaceDataset[CkPlusOptions]):
  """CK+; see `CkPlusOptions`.

  Labels are in the order of the release's codes, without classes that are not stored: neutral 0,
  anger, contempt, disgust, fear, happiness, sadness, surprise 7.
  """

  name = "ck_plus"
  DESCRIPTION = "CK+: expressions posed in a laboratory, from neutral to peak."
  CITATION = (
    "P. Lucey, J. F. Cohn, T. Kanade, J. Saragih, Z. Ambadar, I. Matthews: The Extended "
    "Cohn-Kanade Dataset (CK+). CVPR Workshops 2010."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = annotations.INSTRUCTIONS
  Options = CkPlusOptions

  @classmethod
  def is_source(cls, name: str) -> bool:
    return is_image_name(name) or name.endswith(".txt")

  @classmethod
  def fingerprint(cls, options: CkPlusOptions, manual_dir: pathlib.Path) -> str:
    del options
    folders = annotations.find_release(manual_dir)
    return "".join(fingerprint_folder(folder, cls.is_source) for folder in folders)

  @classmethod
  def label_names(cls, options: CkPlusOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del manual_dir
    neutral = (NEUTRAL,) if options.neutral_first else ()
    return neutral + tuple(name for name in EMOTIONS if options.contempt or name != "contempt")

  def known_counts(self) -> dict[str, dict[str, int]]:
    sequences = dict(zip(EMOTIONS, KNOWN_SEQUENCES, strict=True))
    kept = {name: sequences[name] for name in self.labels if name != NEUTRAL}
    known = {name: number * self.options.peak_frames for name, number in kept.items()}
    neutral = {NEUTRAL: sum(kept.values())} if self.options.neutral_first else {}
    return {"train": neutral | known}

  def splits(self) -> dict[str, Split]:
    images, labels = annotations.find_release(self.manual_dir)
    sequences, rows = annotations.list_sequences(images, labels)
    self.listing_rows += rows
    stored: list[SourceImage] = []
    for sequence in sequences:
      name = f"{sequence.subject}/{sequence.clip}"
      if sequence.label not in self.labels:
        self.report(name, "other_label", sequence.label)
        continue
      if len(sequence.frames) < self.options.peak_frames + self.options.neutral_first:
        self.report(name, "few_frames", f"only {len(sequence.frames)} frames")
      stored += annotations.select_frames(
        sequence, self.options.peak_frames, self.options.neutral_first
      )
    return {"train": image_split(images, stored, self.options)}
