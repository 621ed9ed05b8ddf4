"""File search for AffectNet's releases: label files and image folders below manual_dir.

Copies are nested differently (doubled folders, one level more or less), so folders are recognised
by their content. Image folders are not searched.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterator

from jax_me.datasets.generation.source_files import describe_missing, walk_folders
from jax_me.faces.image_files import is_image_name

RELEASES = ("csv", "npy", "plus")
SPLITS = ("train", "validation")
LABEL_SUFFIXES = {"npy": "_exp.npy", "plus": ".json"}

_LABEL_FILES = {"training.csv": "train", "validation.csv": "validation"}
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
AffectNet is available to research groups on request: send the licence form from
http://mohammadmahoor.com/affectnet/. Unpack the files below one folder and pass that folder:
  --config.data.manual_dir=FOLDER
The files may be nested a few folders deep, in the layout of one of the releases:
  csv (2017)    training.csv, validation.csv and Manually_Annotated_Images/<number>/<name>.<ending>
  npy (2021)    train_set/ and val_set/, each with images/<id>.jpg and annotations/<id>_exp.npy
  plus          train_set/ and validation_set/, each with images/<id>.jpg and annotations/<id>.json
To try the recipe on synthetic faces, without AffectNet:
  python run.py --config configs/mae_affectnet.py:demo"""

# FOLDER/AffectNet+/human_annotated/train_set, plus one level above and one doubled folder.
_MAX_DEPTH = 5


@dataclasses.dataclass(frozen=True)
class ReleaseSplit:
  """One split of one release.

  Attributes:
    release: "csv", "npy" or "plus".
    split: "train" or "validation".
    labels: the csv file of the csv release, else the folder of annotation files.
    images: folders that may hold the images; for csv, those with numbered subfolders.
  """

  release: str
  split: str
  labels: pathlib.Path
  images: tuple[pathlib.Path, ...]


def find_release(folder: pathlib.Path, wanted: str) -> tuple[ReleaseSplit, ...]:
  """Finds the splits of one release, "train" first.

  Args:
    folder: where to look.
    wanted: one of RELEASES, or "auto" for the only one below the folder.

  Raises:
    ValueError: no such release, several releases, or several copies of a split.
  """
  found = [split for split in _find_splits(folder) if wanted in ("auto", split.release)]
  releases = sorted({split.release for split in found})
  if not releases:
    what = "AffectNet" if wanted == "auto" else f"AffectNet's release {wanted!r}"
    raise ValueError(describe_missing(folder, what, hint="affectnet") + INSTRUCTIONS)
  if len(releases) > 1:
    raise ValueError(
      f"manual_dir {folder} holds the releases {' and '.join(releases)} of AffectNet; choose one "
      f"with the option release (--config.data.options.release={releases[0]})."
    )
  for name in SPLITS:
    copies = [str(split.labels) for split in found if split.split == name]
    if len(copies) > 1:
      raise ValueError(
        f"manual_dir {folder} holds the split {name} more than once ({', '.join(copies)}); give "
        "the folder of one copy."
      )
  for split in found:
    if not split.images:
      raise ValueError(
        f"{split.labels} was found in manual_dir {folder}, but no folder of images "
        "(Manually_Annotated_Images with its numbered folders)."
      )
  return tuple(sorted(found, key=lambda split: SPLITS.index(split.split)))


def fingerprint(splits: tuple[ReleaseSplit, ...]) -> str:
  """Hash of the names of labels and images, and of the csv files' sizes and modification times.

  Image sizes and times are left out: stat calls on a network disk would take minutes per start.
  """
  digest = hashlib.sha256()
  for split in splits:
    digest.update(f"{split.release} {split.split}\n".encode())
    if split.release == "csv":
      status = split.labels.stat()
      digest.update(f"{status.st_size} {status.st_mtime_ns}\n".encode())
    else:
      _hash_names(digest, split.labels, LABEL_SUFFIXES[split.release])
    for root in split.images:
      folders = list(_numbered_folders(root)) if split.release == "csv" else [root]
      for folder in folders:
        _hash_names(digest, folder)
  return digest.hexdigest()


def _hash_names(digest: "hashlib._Hash", folder: pathlib.Path, suffix: str = "") -> None:
  digest.update(f"{folder.name}/\n".encode("utf-8", "surrogateescape"))
  wanted = (lambda name: name.lower().endswith(suffix)) if suffix else is_image_name
  names = sorted(name for name in os.listdir(folder) if wanted(name))
  digest.update("\n".join(names).encode("utf-8", "surrogateescape"))


def _numbered_folders(root: pathlib.Path) -> Iterator[pathlib.Path]:
  with os.scandir(root) as entries:
    names = sorted(entry.name for entry in entries if entry.name.isdigit() and entry.is_dir())
  yield from (root / name for name in names)


def _find_splits(top: pathlib.Path) -> list[ReleaseSplit]:
  label_files: list[tuple[str, pathlib.Path]] = []
  image_roots: list[pathlib.Path] = []
  splits: list[ReleaseSplit] = []
  for folder, files, subfolders in walk_folders(top, depth=_MAX_DEPTH, enter=_may_hold_release):
    label_files += [
      (_LABEL_FILES[name.lower()], folder / name) for name in files if name.lower() in _LABEL_FILES
    ]
    if any(name.isdigit() for name in subfolders):
      image_roots.append(folder)
    by_name = {name.lower(): folder / name for name in subfolders}
    if "images" in by_name and "annotations" in by_name:
      split = _split_from_path(folder, top)
      release = _release_of(by_name["annotations"])
      if split and release:
        splits.append(ReleaseSplit(release, split, by_name["annotations"], (by_name["images"],)))
  splits += [ReleaseSplit("csv", split, path, tuple(image_roots)) for split, path in label_files]
  return splits


def _may_hold_release(name: str) -> bool:
  return not name.isdigit() and name.lower() not in ("images", "annotations")


def _split_from_path(path: pathlib.Path, top: pathlib.Path) -> str | None:
  """The split named by `path` or by its nearest parent up to `top`."""
  for folder in (path, *path.parents):
    if split := _SPLIT_FOLDERS.get(folder.name.lower()):
      return split
    if folder == top:
      break
  return None


def _release_of(annotations: pathlib.Path) -> str | None:
  with os.scandir(annotations) as entries:
    for entry in entries:
      for release, suffix in LABEL_SUFFIXES.items():
        if entry.name.lower().endswith(suffix) and not entry.name.startswith("."):
          return release
  return None
