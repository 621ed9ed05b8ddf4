"""Writer of one split: its shards and its index, kept consistent with each other."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib

import tensorflow_datasets as tfds

from jax_me.data.index import index_path
from jax_me.datasets.generation.example import Example
from jax_me.datasets.generation.progress_file import SplitProgress, open_truncated
from jax_me.datasets.generation.shard_writer import ShardWriter, shard_path


class SplitFiles:
  """Validates and stores examples: row i of the index describes record i.

  Attributes:
    name: the split.
    progress: what is stored; updated here and by the shard writer.
    shards: writer of the records.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    builder: tfds.core.DatasetBuilder,
    name: str,
    progress: SplitProgress,
  ):
    """Opens the files and truncates them to the recorded progress.

    Args:
      folder: folder of the files.
      builder: defines the features and the label names.
      name: the split.
      progress: what an earlier run has stored.

    Raises:
      ValueError: the files do not match `progress`.
    """
    self.name, self.progress = name, progress
    self._folder = folder
    features = builder.info.features
    self._features = features
    self._labels: list[str] = features["label"].names
    self._serializer = tfds.core.example_serializer.ExampleSerializer(
      features.get_serialized_info()
    )
    self._template = builder._get_filename_template(split_name=name)
    self._restore_provisional_names()
    self._index = open_truncated(index_path(folder, name), progress.index_bytes)
    with index_path(folder, name).open("rb") as index:
      self._seen = {json.loads(line)["file"] for line in index}
    if len(self._seen) != progress.examples:
      raise ValueError(f"its index of {name} is damaged")
    self.shards = ShardWriter(folder, name, progress)

  def close(self) -> None:
    """Closes the files."""
    self._index.close()
    self.shards.close()

  def add(self, example: Example) -> None:
    """Stores one example.

    Raises:
      ValueError: unknown label, duplicate name, neither JPEG nor PNG, or a number of targets other
        than the number of classes.
    """
    if example.label not in self._labels:
      raise ValueError(
        f"{example.file}: label {example.label!r} is not one of {', '.join(self._labels)}"
      )
    if example.file in self._seen:
      raise ValueError(f"{example.file}: two examples of split {self.name} have this name")
    if not example.image.startswith((b"\xff\xd8\xff", b"\x89PNG")):
      raise ValueError(f"{example.file}: the image is neither JPEG nor PNG")
    if len(example.targets) not in (0, len(self._labels)):
      raise ValueError(
        f"{example.file}: {len(example.targets)} targets for {len(self._labels)} classes"
      )
    self._seen.add(example.file)
    row = {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}
    targets = row.pop("targets")
    stored = {**row, "image": io.BytesIO(example.image)}
    record = self._serializer.get_tf_example(self._features.encode_example(stored))
    # Otherwise the order of the fields would differ between processes.
    self.shards.write(record.SerializeToString(deterministic=True))
    row["label"] = self._labels.index(example.label)
    del row["image"]
    if targets:
      row["targets"] = targets
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    self._index.write(line)
    self.progress.index_bytes += len(line)
    self.progress.stored[example.label] = self.progress.stored.get(example.label, 0) + 1

  def sync(self) -> None:
    """Flushes everything to disk."""
    self._index.flush()
    os.fsync(self._index.fileno())
    self.shards.sync()

  def finish(self) -> tfds.core.SplitInfo | None:
    """Gives the shards their final names.

    Returns:
      The split's description; None, and no files, for a split without examples.
    """
    self.close()
    self.shards.remove_spools()
    count = len(self.progress.shard_records)
    if not count:
      index_path(self._folder, self.name).unlink()
      return None
    for number in range(count):
      shard_path(self._folder, self.name, number).rename(self._final_path(number))
    return tfds.core.SplitInfo(
      name=self.name,
      shard_lengths=self.progress.shard_records,
      num_bytes=sum(self.progress.shard_bytes),
      filename_template=self._template,
    )

  def _final_path(self, number: int) -> pathlib.Path:
    count = len(self.progress.shard_records)
    return self._folder / str(
      self._template.relative_filepath(shard_index=number, num_shards=count)
    )

  def _restore_provisional_names(self) -> None:
    """Reverts the renaming by a build that was killed in `finish`."""
    for number in range(len(self.progress.shard_records)):
      with contextlib.suppress(FileNotFoundError):
        self._final_path(number).rename(shard_path(self._folder, self.name, number))
