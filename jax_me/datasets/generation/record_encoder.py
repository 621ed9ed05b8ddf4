"""Encoder of the results of tasks: records to store, with their rows of index and report."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from jax_me.datasets.generation.base_builder import example_features
from jax_me.datasets.generation.build_report import report_record
from jax_me.datasets.generation.tasks import Example, TaskResult


@dataclasses.dataclass(frozen=True)
class EncodedTask:
  """Result of one task in the form in which a shard stores it.

  Attributes:
    records: the examples, serialised.
    index: one row for every record.
    report: rows of the build report.
    found: labels of the annotations, see `TaskResult`.
  """

  records: Sequence[bytes]
  index: list[dict[str, Any]]
  report: list[dict[str, Any]]
  found: Sequence[str]


@dataclasses.dataclass(frozen=True)
class RecordEncoder:
  """Validates and serialises the examples of one split.

  Attributes:
    split: name of the split.
    labels: class names in the order of their codes.
  """

  split: str
  labels: tuple[str, ...]

  def encode(self, result: TaskResult) -> EncodedTask:
    """Encodes the result of a task.

    Raises:
      ValueError: unknown label, neither JPEG nor PNG, targets that are not one per class, or
        valence or arousal outside [-1, 1].
    """
    encoded = [self._encode(example) for example in result.examples]
    return EncodedTask(
      [record for record, _ in encoded],
      [row for _, row in encoded],
      [report_record(row, self.split) for row in result.rows],
      result.found,
    )

  def _encode(self, example: Example) -> tuple[bytes, dict[str, Any]]:
    file = example.file
    if example.label not in self.labels:
      raise ValueError(f"{file}: label {example.label!r} is not one of {', '.join(self.labels)}")
    if not example.image.startswith((b"\xff\xd8\xff", b"\x89PNG")):
      raise ValueError(f"{file}: the image is neither JPEG nor PNG")
    if len(example.targets) not in (0, len(self.labels)):
      raise ValueError(f"{file}: {len(example.targets)} targets for {len(self.labels)} classes")
    if len(example.affect) not in (0, 2) or any(not -1 <= value <= 1 for value in example.affect):
      raise ValueError(f"{file}: valence and arousal must be in [-1, 1], got {example.affect}")
    row = dict(vars(example))
    image = io.BytesIO(row.pop("image"))
    in_index = {name: row.pop(name) for name in ("targets", "affect")}
    features, serializer = _serializer(self.labels)
    record = serializer.get_tf_example(features.encode_example({**row, "image": image}))
    row["label"] = self.labels.index(example.label)
    row |= {name: values for name, values in in_index.items() if values}
    # Otherwise the order of the fields would differ between processes.
    return record.SerializeToString(deterministic=True), row


@functools.lru_cache(maxsize=8)
def _serializer(labels: tuple[str, ...]) -> tuple[Any, Any]:
  features = example_features(labels)
  return features, tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
