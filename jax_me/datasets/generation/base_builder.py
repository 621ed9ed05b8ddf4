"""What every dataset builder shares: features, options, labels.

A builder subclasses FaceDataset and says three things: its `Options` (a frozen dataclass of
everything that changes the content), `label_names`, and `splits`: for each split the tasks that
give its examples (`Split`; `generation` runs them).
"""

import abc
import dataclasses
import json
import pathlib
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.dataset_builder import FileReaderBuilder

from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.source_files import fingerprint_folder
from jax_me.datasets.generation.split import Split


@dataclasses.dataclass(frozen=True)
class NoOptions:
  """For builders whose content depends on nothing."""


@dataclasses.dataclass(eq=False)
class FaceDatasetConfig(tfds.core.BuilderConfig):
  """One variant of a dataset. `name` is unique to options, labels and source files.

  Attributes:
    options: the builder's Options.
    labels: class names in the order of their codes.
    fingerprint: identifies the user's files, "" when there are none.
    manual_dir: where these files lie; not part of the identity.
    workers: processes used for generation; not part of the identity.
  """

  options: Any = None
  labels: tuple[str, ...] = ()
  fingerprint: str = ""
  manual_dir: pathlib.Path | None = None
  workers: int = 1


class FaceDataset(FileReaderBuilder):
  """A TFDS builder with jax_me's common features, stored as array_record.

  Subclasses set `name`, `DESCRIPTION`, `Options`, and `MANUAL_DOWNLOAD_INSTRUCTIONS` when they
  read the user's files; they define `label_names` and `splits`.
  """

  VERSION = tfds.core.Version("1.0.0")
  DESCRIPTION: ClassVar[str] = ""
  CITATION: ClassVar[str] = ""
  Options: ClassVar[type] = NoOptions

  @classmethod
  @abc.abstractmethod
  def label_names(cls, options: Any, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    """Class names in the order of their codes."""

  @abc.abstractmethod
  def splits(self) -> dict[str, Split]:
    """The splits to generate; `self.options` and `self.manual_dir` say from what."""

  @classmethod
  def fingerprint(cls, options: Any, manual_dir: pathlib.Path) -> str:
    """Identifies the user's files. Override to look at fewer of them."""
    del options
    return fingerprint_folder(manual_dir)

  @classmethod
  def settle_options(cls, options: Any, manual_dir: pathlib.Path) -> Any:
    """Replaces options that mean "see what is there" by what the user's files are."""
    del manual_dir
    return options

  @classmethod
  def is_answer(cls, built: dict[str, Any], options: Any) -> bool:
    """Whether a build with these options (as JSON values) is one that `options` ask for."""
    return built == json.loads(json.dumps(dataclasses.asdict(options)))

  @classmethod
  def config_title(cls, options: Any) -> str:
    """Readable first part of the folder name, for example "aligned_224"."""
    del options
    return "data"

  def __init__(self, *, config: FaceDatasetConfig, **kwargs: Any):
    self.listed: list[Row] = []
    kwargs.setdefault("file_format", "array_record")
    super().__init__(config=config, **kwargs)

  @property
  def config(self) -> FaceDatasetConfig:
    assert isinstance(self.builder_config, FaceDatasetConfig)
    return self.builder_config

  @property
  def options(self) -> Any:
    """The validated Options of this variant."""
    return self.config.options

  @property
  def labels(self) -> tuple[str, ...]:
    """Class names in the order of their codes."""
    return self.config.labels

  @property
  def manual_dir(self) -> pathlib.Path:
    """The user's files; only there while generating."""
    if self.config.manual_dir is None:
      raise ValueError(f"dataset {self.name} was opened without manual_dir")
    return self.config.manual_dir

  def report(self, file: str, status: str, **details: Any) -> None:
    """Adds one row to the report beside the dataset; for what `splits` finds before any task."""
    self.listed.append(Row(file, status, details))

  def known_counts(self) -> dict[str, dict[str, int]]:
    """Published numbers of images, split -> class -> number, to compare this copy with."""
    return {}

  def _info(self) -> tfds.core.DatasetInfo:
    features = tfds.features
    number = features.Scalar(np.int32)
    return _LocalInfo(
      builder=self,
      description=self.DESCRIPTION,
      citation=self.CITATION,
      features=features.FeaturesDict(
        {
          "image": features.Image(),
          "label": features.ClassLabel(names=list(self.labels)),
          "subject": features.Text(),
          "clip": features.Text(),
          "frame": number,
          "onset": number,
          "apex": number,
          "offset": number,
          "database": features.Text(),
          "file": features.Text(),
        }
      ),
      supervised_keys=("image", "label"),
      disable_shuffling=True,
    )

  def _create_builder_config(self, builder_config: Any, version: Any) -> FaceDatasetConfig:
    # TFDS would warn of a "custom data configuration"; here all are.
    del version
    return builder_config

  def _download_and_prepare(self, **kwargs: Any) -> None:
    raise ValueError(f"dataset {self.name} is made by jax_me.datasets.catalog.prepare")


class _LocalInfo(tfds.core.DatasetInfo):
  """DatasetInfo that does not look for published statistics (and leave empty folders in /tmp)."""

  def initialize_from_bucket(self) -> None:
    """There is nothing published about the user's own data."""
