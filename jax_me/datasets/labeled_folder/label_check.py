"""Check of the labels and people of a folder for training, before anything is built."""

import collections
import difflib
import pathlib
from collections.abc import Sequence

from jax_me.data.labels import normalize_label
from jax_me.datasets.labeled_folder.annotations import FolderImage, list_folder

# Similarity (`difflib`) from which a rare label may be a misspelling: hapy and happy have 0.89.
SIMILAR = 0.75


def check_labels(
  folder: pathlib.Path, *, labels: Sequence[str] = (), people: int = 0, allow_rare: bool = False
) -> list[FolderImage]:
  """Checks that a classifier can be trained and tested on a folder.

  Args:
    folder: of the images; see `annotations.LAYOUTS`.
    labels: the classes to use, if they are given; then no label is taken for a misspelling.
    people: number of subjects that the split needs, where they are known.
    allow_rare: accepts a label that occurs once beside a similar one.

  Returns:
    the images of these classes.

  Raises:
    ValueError: there is one class, too few people, or a label that may be a misspelling.
  """
  chosen = {normalize_label(label) for label in labels}
  images = [image for image in list_folder(folder)[0] if not chosen or image.label in chosen]
  classes = sorted({image.label for image in images})
  if len(classes) < 2:
    raise ValueError(
      f"manual_dir {folder} has one class only ({''.join(classes) or 'none'}), and a classifier "
      "needs two. Give images of another expression, or pre-train without labels "
      "(configs/mae_images.py)"
    )
  subjects = sorted({(image.database, image.subject) for image in images if image.subject})
  if 0 < len(subjects) < people:
    count = "one person" if len(subjects) == 1 else f"{len(subjects)} people"
    raise ValueError(
      f"manual_dir {folder} has images of {count} only, and the split needs {people}, to test on "
      "other people than those of the training. Give more people, fewer folds "
      "(--config.data.folds), or train without a test (--config.data.split=none)"
    )
  if not chosen and not allow_rare:
    _check_rare(folder, images)
  return images


def _check_rare(folder: pathlib.Path, images: Sequence[FolderImage]) -> None:
  """Raises ValueError for a label of one photograph or clip that is similar to a frequent one."""
  places: dict[str, dict[tuple[str, ...], str]] = collections.defaultdict(dict)
  for image in images:
    place = (image.database, image.subject, image.clip or image.file)
    places[image.label].setdefault(place, image.file)
  frequent = [label for label, found in places.items() if len(found) > 1]
  for label, found in sorted(places.items()):
    near = difflib.get_close_matches(label, frequent, n=1, cutoff=SIMILAR)
    if len(found) == 1 and near:
      (file,) = found.values()
      raise ValueError(
        f"manual_dir {folder}: the label {label!r} occurs once ({file}), beside "
        f"{len(places[near[0]])} times {near[0]!r}. Correct it, name the classes "
        f"(--labels {','.join(sorted(frequent))}), or keep it (--allow-rare-labels)"
      )
