"""FER2013 as images in class folders, whose names begin with the release's split.

For example `train/happy/Training_1206.jpg`. The folders above the class do not matter.
"""

import pathlib
from collections.abc import Iterator

from jax_me.data.labels import canonical_label
from jax_me.datasets.fer2013.annotations import EMOTIONS, USAGES
from jax_me.datasets.generation.process_images import SourceImage
from jax_me.datasets.generation.source_files import numeric_key, walk_files
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.faces.image_files import is_image_name


def split_of(name: str) -> str:
  """ "train", "validation" or "test", from the name of an image below manual_dir; "" if it is none.

  Names without a class folder are none either.
  """
  folder, _, file = name.rpartition("/")
  usage = file.partition("_")[0].casefold()
  return USAGES.get(usage, "") if folder and is_image_name(file) else ""


def list_images(folder: pathlib.Path) -> Iterator[tuple[str, SourceImage]]:
  """Yields (split, image) of the images below a folder, by split and number.

  The label is the canonical name of the class folder, known or not.
  """
  names = [name for name in walk_files(folder) if split_of(name)]
  for name in sorted(names, key=lambda name: numeric_key(name.rpartition("/")[2])):
    label = canonical_label(name.split("/")[-2])
    yield split_of(name), SourceImage(name, label)


def unknown_class(image: SourceImage) -> ReportRow | None:
  """The report row of an image in a folder that is no class of FER2013, else None."""
  if image.label in EMOTIONS:
    return None
  return problem(image.file, "bad_row", f"folder {image.label[:20]!r} is no class of FER2013")
