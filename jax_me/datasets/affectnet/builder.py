"""AffectNet builder (Mollahosseini et al., arXiv:1708.03985) for its three releases.

Automatically annotated images, and images of AffectNet+ without a human label, are not used.
There is no public test set: papers report scores on "validation".
"""

import dataclasses
import pathlib
from collections.abc import Mapping

from jax_me.data.labels import EMOTIONS
from jax_me.datasets.affectnet import layout
from jax_me.datasets.affectnet.annotations import AnnotatedFace, list_faces
from jax_me.datasets.affectnet.layout import RELEASES, ReleaseSplit
from jax_me.datasets.affectnet.process_faces import FaceTask, run_face_task
from jax_me.datasets.generation.base_builder import BuilderOptions, FaceDataset
from jax_me.datasets.generation.process_images import check_encoding
from jax_me.datasets.generation.split import Split
from jax_me.faces.alignment import check_settings

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


@dataclasses.dataclass(frozen=True)
class AffectNetOptions(BuilderOptions):
  """Options that change the content of the AffectNet dataset.

  Attributes:
    release: "csv" (2017), "npy" (March 2021), "plus" (AffectNet+), or "auto" for the only release
      in manual_dir.
    classes: 8, or 7 without contempt. None, uncertain and non-face are always left out.
    align: crop and align the face with dlib; for csv, the face in the annotated box. False keeps
      the release's own crops: the files of npy and plus byte for byte; for csv a square around
      the annotated box with a margin of a tenth of its longer side.
    size: side of aligned faces in pixels; larger csv crops are downscaled to it.
    on_no_face: for align, if dlib finds no face: "skip", "center" (unaligned) or "error".
    encoding: "jpg" (quality 95) or "png" (lossless, five times the size), for cropped faces.
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
    check_encoding(self.encoding)
    if not self.align:
      self._reset("on_no_face")
      if self.release in ("npy", "plus"):
        self._reset("size", "encoding")


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
  def config_title(cls, options: AffectNetOptions) -> str:
    return f"{options.release}_{options.classes}" + (f"_{options.size}" if options.align else "")

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
      for problem in problems:
        self.report(problem.file, problem.status, detail=problem.detail)
      tasks = self._tasks(split, faces)
      splits[split.split] = Split(run_face_task, tasks, len(faces), TASKS_PER_WORKER)
    for missing in sorted(set(layout.SPLITS) - set(splits)):
      self.report(missing, "missing_split", detail=f"not in {self.manual_dir}")
    return splits

  def _tasks(self, split: ReleaseSplit, faces: list[AnnotatedFace]) -> list[FaceTask]:
    options = self.options
    return [
      FaceTask(
        faces=tuple(faces[start : start + FACES_PER_TASK]),
        images=tuple(str(folder) for folder in split.images),
        annotations=str(split.labels),
        labels=self.labels,
        align=options.align,
        size=options.size,
        on_no_face=options.on_no_face,
        encoding=options.encoding,
      )
      for start in range(0, len(faces), FACES_PER_TASK)
    ]
