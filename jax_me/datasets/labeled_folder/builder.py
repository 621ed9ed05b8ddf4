"""TFDS builder of a user's folder of labelled photographs or clips."""

import collections
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import cast

from jax_me.data.clip_inputs.inputs import INPUTS, MOTION_INPUTS
from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions, option
from jax_me.datasets.generation.tasks import Split
from jax_me.datasets.labeled_folder.annotations import (
  LAYOUTS,
  FolderImage,
  has_labels,
  is_folder_file,
  list_folder,
)
from jax_me.datasets.labeled_folder.process_folder import FolderProcessor, folder_tasks


@dataclasses.dataclass(frozen=True)
class FolderOptions(ImageOptions):
  """Options of a labelled folder.

  Attributes:
    align: crop and align the largest face of each image; a clip shares one transform. False
      stores the images as they are.
    on_no_face: for images without a face: "skip", "center" (the centred square) or "error".
    labels: class names in the order of their codes; images of other classes are left out. Empty
      takes all classes, sorted by name.
    input: what the images are. "frames", "apex" and "key_frames" are photographs; "flow", "pair"
      and "dynamic" are images of motion that were computed before, and are stored as they are.
    unlabeled: for pre-training: without labels.csv and class folders, takes all images below the
      folder, of the class "unlabeled".
  """

  align: bool = True
  labels: tuple[str, ...] = ()
  input: str = option("frames", choices=INPUTS)
  unlabeled: bool = False

  def __post_init__(self):
    if self.input in MOTION_INPUTS:
      self._set("align", False)
    super().__post_init__()
    labels = tuple(normalize_label(name) for name in self.labels)
    if len(set(labels)) < len(labels):
      raise ValueError(f"labels must be different, got {', '.join(self.labels)}")
    self._set("labels", labels)


class LabeledImages(FaceDataset[FolderOptions]):
  """Labelled folder; see `annotations.LAYOUTS` for its layouts, and `FolderOptions`."""

  name = "labeled_images"
  DESCRIPTION = "Labelled photographs or clips from a folder of the user's."
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"manual_dir must hold {LAYOUTS}."
  Options = FolderOptions
  is_source = staticmethod(is_folder_file)

  @classmethod
  def resolve_options(cls, options: FolderOptions, manual_dir: pathlib.Path) -> FolderOptions:
    # A folder with labels has one build for pre-training and fine-tuning.
    if options.unlabeled and has_labels(manual_dir):
      return dataclasses.replace(options, unlabeled=False)
    return options

  @classmethod
  def matches_options(cls, built: Mapping[str, object], options: FolderOptions) -> bool:
    # Version 0.1 kept "_" and "-" in label names.
    labels = [normalize_label(name) for name in cast(list[str], built["labels"])]
    if not built.get("unlabeled"):
      options = dataclasses.replace(options, unlabeled=False)
    return super().matches_options({**built, "labels": labels}, options)

  @classmethod
  def label_names(cls, options: FolderOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    assert manual_dir is not None
    sources, problems = list_folder(manual_dir, unlabeled=options.unlabeled)
    if not sources:
      counts = collections.Counter(row.status for row in problems)
      summary = ", ".join(f"{count} {status}" for status, count in counts.items())
      first = problems[0]
      raise ValueError(
        f"manual_dir {manual_dir} gives no image: {summary} (first: {first.file} "
        f"{first.details.get('detail', '')})"
      )
    found = {source.label for source in sources}
    if missing := [name for name in options.labels if name not in found]:
      raise ValueError(
        f"manual_dir {manual_dir} has no images of {', '.join(missing)}; it has: "
        f"{', '.join(sorted(found))}"
      )
    return options.labels or tuple(sorted(found))

  def splits(self) -> dict[str, Split]:
    labels = self.labels
    listed, problems = list_folder(self.manual_dir, unlabeled=self.options.unlabeled)
    self.listing_rows += problems
    by_split: dict[str, list[FolderImage]] = {}
    for source in listed:
      if source.label in labels:
        by_split.setdefault(source.split, []).append(source)
      else:
        self.report(source.file, "other_label", source.label)
    if len(by_split) == 1:  # a dataset without official splits is one split
      by_split = {"train": next(iter(by_split.values()))}
    processor = FolderProcessor(str(self.manual_dir), self.options.narrowed(ImageOptions))
    return {
      name: Split(processor, list(folder_tasks(sources, self.options.align)), len(sources))
      for name, sources in by_split.items()
    }
