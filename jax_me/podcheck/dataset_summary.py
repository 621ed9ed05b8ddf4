"""Number of classes and training images of a dataset, without the dataset itself."""

import dataclasses
import tempfile

from ml_collections import ConfigDict

from jax_me.datasets.catalog import builder_class
from jax_me.datasets.generation.base_builder import FaceDatasetConfig
from jax_me.datasets.generation.fingerprint import make_options


@dataclasses.dataclass(frozen=True)
class DatasetSummary:
  """Published numbers of a dataset; 0 if they depend on the user's files.

  Attributes:
    classes: number of label names.
    examples: number of training images.
  """

  classes: int
  examples: int


def summarise_dataset(config: ConfigDict) -> DatasetSummary:
  """Number of classes and training images of `config.data`, as published.

  Raises:
    ValueError: unknown dataset or option.
  """
  cls = builder_class(config.data.name)
  options = make_options(cls, config.data.options.to_dict())
  try:
    labels = tuple(cls.label_names(options, None))
  except (AssertionError, TypeError, ValueError):
    return DatasetSummary(0, 0)  # The classes are the user's folders.
  about = FaceDatasetConfig(name="unbuilt", version=cls.VERSION, options=options, labels=labels)
  with tempfile.TemporaryDirectory() as nowhere:
    counts = cls(data_dir=nowhere, config=about).known_counts()
  split = counts.get("train", {})
  return DatasetSummary(len(labels), sum(split.values()))
