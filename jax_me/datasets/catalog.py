"""The datasets that jax_me can build: name -> where its TFDS builder class stands.

The classes are named by text and imported when asked for, so that listing them costs nothing.
"""

import importlib
import typing
from typing import Any

if typing.TYPE_CHECKING:
  from jax_me.datasets.generation.base_builder import FaceDataset

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


def builder_class(name: str) -> "type[FaceDataset]":
  """The TFDS builder class of a dataset.

  Raises:
    ValueError: no dataset has that name; the message lists the names.
  """
  if name not in BUILDERS:
    raise ValueError(f"unknown dataset {name!r}; known: {', '.join(sorted(BUILDERS))}")
  module, _, attribute = BUILDERS[name].partition(":")
  return getattr(importlib.import_module(module), attribute)


def prepare(
  name: str,
  *,
  data_dir: str,
  manual_dir: str | None = None,
  workers: int | None = None,
  **options: Any,
) -> "FaceDataset":
  """Returns the dataset ready to read; generates it first when it is not there yet.

  Everything that changes the content (options, label names, the files under manual_dir) is part
  of the dataset's folder name, so a changed option or another folder never meets a stale copy.
  Several processes may call this at once: one generates, the others wait for it.

  Args:
    name: key of BUILDERS.
    data_dir: folder where datasets are kept, as in TFDS.
    manual_dir: folder with the user's own files, for datasets that need one. None takes the one
      dataset already generated under data_dir with these options, if there is exactly one.
    workers: processes that read and align images; None takes one a core. Never changes content.
    **options: fields of the builder's `Options`, for example `align=False`.

  Returns:
    a TFDS builder; `.as_data_source("train")` and `jax_me.data.index.read_index` read it.

  Raises:
    ValueError: unknown name or option, unusable manual_dir, or nothing usable in it.
    OSError: data_dir cannot be written, or the disk is full.
  """
  from jax_me.datasets.generation.prepare import prepare_dataset

  return prepare_dataset(
    builder_class(name), data_dir=data_dir, manual_dir=manual_dir, workers=workers, **options
  )
