"""What is known of a recipe's dataset without having it: its classes and its size."""

import dataclasses
import tempfile

from ml_collections import ConfigDict

from jax_me.datasets.catalog import builder_class
from jax_me.datasets.generation.base_builder import FaceDatasetConfig
from jax_me.datasets.generation.fingerprint import make_options


@dataclasses.dataclass(frozen=True)
class DatasetFacts:
  """Published facts; 0 where they depend on the user's files.

  Attributes:
    classes: number of label names.
    examples: images that training reads.
  """

  classes: int
  examples: int


def dataset_facts(config: ConfigDict) -> DatasetFacts:
  """Classes and training images of `config.data`, as published.

  Raises:
    ValueError: unknown dataset or option.
  """
  cls = builder_class(config.data.name)
  options = make_options(cls, config.data.options.to_dict())
  try:
    labels = tuple(cls.label_names(options, None))
  except (AssertionError, TypeError, ValueError):
    return DatasetFacts(0, 0)  # The user's folders are the classes.
  about = FaceDatasetConfig(name="unbuilt", version=cls.VERSION, options=options, labels=labels)
  with tempfile.TemporaryDirectory() as nowhere:
    counts = cls(data_dir=nowhere, config=about).known_counts()
  split = counts.get("train", {})
  return DatasetFacts(len(labels), sum(split.values()))
