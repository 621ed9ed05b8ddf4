"""Common base of the dataset builders: features, options, labels.

A builder subclasses FaceDataset and defines `Options` (a frozen dataclass of everything that
changes the content), `label_names`, and `splits`: the tasks that produce the examples of each
split, which `jax_me.datasets.generation.generate` runs.
"""

import abc
import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from jax_me.beam.beam_runner import BeamRunner
from jax_me.datasets.generation.options import BuilderOptions, stored_options
from jax_me.datasets.generation.source_files import fingerprint_folder
from jax_me.datasets.generation.tasks import ReportRow, Split, problem

OptionsT = TypeVar("OptionsT", bound=BuilderOptions)


@dataclasses.dataclass(eq=False)
class FaceDatasetConfig(tfds.core.BuilderConfig):
  """One variant of a dataset. `name` is unique to options, labels and source files.

  Attributes:
    options: the builder's Options.
    labels: class names in the order of their codes.
    fingerprint: hash of the user's files, "" when there are none.
    manual_dir: folder of these files; not part of the build's fingerprint.
    workers: processes used for generation; not part of the build's fingerprint.
    beam: runner of Apache Beam used instead; not part of the build's fingerprint.
  """

  options: BuilderOptions = BuilderOptions()
  labels: tuple[str, ...] = ()
  fingerprint: str = ""
  manual_dir: pathlib.Path | None = None
  workers: int = 1
  beam: BeamRunner | None = None


class FaceDataset(FileReaderBuilder, Generic[OptionsT]):
  """A TFDS builder with the common features of jax_me, stored as array_record.

  Subclasses set `name`, `DESCRIPTION`, `Options`, and `MANUAL_DOWNLOAD_INSTRUCTIONS` when they
  read the user's files; they define `splits`, and `LABELS` or `label_names`.

  Attributes:
    Options: dataclass of everything that changes the content.
    LABELS: class names in the order of their codes, where they are always the same.
    KNOWN_COUNTS: published numbers of images, split -> in the order of `LABELS`.
    listing_rows: report rows of problems that `splits` finds before any task runs.
  """

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION: ClassVar[str] = ""
  CITATION: ClassVar[str] = ""
  Options: ClassVar[type[BuilderOptions]] = BuilderOptions
  LABELS: ClassVar[tuple[str, ...]] = ()
  KNOWN_COUNTS: ClassVar[Mapping[str, Sequence[int]]] = {}

  @classmethod
  def label_names(cls, options: OptionsT, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    """Class names in the order of their codes."""
    del options, manual_dir
    return cls.LABELS

  @abc.abstractmethod
  def splits(self) -> dict[str, Split]:
    """The splits to generate from `self.manual_dir` with `self.options`."""

  @classmethod
  def is_source(cls, name: str) -> bool:
    """Whether the dataset reads a file below manual_dir, given its relative name."""
    del name
    return True

  @classmethod
  def fingerprint(cls, options: OptionsT, manual_dir: pathlib.Path) -> str:
    """Hash of the user's files."""
    del options
    return fingerprint_folder(manual_dir, cls.is_source)

  @classmethod
  def resolve_options(cls, options: OptionsT, manual_dir: pathlib.Path) -> OptionsT:
    """Replaces "auto" options by values that fit the user's files."""
    del manual_dir
    return options

  @classmethod
  def matches_options(cls, built: Mapping[str, object], options: OptionsT) -> bool:
    """Whether a build with the options `built` (as JSON values) satisfies `options`."""
    return stored_options(options, built) == json.loads(json.dumps(dataclasses.asdict(options)))

  def __init__(self, *, config: FaceDatasetConfig, **kwargs: Any):
    self.listing_rows: list[ReportRow] = []
    kwargs.setdefault("file_format", "array_record")
    super().__init__(config=config, **kwargs)

  @property
  def config(self) -> FaceDatasetConfig:
    assert isinstance(self.builder_config, FaceDatasetConfig)
    return self.builder_config

  @property
  def options(self) -> OptionsT:
    """The validated Options of this variant."""
    return cast(OptionsT, self.config.options)

  @property
  def labels(self) -> tuple[str, ...]:
    """Class names in the order of their codes."""
    return self.config.labels

  @property
  def manual_dir(self) -> pathlib.Path:
    """Folder of the user's files; available only during generation."""
    if self.config.manual_dir is None:
      raise ValueError(f"dataset {self.name} was opened without manual_dir")
    return self.config.manual_dir

  def report(self, file: str, status: str, detail: str = "") -> None:
    """Adds a report row for something that `splits` finds before any task runs.

    Args:
      file: relative name of the source file.
      status: kind of problem.
      detail: one line of text, "" for none.
    """
    self.listing_rows.append(problem(file, status, detail))

  def known_counts(self) -> dict[str, dict[str, int]]:
    """Published numbers of images, split -> class -> number, to compare this copy with."""
    return {
      split: dict(zip(self.LABELS, counts, strict=True))
      for split, counts in self.KNOWN_COUNTS.items()
    }

  def _info(self) -> tfds.core.DatasetInfo:
    return _LocalInfo(
      builder=self,
      description=self.DESCRIPTION,
      citation=self.CITATION,
      features=example_features(self.labels),
      supervised_keys=("image", "label"),
      disable_shuffling=True,
    )

  def _create_builder_config(self, builder_config: Any, version: Any) -> FaceDatasetConfig:
    # Avoids a warning of TFDS about a "custom data configuration".
    del version
    return builder_config

  def _download_and_prepare(self, **kwargs: Any) -> None:
    raise ValueError(f"dataset {self.name} is built by jax_me.datasets.catalog.prepare")


def example_features(labels: Sequence[str]) -> tfds.features.FeaturesDict:
  """The features of an example of any dataset with these class names."""
  features = tfds.features
  number = features.Scalar(np.int32)
  return features.FeaturesDict(
    {
      "image": features.Image(),
      "label": features.ClassLabel(names=list(labels)),
      "subject": features.Text(),
      "clip": features.Text(),
      "frame": number,
      "onset": number,
      "apex": number,
      "offset": number,
      "database": features.Text(),
      "file": features.Text(),
    }
  )


class _LocalInfo(tfds.core.DatasetInfo):
  """DatasetInfo that does not query the TFDS bucket (which would leave empty folders in /tmp)."""

  def initialize_from_bucket(self) -> None:
    """Does nothing: no statistics of the user's data are published."""
