"""Common base of the micro-expression datasets.

A builder subclasses ClipDataset and lists its clips; there is one split, "train", from which folds
are formed by subject (`jax_me.data.folds`).
"""

import abc
import hashlib
import pathlib
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.source_files import walk_files
from jax_me.datasets.generation.tasks import ReportRow, Split
from jax_me.datasets.micro.clip_layout import TABLE_SUFFIXES
from jax_me.datasets.micro.clip_options import ClipOptions, examples_per_clip
from jax_me.datasets.micro.process_clips import Clip, ClipProcessor
from jax_me.faces.image_files import is_image_name

# Starting a worker takes about two seconds, as long as this many clips.
TASKS_PER_WORKER = 10

ClipOptionsT = TypeVar("ClipOptionsT", bound=ClipOptions)


class ClipDataset(FaceDataset[ClipOptionsT]):
  """A dataset of clips. Subclasses define `list_clips`, and `LABELS` or `CLASSES`.

  Attributes:
    CLASSES: option `classes` -> class, in the order of the codes -> its expressions.
    CLIP_COUNTS: expression -> published number of clips.
  """

  Options = ClipOptions
  CLASSES: ClassVar[Mapping[int, Mapping[str, tuple[str, ...]]]] = {}
  CLIP_COUNTS: ClassVar[Mapping[str, int]] = {}

  @classmethod
  @abc.abstractmethod
  def list_clips(
    cls, options: ClipOptionsT, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[ReportRow]]:
    """Lists the clips in a fixed order, also those without frames, and rows for what is left out.

    Raises:
      ValueError: manual_dir does not hold the dataset; the message says what it must hold.
    """

  @classmethod
  def classes_of(cls, options: ClipOptionsT) -> Mapping[str, tuple[str, ...]]:
    """Class, in the order of the codes -> its expressions."""
    if cls.CLASSES:
      return cls.CLASSES[getattr(options, "classes")]  # noqa: B009
    return {label: (label,) for label in cls.LABELS}

  @classmethod
  def class_of_expression(cls, options: ClipOptionsT) -> dict[str, str]:
    """Expression -> class; other expressions are left out."""
    return {e: name for name, parts in cls.classes_of(options).items() for e in parts}

  @classmethod
  def label_names(cls, options: ClipOptionsT, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del manual_dir
    return tuple(cls.classes_of(options))

  def published_clips(self) -> Mapping[str, int]:
    """Expression -> published number of clips; {} if unknown."""
    return self.CLIP_COUNTS

  def known_counts(self) -> dict[str, dict[str, int]]:
    clips = self.published_clips()
    count = examples_per_clip(self.options.input, self.options.frames)
    if not clips or not count:
      return {}
    classes = self.classes_of(self.options).items()
    return {"train": {name: count * sum(clips.get(e, 0) for e in parts) for name, parts in classes}}

  @classmethod
  def fingerprint(cls, options: ClipOptionsT, manual_dir: pathlib.Path) -> str:
    """Hash of the names of all images, and of the names, sizes and times of all tables.

    Sizes and times of a hundred thousand frames are not read: on a network disk that takes minutes
    at every start.
    """
    del options
    digest = hashlib.sha256()
    for name in walk_files(manual_dir):
      if name.lower().endswith(TABLE_SUFFIXES):
        status = (manual_dir / name).stat()
        name = f"{name}\0{status.st_size}\0{status.st_mtime_ns}"
      elif not is_image_name(name):
        continue
      digest.update(f"{name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

  def splits(self) -> dict[str, Split]:
    clips, problems = self.list_clips(self.options, self.manual_dir)
    self.listing_rows += problems
    options = self.options.narrowed(ClipOptions)
    total = examples_per_clip(options.input, options.frames) * len(clips) or None
    processor = ClipProcessor(str(self.manual_dir), options)
    return {"train": Split(processor, clips, total, TASKS_PER_WORKER)}
