"""AffectNet (Mollahosseini et al., arXiv:1708.03985): its three releases, from the user's copy.

The automatically annotated images and those of AffectNet+ without a human label are not used.
There is no public test set: scores are reported on "validation".
"""

import dataclasses
import pathlib
from typing import Any

from jax_me.data.labels import EMOTIONS
from jax_me.datasets.affectnet import layout
from jax_me.datasets.affectnet.annotations import Entry, list_entries
from jax_me.datasets.affectnet.layout import RELEASES, Part
from jax_me.datasets.affectnet.process_faces import Task, run_task
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.split import Split
from jax_me.faces.alignment import check_settings

ENCODINGS = ("jpg", "png")
ENTRIES_PER_TASK = 32
# Starting a worker takes about two seconds, as long as this many tasks without alignment.
TASKS_PER_WORKER = 16

# Published numbers of images, in the order of the codes. The npy release lacks one for validation:
# it has 3,999 in all, and 3,500 without contempt.
TRAIN_COUNTS = (74_874, 134_415, 25_459, 14_090, 6_378, 3_803, 24_882, 3_750)
KNOWN_COUNTS = {
  "csv": {"train": TRAIN_COUNTS, "validation": (500,) * 8},
  "npy": {"train": TRAIN_COUNTS, "validation": (*(500,) * 7, 499)},
  # Before the files are there; both releases have these.
  "auto": {"train": TRAIN_COUNTS},
}


@dataclasses.dataclass(frozen=True)
class AffectNetOptions:
  """What changes the content of AffectNet's dataset.

  Attributes:
    release: "csv" (2017), "npy" (March 2021), "plus" (AffectNet+), or "auto": the one that lies
      in manual_dir.
    classes: 8, or 7 without contempt. None, uncertain and non-face are always left out.
    align: cut out and align the face with dlib, in csv the one in the annotated box. False keeps
      the release's own crops: the files of npy and plus byte for byte; for csv a square about the
      annotated box with a margin of a tenth of its longer side.
    size: side of aligned faces, pixels; csv crops are shrunk to it where they are larger.
    on_no_face: for align, where dlib finds none: "skip", "center" (unaligned) or "error".
    encoding: "jpg" (quality 95) or "png" (lossless, five times the size), for what is cut.
  """

  release: str = "auto"
  classes: int = 8
  align: bool = False
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "jpg"

  def __post_init__(self):
    if self.release not in ("auto", *RELEASES):
      raise ValueError(f"release must be auto, {', '.join(RELEASES)}: {self.release!r}")
    if self.classes not in (7, 8):
      raise ValueError(f"classes of AffectNet must be 7 or 8, got {self.classes}")
    check_settings(self.size, self.on_no_face)
    if self.encoding not in ENCODINGS:
      raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}: {self.encoding!r}")
    # Settings that change nothing must not make another dataset.
    idle = [] if self.align else ["on_no_face"]
    if not self.align and self.release in ("npy", "plus"):
      idle += ["size", "encoding"]
    for field in idle:
      object.__setattr__(self, field, type(self).__dataclass_fields__[field].default)


class AffectNet(FaceDataset):
  """See `AffectNetOptions`, and `affectnet_layout` for the forms in which it is given."""

  name = "affectnet"
  DESCRIPTION = "AffectNet: faces from the web with one of 7 or 8 expressions, labelled by people."
  CITATION = (
    "A. Mollahosseini, B. Hasani, M. H. Mahoor: AffectNet: A Database for Facial Expression, "
    "Valence, and Arousal Computing in the Wild. IEEE Transactions on Affective Computing, 2017. "
    "AffectNet+: arXiv:2410.22506."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = layout.INSTRUCTIONS
  Options = AffectNetOptions

  @classmethod
  def settle_options(cls, options: AffectNetOptions, manual_dir: pathlib.Path) -> AffectNetOptions:
    parts = layout.find_release(manual_dir, options.release)
    return dataclasses.replace(options, release=parts[0].release)

  @classmethod
  def is_answer(cls, built: dict[str, Any], options: AffectNetOptions) -> bool:
    if options.release == "auto":
      options = dataclasses.replace(options, release=built["release"])
    return super().is_answer(built, options)

  @classmethod
  def fingerprint(cls, options: AffectNetOptions, manual_dir: pathlib.Path) -> str:
    return layout.fingerprint(layout.find_release(manual_dir, options.release))

  @classmethod
  def config_title(cls, options: AffectNetOptions) -> str:
    return f"{options.release}_{options.classes}" + (f"_{options.size}" if options.align else "")

  @classmethod
  def label_names(
    cls, options: AffectNetOptions, manual_dir: pathlib.Path | None
  ) -> tuple[str, ...]:
    del manual_dir
    return EMOTIONS[: options.classes]

  def known_counts(self) -> dict[str, dict[str, int]]:
    # Of AffectNet+ no numbers are published that a copy could be held against.
    known = KNOWN_COUNTS.get(self.options.release, {})
    return {split: dict(zip(self.labels, counts, strict=False)) for split, counts in known.items()}

  def splits(self) -> dict[str, Split]:
    parts = layout.find_release(self.manual_dir, self.options.release)
    splits: dict[str, Split] = {}
    for part in parts:
      entries, problems = list_entries(part, self.manual_dir)
      for problem in problems:
        self.report(problem.file, problem.status, detail=problem.detail)
      splits[part.split] = Split(
        run_task, self._tasks(part, entries), len(entries), TASKS_PER_WORKER
      )
    for missing in sorted(set(layout.SPLITS) - set(splits)):
      self.report(missing, "missing_split", detail=f"not in {self.manual_dir}")
    return splits

  def _tasks(self, part: Part, entries: list[Entry]) -> list[Task]:
    options = self.options
    return [
      Task(
        entries=tuple(entries[start : start + ENTRIES_PER_TASK]),
        images=tuple(str(folder) for folder in part.images),
        annotations=str(part.labels),
        labels=self.labels,
        align=options.align,
        size=options.size,
        on_no_face=options.on_no_face,
        encoding=options.encoding,
      )
      for start in range(0, len(entries), ENTRIES_PER_TASK)
    ]
