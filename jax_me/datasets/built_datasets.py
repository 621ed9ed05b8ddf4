"""What datasets can be built, and what has been built under a data_dir."""

import dataclasses
import difflib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from jax_me.data.labels import normalize_label
from jax_me.datasets.catalog import BUILDERS, builder_class
from jax_me.datasets.generation.base_builder import FaceDataset, FaceDatasetConfig
from jax_me.datasets.generation.fingerprint import IDENTITY_FILE, make_options
from jax_me.datasets.generation.generate import SUMMARY_FILE

# Sentences about who may have a dataset and where to ask for it.
TERMS = re.compile(r"licen[cs]e|agreement|request|research|https?://|www\.", re.IGNORECASE)

RECIPE_FLAG, FLAG = "--config.data.manual_dir=", "--manual-dir "


class DamagedDataset(ValueError):
  """A folder of a dataset that cannot be read; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Description:
  """A dataset that can be built.

  Attributes:
    name: key of BUILDERS.
    what: one sentence.
    needs_files: whether it reads the user's files (manual_dir).
    instructions: what manual_dir must hold, "" when nothing.
    terms: sentences about its licence and where to ask for it, "" when none is stated.
    options: names and defaults.
  """

  name: str
  what: str
  needs_files: bool
  instructions: str
  terms: str
  options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Build:
  """A built dataset, or what an interrupted build left.

  Attributes:
    name: key of BUILDERS.
    variant: name of its folder, unique to options, labels and source files.
    folder: where its files lie.
    options: its options as JSON values.
    examples: split -> number of examples.
    size: bytes on the disk.
    problem: why it cannot be used, "" when it can.
  """

  name: str
  variant: str
  folder: pathlib.Path
  options: Mapping[str, Any]
  examples: Mapping[str, int]
  size: int
  problem: str = ""


def check_name(name: str) -> None:
  """Raises ValueError with the nearest names unless a dataset is called so."""
  if name in BUILDERS:
    return
  plain = {re.sub(r"[^a-z0-9]", "", known): known for known in BUILDERS}
  near = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", name.casefold()), plain, n=3)
  hint = f"; did you mean {' or '.join(plain[n] for n in near)}?" if near else ""
  raise ValueError(f"unknown dataset {name!r}{hint} (known: {', '.join(sorted(BUILDERS))})")


def describe(name: str) -> Description:
  """What a dataset is.

  Raises:
    ValueError: unknown name; the message has the nearest.
  """
  check_name(name)
  cls = builder_class(name)
  # They are written for recipes, whose flag has another name than the data command's.
  instructions = (cls.MANUAL_DOWNLOAD_INSTRUCTIONS or "").strip().replace(RECIPE_FLAG, FLAG)
  # What is indented shows files and commands.
  prose = "\n".join(line for line in instructions.splitlines() if not line.startswith(" "))
  description = " ".join(cls.DESCRIPTION.split())
  sentences = [*_sentences(description), *_sentences(" ".join(prose.split()))]
  return Description(
    name=name,
    what=_sentences(description)[0],
    needs_files=cls.MANUAL_DOWNLOAD_INSTRUCTIONS is not None,
    instructions=instructions,
    terms=" ".join(sentence for sentence in sentences if TERMS.search(sentence)),
    options={field.name: field.default for field in dataclasses.fields(cls.Options)},
  )


def list_builds(data_dir: pathlib.Path, name: str | None = None) -> list[Build]:
  """All builds of a dataset (None: of every dataset known here) under data_dir, in a fixed order.

  Builds of another version of a builder are listed too, with that as their problem.
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
  name: str, data_dir: pathlib.Path, options: Mapping[str, Any], variant: str | None = None
) -> Build:
  """The one build of a dataset that has these options, whatever its other options are.

  Args:
    name: key of BUILDERS.
    data_dir: where datasets are kept.
    options: some of the builder's options; empty takes the only build that there is.
    variant: name of its folder, or the beginning of it.

  Raises:
    ValueError: unknown name, nothing built so, or several builds; the message lists them.
    DamagedDataset: the only one is damaged or incomplete.
  """
  check_name(name)
  builds = list_builds(data_dir, name)
  wanted = json.loads(json.dumps(dict(options)))
  fitting = [
    build
    for build in builds
    if build.variant.startswith(variant or "")
    and (build.problem or all(_has_option(build, key, value) for key, value in wanted.items()))
  ]
  whole = [build for build in fitting if not build.problem]
  if len(whole) == 1:
    return whole[0]
  if whole:
    listed = "\n".join(f"  {build.variant}" for build in whole)
    raise ValueError(
      f"dataset {name}: {len(whole)} builds in {data_dir} fit; give options or --variant:\n{listed}"
    )
  if fitting:
    raise DamagedDataset(f"{fitting[0].folder}: {fitting[0].problem}")
  others = f"; built are: {', '.join(build.variant for build in builds)}" if builds else ""
  what = " with these options" if builds else ""
  raise ValueError(
    f"dataset {name} is not built{what} in {data_dir}{others}. Build it with "
    f"python -m jax_me data build {name}"
  )


def _has_option(build: Build, key: str, value: Any) -> bool:
  built = build.options.get(key)
  if key == "labels" and built and value:
    # Builds of version 0.1 may spell them "half_smile" instead of "half smile".
    return [*map(normalize_label, built)] == [*map(normalize_label, value)]
  return built == value


def open_build(build: Build) -> FaceDataset:
  """The TFDS builder that reads a build.

  Raises:
    DamagedDataset: its files cannot be read.
  """
  cls = builder_class(build.name)
  try:
    record = json.loads((build.folder / IDENTITY_FILE).read_text(encoding="utf-8"))
    config = FaceDatasetConfig(
      name=build.variant,
      version=cls.VERSION,
      options=make_options(cls, record["options"]),
      labels=tuple(record["labels"]),
      fingerprint=record["fingerprint"],
    )
    return cls(data_dir=build.folder.parents[2], config=config)
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise DamagedDataset(f"{build.folder} is damaged ({error}); {_remedy(build.folder)}") from error


def _read_build(name: str, variant: str, folder: pathlib.Path, version: str) -> Build:
  size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  options: dict[str, Any] = {}
  examples: dict[str, int] = {}
  problem = ""
  if folder.name.startswith("incomplete."):
    problem = "the build was interrupted; the same data build command goes on with it"
  elif folder.name != version:
    problem = f"version {folder.name} of the dataset, which is {version} now; build it again"
  else:
    try:
      options = dict(json.loads((folder / IDENTITY_FILE).read_text(encoding="utf-8"))["options"])
      summary = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
      examples = {split: int(number) for split, number in summary["examples"].items()}
      json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
      problem = f"damaged ({error}); {_remedy(folder)}"
  return Build(name, variant, folder, options, examples, size, problem)


def _remedy(folder: pathlib.Path) -> str:
  return f"delete {folder} and build it again"


def _sentences(text: str) -> list[str]:
  """Cut where a full stop ends a word and a capital follows, but not after "et al." or "M."."""
  return re.split(r"(?<=[\w)/]{2}\.)(?<!\bal\.)\s+(?=[A-Z])", text)
