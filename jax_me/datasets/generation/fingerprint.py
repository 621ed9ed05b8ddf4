"""Fingerprint of a build: hash of its options, label names, source files and builder version.

It is part of the name of the dataset's folder, and its content is stored there as `identity.json`.
"""

import dataclasses
import difflib
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any, cast

from jax_me.datasets.generation.base_builder import FaceDataset, FaceDatasetConfig, OptionsT
from jax_me.datasets.generation.options import stored_options

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


def find_builds(
  cls: type[FaceDataset[OptionsT]],
  data_dir: pathlib.Path,
  options: OptionsT,
  *,
  earlier: bool = False,
) -> list[FaceDatasetConfig]:
  """Finds the finished builds of the current version with the given options.

  Args:
    cls: the builder.
    data_dir: folder where datasets are kept.
    options: the wanted options.
    earlier: find only those of version 0.1, which had no option `detector`; their detector may
      differ from the wanted one.

  Returns:
    The configs that open them.
  """
  found = []
  for path in sorted((data_dir / cls.name).glob(f"*/{cls.VERSION}/{FINGERPRINT_FILE}")):
    record = json.loads(path.read_text(encoding="utf-8"))
    built = record["options"]
    if earlier and "detector" not in built and hasattr(options, "detector"):
      built = {**built, "detector": options.detector}
    elif earlier:
      continue
    if cls.matches_options(built, options):
      found.append(config_of_build(cls, path.parent.parent.name, record))
  return found


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
  options = make_options(cls, record["options"])
  return FaceDatasetConfig(
    name=variant,
    version=cls.VERSION,
    options=make_options(cls, stored_options(options, record["options"])),
    labels=tuple(record["labels"]),
    fingerprint=record["fingerprint"],
  )
