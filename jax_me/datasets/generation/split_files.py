"""The files of one split while it is built: its shards and its index, in step with each other."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib

import tensorflow_datasets as tfds

from jax_me.data.index import index_path
from jax_me.datasets.generation.example import Example
from jax_me.datasets.generation.progress_file import SplitProgress, open_cut
from jax_me.datasets.generation.shard_writer import ShardWriter, shard_path


class SplitFiles:
  """Checks examples and stores them: row i of the index belongs to record i.

  Attributes:
    name: the split.
    progress: what is stored; kept up to date here and by the shards' writer.
    shards: the records' writer.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    builder: tfds.core.DatasetBuilder,
    name: str,
    progress: SplitProgress,
  ):
    """Opens the files and cuts off what `progress` does not know.

    Args:
      folder: where they lie.
      builder: its features and names are stored.
      name: the split.
      progress: what an earlier run has stored.

    Raises:
      ValueError: the files are not those that `progress` tells of.
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
    self._name_shards_provisionally()
    self._index = open_cut(index_path(folder, name), progress.index_bytes)
    with index_path(folder, name).open("rb") as index:
      self._seen = {json.loads(line)["file"] for line in index}
    if len(self._seen) != progress.examples:
      raise ValueError(f"its index of {name} is damaged")
    self.shards = ShardWriter(folder, name, progress)

  def close(self) -> None:
    """Closes the files as they are."""
    self._index.close()
    self.shards.close()

  def add(self, example: Example) -> None:
    """Stores one example.

    Raises:
      ValueError: it has an unknown label, the name of another one, no JPEG or PNG image, or not
        one target a class.
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
    # Without it the order of the fields would differ from process to process.
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
    """Brings everything written to the disk."""
    self._index.flush()
    os.fsync(self._index.fileno())
    self.shards.sync()

  def finish(self) -> tfds.core.SplitInfo | None:
    """Gives the shards their names; None for a split without examples, which then has no files."""
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

  def _name_shards_provisionally(self) -> None:
    """Takes back what a build did that was killed while it gave the names."""
    for number in range(len(self.progress.shard_records)):
      with contextlib.suppress(FileNotFoundError):
        self._final_path(number).rename(shard_path(self._folder, self.name, number))
