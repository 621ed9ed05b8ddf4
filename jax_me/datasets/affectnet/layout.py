"""Where AffectNet's files lie below a folder: which release, its lists and its images.

Copies are nested in every way (doubled folders, a folder more or less above), so the folders are
searched for by what they hold. Folders of images are not looked into while searching.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator

from jax_me.faces.image_files import is_image_name

RELEASES = ("csv", "npy", "plus")
SPLITS = ("train", "validation")
LABEL_ENDINGS = {"npy": "_exp.npy", "plus": ".json"}

_LISTS = {"training.csv": "train", "validation.csv": "validation"}
_SPLIT_FOLDERS = {
  "train_set": "train",
  "training_set": "train",
  "train": "train",
  "training": "train",
  "val_set": "validation",
  "validation_set": "validation",
  "val": "validation",
  "valid": "validation",
  "validation": "validation",
}
INSTRUCTIONS = """
AffectNet is given to research groups on request: see http://mohammadmahoor.com/affectnet/ and send
its licence form. Unpack what you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It may be nested a few folders deep, in one of the forms in which it is given:
  csv (2017)    training.csv, validation.csv and Manually_Annotated_Images/<number>/<name>.<ending>
  npy (2021)    train_set/ and val_set/, each with images/<id>.jpg and annotations/<id>_exp.npy
  plus          train_set/ and validation_set/, each with images/<id>.jpg and annotations/<id>.json
To try the recipe without AffectNet, on synthetic faces:
  python run.py --config configs/mae_affectnet.py:demo"""

# FOLDER/AffectNet+/human_annotated/train_set, with one more above and one doubled.
_MAX_DEPTH = 5
_SHOWN_NAMES = 5


@dataclasses.dataclass(frozen=True)
class Part:
  """One split of one release.

  Attributes:
    release: "csv", "npy" or "plus".
    split: "train" or "validation".
    labels: the list of the csv release, else the folder of annotations.
    images: folders in which the images may be; for csv, those that hold numbered folders.
  """

  release: str
  split: str
  labels: pathlib.Path
  images: tuple[pathlib.Path, ...]


def find_release(folder: pathlib.Path, wanted: str) -> tuple[Part, ...]:
  """The splits of one release below a folder, train first.

  Args:
    folder: where to look.
    wanted: one of RELEASES, or "auto" for the only one that is there.

  Raises:
    ValueError: there is none, not that one, more than one, or a split twice.
  """
  parts = [part for part in _find_parts(folder) if wanted in ("auto", part.release)]
  releases = sorted({part.release for part in parts})
  if not releases:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    more = ", ..." if len(names) > _SHOWN_NAMES else ""
    held = f"it holds {', '.join(names[:_SHOWN_NAMES])}{more}" if names else "it is empty"
    what = "AffectNet" if wanted == "auto" else f"AffectNet's release {wanted!r}"
    raise ValueError(f"manual_dir {folder} holds no {what} ({held}).{INSTRUCTIONS}")
  if len(releases) > 1:
    raise ValueError(
      f"manual_dir {folder} holds the releases {' and '.join(releases)} of AffectNet; choose one "
      f"with the option release (--config.data.options.release={releases[0]})."
    )
  for split in SPLITS:
    places = [str(part.labels) for part in parts if part.split == split]
    if len(places) > 1:
      raise ValueError(
        f"manual_dir {folder} holds the split {split} more than once ({', '.join(places)}); give "
        "the folder of one copy."
      )
  for part in parts:
    if not part.images:
      raise ValueError(
        f"{part.labels} was found in manual_dir {folder}, but no folder of images "
        "(Manually_Annotated_Images with its numbered folders)."
      )
  return tuple(sorted(parts, key=lambda part: SPLITS.index(part.split)))


def fingerprint(parts: tuple[Part, ...]) -> str:
  """Hash of all names of labels and images, and of the lists' sizes and times.

  Images are not asked for size and time: on a network disk that takes minutes at every start.
  """
  digest = hashlib.sha256()
  for part in parts:
    digest.update(f"{part.release} {part.split}\n".encode())
    if part.release == "csv":
      status = part.labels.stat()
      digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    else:
      _hash_names(digest, part.labels, LABEL_ENDINGS[part.release])
    for root in part.images:
      folders = list(_numbered_folders(root)) if part.release == "csv" else [root]
      for folder in folders:
        _hash_names(digest, folder)
  return digest.hexdigest()


def _hash_names(digest: "hashlib._Hash", folder: pathlib.Path, ending: str = "") -> None:
  digest.update(f"{folder.name}/\n".encode("utf-8", "surrogateescape"))
  wanted = (lambda name: name.lower().endswith(ending)) if ending else is_image_name
  names = sorted(name for name in os.listdir(folder) if wanted(name))
  digest.update("\n".join(names).encode("utf-8", "surrogateescape"))


def _numbered_folders(root: pathlib.Path) -> Iterator[pathlib.Path]:
  with os.scandir(root) as entries:
    names = sorted(entry.name for entry in entries if entry.name.isdigit() and entry.is_dir())
  yield from (root / name for name in names)


def _find_parts(folder: pathlib.Path) -> list[Part]:
  lists: list[tuple[str, pathlib.Path]] = []
  roots: list[pathlib.Path] = []
  parts: list[Part] = []
  for place, files, folders in _walk(folder):
    lists += [(_LISTS[name.lower()], place / name) for name in files if name.lower() in _LISTS]
    if any(name.isdigit() for name in folders):
      roots.append(place)
    lower = {name.lower(): place / name for name in folders}
    if "images" in lower and "annotations" in lower:
      split = _split_of(place, folder)
      release = _release_of(lower["annotations"])
      if split and release:
        parts.append(Part(release, split, lower["annotations"], (lower["images"],)))
  parts += [Part("csv", split, path, tuple(roots)) for split, path in lists]
  return parts


def _walk(folder: pathlib.Path) -> Iterator[tuple[pathlib.Path, list[str], list[str]]]:
  """(folder, files, folders) from the top down; not into images, annotations, numbered folders."""
  seen: set[str] = set()
  level = [folder]
  for _ in range(_MAX_DEPTH + 1):
    below: list[pathlib.Path] = []
    for place in level:
      real = os.path.realpath(place)
      if real in seen:  # a link that leads back
        continue
      seen.add(real)
      files: list[str] = []
      folders: list[str] = []
      try:
        with os.scandir(place) as entries:
          for entry in entries:
            if not entry.name.startswith("."):
              (folders if entry.is_dir() else files).append(entry.name)
      except OSError:  # not ours to read: then AffectNet is not in there
        continue
      yield place, sorted(files), sorted(folders)
      below += [
        place / name
        for name in sorted(folders)
        if not name.isdigit() and name.lower() not in ("images", "annotations")
      ]
    level = below


def _split_of(place: pathlib.Path, top: pathlib.Path) -> str | None:
  """The split that the nearest telling folder name means, from `place` up to `top`."""
  for folder in (place, *place.parents):
    if split := _SPLIT_FOLDERS.get(folder.name.lower()):
      return split
    if folder == top:
      break
  return None


def _release_of(annotations: pathlib.Path) -> str | None:
  with os.scandir(annotations) as entries:
    for entry in entries:
      for release, ending in LABEL_ENDINGS.items():
        if entry.name.lower().endswith(ending) and not entry.name.startswith("."):
          return release
  return None
