"""TFDS builder of a user's folder of labelled photographs or clips."""

import collections
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Mapping
from typing import cast

from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.base_builder import BuilderOptions, FaceDataset
from jax_me.datasets.generation.process_images import check_encoding
from jax_me.datasets.generation.source_files import fingerprint_folder
from jax_me.datasets.generation.split import Split
from jax_me.datasets.labeled_folder.annotations import (
  LABELS_FILE,
  LAYOUTS,
  SourceImage,
  list_folder,
)
from jax_me.datasets.labeled_folder.process_files import FolderTask, batch_tasks, run_folder_task
from jax_me.faces.alignment import ON_NO_FACE
from jax_me.faces.image_files import is_image_name

FILES_PER_TASK = 8
# Starting a worker takes about two seconds, as long as this many tasks.
TASKS_PER_WORKER = 2


@dataclasses.dataclass(frozen=True)
class FolderOptions(BuilderOptions):
  """Options of a labelled folder.

  Attributes:
    align: crop and align the largest face of each image; a clip shares one transform. False
      stores the images as they are.
    size: side of aligned faces in pixels.
    on_no_face: for images without a face: "skip", "center" (the centred square) or "error".
    encoding: "png" (lossless) or "jpg" (quality 95, a fifth of the size), for aligned faces.
    labels: class names in the order of their codes; images of other classes are left out. Empty
      takes all classes, sorted by name.
  """

  align: bool = True
  size: int = 224
  on_no_face: str = "skip"
  encoding: str = "png"
  labels: tuple[str, ...] = ()

  def __post_init__(self):
    if self.size < 1:
      raise ValueError(f"size must be at least 1 pixel, got {self.size}")
    if self.on_no_face not in ON_NO_FACE:
      raise ValueError(f"on_no_face must be one of {', '.join(ON_NO_FACE)}: {self.on_no_face!r}")
    check_encoding(self.encoding)
    labels = tuple(normalize_label(name) for name in self.labels)
    if len(set(labels)) < len(labels):
      raise ValueError(f"labels must be different, got {', '.join(self.labels)}")
    object.__setattr__(self, "labels", labels)
    if not self.align:
      self._reset("size", "on_no_face", "encoding")


class LabeledImages(FaceDataset[FolderOptions]):
  """Labelled folder; see `annotations.LAYOUTS` for its layouts, and `FolderOptions`."""

  name = "labeled_images"
  DESCRIPTION = "Labelled photographs or clips from a folder of the user's."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir must hold {LAYOUTS}."
  Options = FolderOptions

  @classmethod
  def fingerprint(cls, options: FolderOptions, manual_dir: pathlib.Path) -> str:
    del options
    # Other files, or a data_dir inside manual_dir, are ignored.
    return fingerprint_folder(
      manual_dir, lambda name: name == LABELS_FILE or is_image_name(pathlib.Path(name).name)
    )

  @classmethod
  def matches_options(cls, built: Mapping[str, object], options: FolderOptions) -> bool:
    # Version 0.1 kept "_" and "-" in label names.
    labels = [normalize_label(name) for name in cast(list[str], built["labels"])]
    return super().matches_options({**built, "labels": labels}, options)

  @classmethod
  def config_title(cls, options: FolderOptions) -> str:
    return f"aligned_{options.size}" if options.align else "original"

  @classmethod
  def label_names(cls, options: FolderOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    assert manual_dir is not None
    listing = list_folder(manual_dir)
    if not listing.sources:
      counts = collections.Counter(problem.status for problem in listing.problems)
      summary = ", ".join(f"{count} {status}" for status, count in counts.items())
      first = listing.problems[0]
      raise ValueError(
        f"manual_dir {manual_dir} gives no image: {summary} (first: {first.file} {first.detail})"
      )
    found = {source.label for source in listing.sources}
    if missing := [name for name in options.labels if name not in found]:
      raise ValueError(
        f"manual_dir {manual_dir} has no images of {', '.join(missing)}; it has: "
        f"{', '.join(sorted(found))}"
      )
    return options.labels or tuple(sorted(found))

  def splits(self) -> dict[str, Split]:
    listing = list_folder(self.manual_dir)
    for problem in listing.problems:
      details = {"detail": problem.detail} if problem.detail else {}
      self.report(problem.file, problem.status, **details)
    by_split: dict[str, list[SourceImage]] = {}
    for source in listing.sources:
      if source.label in self.labels:
        by_split.setdefault(source.split, []).append(source)
      else:
        self.report(source.file, "other_label", detail=source.label)
    if len(by_split) == 1:  # a dataset without official splits is one split
      by_split = {"train": next(iter(by_split.values()))}
    return {
      name: Split(
        run_folder_task,
        list(batch_tasks(self._tasks(sources), FILES_PER_TASK)),
        len(sources),
        TASKS_PER_WORKER,
      )
      for name, sources in by_split.items()
    }

  def _tasks(self, sources: list[SourceImage]) -> Iterator[FolderTask]:
    def recording(source: SourceImage) -> tuple[str, str, str]:
      return source.database, source.subject, source.clip

    # Sources are sorted, so the frames of a recording are adjacent.
    for (*_, clip), group in itertools.groupby(sources, recording):
      images = list(group)
      is_clip = bool(clip) and self.options.align
      for batch in [images] if is_clip else [[source] for source in images]:
        yield FolderTask(
          folder=str(self.manual_dir),
          sources=tuple(batch),
          is_clip=is_clip,
          align=self.options.align,
          size=self.options.size,
          on_no_face=self.options.on_no_face,
          encoding=self.options.encoding,
        )
