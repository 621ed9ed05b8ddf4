"""Catalog of the datasets that jax_me can build: names, builder classes and descriptions.

Builder modules are imported on demand, so that listing the names imports none of them.
"""

import dataclasses
import difflib
import importlib
import re
import typing
from collections.abc import Mapping
from typing import Any

if typing.TYPE_CHECKING:
  from jax_me.datasets.generation.base_builder import FaceDataset

# Dataset name -> "module:class" of its TFDS builder.
BUILDERS: dict[str, str] = {
  "affectnet": "jax_me.datasets.affectnet.builder:AffectNet",
  "casme2": "jax_me.datasets.micro.casme2:Casme2",
  "casme3": "jax_me.datasets.micro.casme3:Casme3",
  "ck_plus": "jax_me.datasets.ck_plus.builder:CkPlus",
  "demo_clips": "jax_me.datasets.synthetic.builder:DemoClips",
  "fer2013": "jax_me.datasets.fer2013.builder:Fer2013",
  "ferplus": "jax_me.datasets.ferplus.builder:FerPlus",
  "jaffe": "jax_me.datasets.jaffe:Jaffe",
  "labeled_images": "jax_me.datasets.labeled_folder.builder:LabeledImages",
  "megc2019": "jax_me.datasets.micro.megc2019:Megc2019",
  "mmew": "jax_me.datasets.micro.mmew:Mmew",
  "raf_db": "jax_me.datasets.raf_db.builder:RafDb",
  "samm": "jax_me.datasets.micro.samm:Samm",
  "smic": "jax_me.datasets.micro.smic:Smic",
}


# Matches sentences about the licence of a dataset and how to obtain it.
TERMS = re.compile(r"licen[cs]e|agreement|request|research|https?://|www\.", re.IGNORECASE)

# The same argument as a config override of recipes and as a flag of the data command.
CONFIG_OVERRIDE, DATA_FLAG = "--config.data.manual_dir=", "--manual-dir "


@dataclasses.dataclass(frozen=True)
class Description:
  """Description of a dataset that can be built.

  Attributes:
    name: key of BUILDERS.
    summary: one sentence.
    needs_files: whether it reads the user's files (manual_dir).
    instructions: required content of manual_dir, "" if none is read.
    terms: sentences about its licence and how to obtain it, "" if none are stated.
    options: names and defaults.
  """

  name: str
  summary: str
  needs_files: bool
  instructions: str
  terms: str
  options: Mapping[str, object]


def check_name(name: str) -> None:
  """Raises ValueError, with the most similar names, unless a dataset has this name."""
  if name in BUILDERS:
    return
  plain = {re.sub(r"[^a-z0-9]", "", known): known for known in BUILDERS}
  similar = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", name.casefold()), plain, n=3)
  hint = f"; did you mean {' or '.join(plain[match] for match in similar)}?" if similar else ""
  raise ValueError(f"unknown dataset {name!r}{hint} (known: {', '.join(sorted(BUILDERS))})")


def builder_class(name: str) -> "type[FaceDataset]":
  """Imports the TFDS builder class of a dataset.

  Raises:
    ValueError: unknown name; the message lists the names.
  """
  check_name(name)
  module, _, attribute = BUILDERS[name].partition(":")
  return getattr(importlib.import_module(module), attribute)


def describe(name: str) -> Description:
  """Describes a dataset, from the texts and options of its builder class.

  Raises:
    ValueError: unknown name; the message lists the names.
  """
  cls = builder_class(name)
  # The instructions name the config override, which is a flag of the data command here.
  instructions = (cls.MANUAL_DOWNLOAD_INSTRUCTIONS or "").strip()
  instructions = instructions.replace(CONFIG_OVERRIDE, DATA_FLAG)
  # Indented lines are files and commands, not sentences; a colon before them ends a sentence.
  prose = re.sub(r":\n(?= )", ".\n", instructions)
  prose = "\n".join(line for line in prose.splitlines() if not line.startswith(" "))
  description = " ".join(cls.DESCRIPTION.split())
  sentences = [*_split_sentences(description), *_split_sentences(" ".join(prose.split()))]
  return Description(
    name=name,
    summary=_split_sentences(description)[0],
    needs_files=cls.MANUAL_DOWNLOAD_INSTRUCTIONS is not None,
    instructions=instructions,
    terms=" ".join(sentence for sentence in sentences if TERMS.search(sentence)),
    options={field.name: field.default for field in dataclasses.fields(cls.Options)},
  )


def _split_sentences(text: str) -> list[str]:
  """Splits after a full stop that ends a word before a capital, except after "et al." or "M."."""
  return re.split(r"(?<=[\w)/]{2}\.)(?<!\bal\.)\s+(?=[A-Z])", text)


def prepare(
  name: str,
  *,
  data_dir: str,
  manual_dir: str | None = None,
  workers: int | None = None,
  follow_links: bool = False,
  **options: Any,
) -> "FaceDataset":
  """Returns a dataset that is ready to read, and builds it first if necessary.

  Everything that changes the content (options, label names, the files under manual_dir) is hashed
  into the dataset's folder name, so that a change never reads an outdated build. Concurrent calls
  are safe: one process builds, the others wait.

  Args:
    name: key of BUILDERS.
    data_dir: root folder of built datasets, as in TFDS.
    manual_dir: folder with the user's own files, for datasets that need one. None opens the build
      with these options under data_dir, if there is exactly one.
    workers: processes that read and align images; None uses one per core. The content does not
      depend on it.
    follow_links: whether links below manual_dir that leave it are followed.
    **options: fields of the builder's `Options`, for example `align=False`.

  Returns:
    a TFDS builder; `.as_data_source("train")` and `jax_me.data.index.read_index` read it.

  Raises:
    ValueError: unknown name or option, invalid manual_dir, or no usable image in it.
    OSError: data_dir is not writable, or the disk is full.
  """
  from jax_me.datasets.generation.prepare import prepare_dataset

  return prepare_dataset(
    builder_class(name),
    data_dir=data_dir,
    manual_dir=manual_dir,
    workers=workers,
    follow_links=follow_links,
    **options,
  )
