"""What every dataset builder shares: features, identity, atomic generation without TensorFlow.

A builder subclasses FaceDataset and says three things: its `Options` (a frozen dataclass of
everything that changes the content), `label_names`, and `splits`, which yields `Example`s. The
records stand in the order in which they were yielded. TFDS's own writer is not used: above 1 GiB
it needs TensorFlow, and it shuffles, which would part the records from the index beside them.
"""

import abc
import collections
import dataclasses
import io
import json
import logging
import os
import pathlib
import shutil
import types
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow_datasets as tfds

from jax_me.data.builders.example import Example
from jax_me.data.builders.identity import (
  IDENTITY_FILE,
  build_lock,
  find_prepared,
  fingerprint_folder,
  identity,
  identity_hash,
  make_options,
)
from jax_me.data.builders.known_counts import compare_counts, log_counts
from jax_me.data.builders.report import BuildReport
from jax_me.data.builders.writer import ShardWriter, explain_full_disk
from jax_me.data.index import index_path
from jax_me.faces.cores import available_cores
from jax_me.faces.progress import show_progress

logger = logging.getLogger(__name__)

SUMMARY_FILE = "summary.json"


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples of one split, produced lazily, with their expected number for the progress bar."""

  examples: Iterable[Example]
  total: int | None = None


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


class FaceDataset(tfds.core.GeneratorBasedBuilder):
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

  @classmethod
  def prepare(
    cls,
    *,
    data_dir: str | os.PathLike[str],
    manual_dir: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    **options: Any,
  ) -> Self:
    """See `jax_me.data.builders.prepare`."""
    folder = pathlib.Path(data_dir).expanduser()
    checked = make_options(cls, options)
    needs_files = cls.MANUAL_DOWNLOAD_INSTRUCTIONS is not None
    if manual_dir is not None and not needs_files:
      raise ValueError(f"dataset {cls.name} reads no files of yours; leave out manual_dir")
    if needs_files and manual_dir is None:
      found = find_prepared(cls, folder, checked)
      config = FaceDatasetConfig(
        name=found["config_name"],
        version=cls.VERSION,
        options=make_options(cls, found["options"]),
        labels=tuple(found["labels"]),
        fingerprint=found["fingerprint"],
      )
      return cls(data_dir=folder, config=config)
    source = None
    if manual_dir is not None:
      source = pathlib.Path(manual_dir).expanduser()
      if not source.is_dir():
        raise ValueError(
          f"manual_dir {source} of dataset {cls.name} is not a folder. "
          f"{cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        )
      checked = cls.settle_options(checked, source)
    config = FaceDatasetConfig(
      name="",
      version=cls.VERSION,
      options=checked,
      labels=tuple(cls.label_names(checked, source)),
      fingerprint="" if source is None else cls.fingerprint(checked, source),
      manual_dir=source,
      workers=available_cores() if workers is None else workers,
    )
    config.name = f"{cls.config_title(checked)}-{identity_hash(cls, config)}"
    builder = cls(data_dir=folder, config=config)
    if not _is_complete(builder):
      with build_lock(folder / cls.name / f".{config.name}.lock"):
        # Another process may have generated it while this one waited.
        if not _is_complete(builder):
          _remove_leftovers(pathlib.Path(builder.data_path))
          logger.info("generating dataset %s in %s", cls.name, builder.data_path)
          builder.download_and_prepare()
      builder = cls(data_dir=folder, config=config)
    return builder

  def __init__(self, *, config: FaceDatasetConfig, **kwargs: Any):
    self._report: BuildReport | None = None
    self._found: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
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
    """Adds one row to the report beside the dataset; status "ok" means stored unharmed."""
    assert self._report is not None, "only while generating"
    self._report.add(file, status, **details)

  def known_counts(self) -> dict[str, dict[str, int]]:
    """Published numbers of images, split -> class -> number, to compare this copy with."""
    return {}

  def count_found(self, split: str, label: str) -> None:
    """Counts an annotation for that comparison, also where its image cannot be stored."""
    self._found[split][label] += 1

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

  def _make_download_manager(self, **kwargs: Any) -> Any:
    # TFDS's own would leave an empty folder "downloads" in data_dir.
    del kwargs
    return types.SimpleNamespace(downloaded_size=0)

  def _log_download_bytes(self) -> None:
    """TFDS prints its download sizes here; nothing is downloaded."""

  def _log_download_done(self) -> None:
    logger.info("dataset %s is ready in %s", self.name, self.data_path)

  def _split_generators(self, dl_manager: Any) -> dict[str, Split]:
    del dl_manager
    return self.splits()

  def _generate_examples(self, split: Split) -> Iterator[tuple[str, dict[str, Any]]]:
    seen: set[str] = set()
    for example in split.examples:
      if example.label not in self.labels:
        raise ValueError(
          f"{example.file}: label {example.label!r} is not one of {', '.join(self.labels)}"
        )
      if example.file in seen:
        raise ValueError(f"{example.file}: two examples of dataset {self.name} have this name")
      if not example.image.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        raise ValueError(f"{example.file}: the image is neither JPEG nor PNG")
      seen.add(example.file)
      row = {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}
      yield example.file, row

  def _generate_splits(self, dl_manager: Any, download_config: Any) -> list[Any]:
    del download_config
    self._found.clear()
    folder = pathlib.Path(self.data_path)  # the temporary one, renamed by TFDS at the end
    with explain_full_disk(folder), BuildReport(folder) as self._report:
      infos, stored = [], {}
      for name, split in self._split_generators(dl_manager).items():
        stored[name] = collections.Counter({label: 0 for label in self.labels})
        watched = show_progress(self._generate_examples(split), f"{self.name} {name}", split.total)
        info = self._write_split(name, watched, folder, stored[name])
        if info.num_examples:
          infos.append(info)
        else:
          index_path(folder, name).unlink()
          self.report(name, "empty_split")
      if not infos:
        problems = self._report.problems() or "No file was listed."
        raise ValueError(f"dataset {self.name}: no usable image was found. {problems}")
      known = compare_counts(self.known_counts(), self._found or stored, stored)
      _write_json(folder / IDENTITY_FILE, identity(type(self), self.config))
      _write_json(
        folder / SUMMARY_FILE,
        {
          "examples": {name: sum(classes.values()) for name, classes in stored.items()},
          "classes": {label: sum(c[label] for c in stored.values()) for label in self.labels},
          "files": self._report.counts,
          "known_counts": known,
        },
      )
    if problems := self._report.problems():
      logger.warning("dataset %s: %s", self.name, problems)
    log_counts(self.name, known)
    return infos

  def _write_split(
    self,
    name: str,
    examples: Iterable[tuple[str, dict[str, Any]]],
    folder: pathlib.Path,
    classes: collections.Counter[str],
  ) -> Any:
    """Streams one split into shards and its index, counts classes; returns a SplitInfo."""
    features = self.info.features
    serializer = tfds.core.example_serializer.ExampleSerializer(features.get_serialized_info())
    writer = ShardWriter(folder, name)
    with writer, index_path(folder, name).open("w", encoding="utf-8") as index:
      for _, row in examples:
        stored = {**row, "image": io.BytesIO(row["image"])}
        writer.write(serializer.serialize_example(features.encode_example(stored)))
        classes[row["label"]] += 1
        row = {**row, "label": self.labels.index(row["label"])}
        del row["image"]
        index.write(json.dumps(row, ensure_ascii=False) + "\n")
    template = self._get_filename_template(split_name=name)
    count = len(writer.paths)
    for number, path in enumerate(writer.paths):
      path.rename(folder / template.relative_filepath(shard_index=number, num_shards=count))
    return tfds.core.SplitInfo(
      name=name,
      shard_lengths=writer.lengths,
      num_bytes=writer.bytes_written,
      filename_template=template,
    )


class _LocalInfo(tfds.core.DatasetInfo):
  """DatasetInfo that does not look for published statistics (and leave empty folders in /tmp)."""

  def initialize_from_bucket(self) -> None:
    """There is nothing published about the user's own data."""


def _is_complete(builder: FaceDataset) -> bool:
  """Whether the dataset is there. TFDS renames its folder into place when all is written."""
  folder = pathlib.Path(builder.data_path)
  if not folder.exists():
    return False
  if not (folder / "dataset_info.json").is_file():
    raise ValueError(f"{folder} is not a complete dataset; delete that folder and try again")
  return True


def _remove_leftovers(folder: pathlib.Path) -> None:
  """Deletes what killed builds left beside `folder`; only called while holding the build lock."""
  for leftover in folder.parent.glob(f"incomplete.*_{folder.name}"):
    logger.info("removing what an interrupted build left: %s", leftover)
    shutil.rmtree(leftover)


def _write_json(path: pathlib.Path, value: Any) -> None:
  path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
