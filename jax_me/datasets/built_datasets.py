"""Listing, lookup and opening of the datasets built under a data_dir."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jax_me.data.labels import normalize_label
from jax_me.datasets.catalog import BUILDERS, builder_class, check_name
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.checksums import SUMMARY_FILE, DamagedDataset, verify_dataset
from jax_me.datasets.generation.fingerprint import FINGERPRINT_FILE, config_of_build, make_options
from jax_me.datasets.generation.options import stored_options
from jax_me.terminal import program_name


@dataclasses.dataclass(frozen=True)
class Build:
  """A complete, incomplete or damaged build of a dataset.

  Attributes:
    name: key of BUILDERS.
    variant: folder name, unique to options, labels and source files.
    folder: folder of the build's files.
    options: its options as JSON values.
    examples: split -> number of examples.
    size: total file size in bytes.
    problem: reason why it cannot be used, "" if it can.
  """

  name: str
  variant: str
  folder: pathlib.Path
  options: Mapping[str, object]
  examples: Mapping[str, int]
  size: int
  problem: str = ""


def list_builds(data_dir: pathlib.Path, name: str | None = None) -> list[Build]:
  """Lists all builds of a dataset (None: of every dataset) under data_dir, in a fixed order.

  Builds by another version of the builder are included, with a `problem`.
  """
  builds = []
  for dataset in sorted(BUILDERS) if name is None else [name]:
    version = str(builder_class(dataset).VERSION)
    for variant in sorted((data_dir / dataset).glob("*/")):
      if variant.name.startswith("."):
        continue
      folders = sorted(folder for folder in variant.glob("*/"))
      builds += [_read_build(dataset, variant.name, folder, version) for folder in folders]
  return builds


def find_build(
  name: str, data_dir: pathlib.Path, options: Mapping[str, object], variant: str | None = None
) -> Build:
  """Finds the only build of a dataset that has the given options.

  Args:
    name: key of BUILDERS.
    data_dir: root folder of built datasets.
    options: some of the builder's options; the others may have any value.
    variant: folder name of the build, or a prefix of it.

  Returns:
    the matching build.

  Raises:
    ValueError: unknown name, no matching build, or several; the message lists them.
    DamagedDataset: the only match is damaged or incomplete.
  """
  check_name(name)
  builds = list_builds(data_dir, name)
  wanted = json.loads(json.dumps(dict(options)))
  matching = [
    build
    for build in builds
    if build.variant.startswith(variant or "")
    and (build.problem or all(_has_option(build, key, value) for key, value in wanted.items()))
  ]
  usable = [build for build in matching if not build.problem]
  if len(usable) == 1:
    return usable[0]
  if usable:
    listed = "\n".join(f"  {build.variant}" for build in usable)
    raise ValueError(
      f"dataset {name}: {len(usable)} builds in {data_dir} match; give options or --variant:\n"
      f"{listed}"
    )
  if matching:
    raise DamagedDataset(f"{matching[0].folder}: {matching[0].problem}")
  others = f"; existing builds: {', '.join(build.variant for build in builds)}" if builds else ""
  condition = " with these options" if builds else ""
  raise ValueError(
    f"dataset {name} is not built{condition} in {data_dir}{others}. Build it with "
    f"{program_name()} data build {name}"
  )


def _has_option(build: Build, key: str, value: object) -> bool:
  built = build.options.get(key)
  if key == "labels" and isinstance(built, list) and isinstance(value, list) and built and value:
    # Builds of version 0.1 may spell them "half_smile" instead of "half smile".
    return [*map(normalize_label, built)] == [*map(normalize_label, value)]
  return built == value


def open_build(build: Build) -> FaceDataset:
  """Opens a build as a TFDS builder.

  Raises:
    DamagedDataset: the build's files cannot be read.
  """
  cls = builder_class(build.name)
  verify_dataset(build.folder)
  try:
    record = json.loads((build.folder / FINGERPRINT_FILE).read_text(encoding="utf-8"))
    config = config_of_build(cls, build.variant, record)
    return cls(data_dir=build.folder.parents[2], config=config)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedDataset(f"{build.folder} is damaged ({error}); {_remedy(build.folder)}") from error


def _read_build(name: str, variant: str, folder: pathlib.Path, version: str) -> Build:
  size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  options: dict[str, Any] = {}
  examples: dict[str, int] = {}
  problem = ""
  if folder.name.startswith("incomplete."):
    problem = "the build was interrupted; repeat the data build command to continue it"
  elif folder.name != version:
    problem = f"built with version {folder.name}, current version {version}; build it again"
  else:
    try:
      record = json.loads((folder / FINGERPRINT_FILE).read_text(encoding="utf-8"))
      options = stored_options(
        make_options(builder_class(name), record["options"]), record["options"]
      )
      summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
      examples = {split: int(number) for split, number in summary["examples"].items()}
      json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
      problem = f"damaged ({error}); {_remedy(folder)}"
  return Build(name, variant, folder, options, examples, size, problem)


def _remedy(folder: pathlib.Path) -> str:
  return f"delete {folder} and build it again"
