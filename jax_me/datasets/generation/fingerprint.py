"""What makes two builds of a dataset the same: options, label names, source files, version.

All of it is hashed into the name of the dataset's folder and written into it as `identity.json`.
"""

import dataclasses
import difflib
import hashlib
import json
import pathlib
from typing import Any

from jax_me.data.labels import normalize_label
from jax_me.datasets.generation.base_builder import FaceDataset, FaceDatasetConfig

IDENTITY_FILE = "identity.json"


def make_options(cls: type[FaceDataset], given: dict[str, Any]) -> Any:
  """The builder's Options from keywords; a misspelt one raises ValueError with the nearest name."""
  fields = {field.name for field in dataclasses.fields(cls.Options)}
  for name in given:
    if name not in fields:
      near = difflib.get_close_matches(name, fields, n=1)
      hint = f"; did you mean {near[0]!r}?" if near else ""
      known = ", ".join(sorted(fields)) or "none"
      raise ValueError(f"dataset {cls.name} has no option {name!r}{hint} (options: {known})")
  # ml_collections and JSON turn tuples into lists; options must hash.
  return cls.Options(
    **{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
  )


def identity(cls: type[FaceDataset], config: FaceDatasetConfig) -> dict[str, Any]:
  """Everything that the content of a build depends on, as JSON values."""
  record = {
    "builder": cls.name,
    "version": str(cls.VERSION),
    "options": dataclasses.asdict(config.options),
    "labels": list(config.labels),
    "fingerprint": config.fingerprint,
  }
  return json.loads(json.dumps(record))


def identity_hash(cls: type[FaceDataset], config: FaceDatasetConfig) -> str:
  """Twelve hex digits that stand for `identity`."""
  text = json.dumps(identity(cls, config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def find_respelled(
  cls: type[FaceDataset], data_dir: pathlib.Path, config: FaceDatasetConfig
) -> FaceDatasetConfig | None:
  """The config of a build that differs from `config` only in the spelling of label names.

  Version 0.1 stored "half_smile" for what is "half smile" now. Such a build is opened under the
  names that it was built with; everything compares names through `normalize_label`.

  Args:
    cls: the builder.
    data_dir: folder where datasets are kept.
    config: the wanted variant.

  Returns:
    `config` with the name and the labels of the build; None when there is none.
  """
  wanted = sorted(map(normalize_label, config.labels))
  for path in sorted((data_dir / cls.name).glob(f"*/{cls.VERSION}/{IDENTITY_FILE}")):
    record = json.loads(path.read_text(encoding="utf-8"))
    if (
      record["labels"] != list(config.labels)
      and sorted(map(normalize_label, record["labels"])) == wanted
      and record["fingerprint"] == config.fingerprint
      and cls.is_answer(record["options"], config.options)
    ):
      name = path.parent.parent.name
      return dataclasses.replace(config, name=name, labels=tuple(record["labels"]))
  return None


def find_prepared(cls: type[FaceDataset], data_dir: pathlib.Path, options: Any) -> dict[str, Any]:
  """The identity of the one build under data_dir with these options, and its "config_name".

  Raises:
    ValueError: there is none, or more than one (then only manual_dir can tell which is meant).
  """
  found = []
  for path in sorted((data_dir / cls.name).glob(f"*/{cls.VERSION}/{IDENTITY_FILE}")):
    record = json.loads(path.read_text(encoding="utf-8"))
    if record["version"] == str(cls.VERSION) and cls.is_answer(record["options"], options):
      found.append({**record, "config_name": path.parent.parent.name})
  if not found:
    raise ValueError(
      f"dataset {cls.name} needs manual_dir: nothing was built with these options in {data_dir}. "
      f"{cls.MANUAL_DOWNLOAD_INSTRUCTIONS}"
    )
  if len(found) > 1:
    names = ", ".join(record["config_name"] for record in found)
    raise ValueError(
      f"dataset {cls.name}: {len(found)} builds in {data_dir} have these options ({names}); "
      "give manual_dir to say which one"
    )
  return found[0]
