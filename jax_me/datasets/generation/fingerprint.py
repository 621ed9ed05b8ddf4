"""Fingerprint of a build: hash of its options, label names, source files and builder version.

It is part of the name of the dataset's folder, and its content is stored there as `identity.json`.
"""

import dataclasses
import difflib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, cast

from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.base_builder import FaceDataset, FaceDatasetConfig, OptionsT

FINGERPRINT_FILE = "identity.json"


def make_options(cls: type[FaceDataset[OptionsT]], given: Mapping[str, object]) -> OptionsT:
  """Returns the builder's Options from keywords.

  Raises:
    ValueError: an unknown option (the message names the nearest), or a value that is not allowed.
  """
  fields = {field.name for field in dataclasses.fields(cls.Options)}
  for name in given:
    if name not in fields:
      near = difflib.get_close_matches(name, fields, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else ""
      known = ", ".join(sorted(fields)) or "none"
      raise ValueError(f"dataset {cls.name} has no option {name!r}{hint} (options: {known})")
  # ml_collections and JSON turn tuples into lists, but options must be hashable.
  values = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
  return cast(OptionsT, cls.Options(**values))


def build_fingerprint(cls: type[FaceDataset], config: FaceDatasetConfig) -> dict[str, Any]:
  """Everything that the content of a build depends on, as JSON values."""
  record = {
    "builder": cls.name,
    "version": str(cls.VERSION),
    "options": dataclasses.asdict(config.options),
    "labels": list(config.labels),
    "fingerprint": config.fingerprint,
  }
  return json.loads(json.dumps(record))


def fingerprint_hash(cls: type[FaceDataset], config: FaceDatasetConfig) -> str:
  """First twelve hex digits of the SHA-256 hash of `build_fingerprint`."""
  text = json.dumps(build_fingerprint(cls, config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_respelled(
  cls: type[FaceDataset], data_dir: pathlib.Path, config: FaceDatasetConfig
) -> FaceDatasetConfig | None:
  """Finds a build that differs from `config` only in the spelling of its label names.

  Version 0.1 stored "half_smile" for what is "half smile" now. Such a build is opened with the
  names that it was built with; all comparisons of names go through `normalize_label`.

  Args:
    cls: the builder.
    data_dir: folder where datasets are kept.
    config: the wanted variant.

  Returns:
    `config` with the name and the labels of the build; None when there is none.
  """
  wanted = sorted(map(normalize_label, config.labels))
  for variant, record in _read_builds(cls, data_dir):
    if (
      record["labels"] != list(config.labels)
      and sorted(map(normalize_label, record["labels"])) == wanted
      and record["fingerprint"] == config.fingerprint
      and cls.matches_options(record["options"], config.options)
    ):
      found = dataclasses.replace(config, labels=tuple(record["labels"]))
      found.name = variant
      return found
  return None


def find_prepared(
  cls: type[FaceDataset[OptionsT]], data_dir: pathlib.Path, options: OptionsT
) -> FaceDatasetConfig:
  """Finds the one build with the given options, for use without the source files.

  Args:
    cls: the builder.
    data_dir: folder where datasets are kept.
    options: the wanted options.

  Returns:
    The config of the build.

  Raises:
    ValueError: there is none, or more than one (then manual_dir must select it).
  """
  found = []
  for variant, record in _read_builds(cls, data_dir):
    if record["version"] == str(cls.VERSION) and cls.matches_options(record["options"], options):
      found.append(config_of_build(cls, variant, record))
  if not found:
    raise ValueError(
      f"dataset {cls.name} needs manual_dir: nothing was built with these options in {data_dir}. "
      f"{cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  if len(found) > 1:
    names = ", ".join(str(config.name) for config in found)
    raise ValueError(
      f"dataset {cls.name}: {len(found)} builds in {data_dir} have these options ({names}); "
      "give manual_dir to select one"
    )
  return found[0]


def _read_builds(
  cls: type[FaceDataset], data_dir: pathlib.Path
) -> Iterator[tuple[str, dict[str, Any]]]:
  """Yields folder name and fingerprint of each finished build of the current version."""
  for path in sorted((data_dir / cls.name).glob(f"*/{cls.VERSION}/{FINGERPRINT_FILE}")):
    yield path.parent.parent.name, json.loads(path.read_text(encoding="utf-8"))


def config_of_build(
  cls: type[FaceDataset], variant: str, record: Mapping[str, Any]
) -> FaceDatasetConfig:
  """Returns the config that opens a finished build.

  Args:
    cls: the builder.
    variant: name of the build's folder.
    record: content of its `identity.json`.

  Returns:
    The config.

  Raises:
    ValueError: an option that the builder does not have.
    KeyError: the record is incomplete.
  """
  return FaceDatasetConfig(
    name=variant,
    version=cls.VERSION,
    options=make_options(cls, record["options"]),
    labels=tuple(record["labels"]),
    fingerprint=record["fingerprint"],
  )
