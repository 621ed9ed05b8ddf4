"""Search for the frames and tables of CAS(ME)3 below a folder.

Part A comes in two forms: whole recordings, `part_A/spNO.1/a/color/175.jpg`, and
`Part_A_ME_clip/frame/spNo.1_a_355/355.jpg`, cut to the expressions (subject, recording, onset).
Part C comes as recordings, `part_C/01/a/color/373.jpg`. Letter case differs between and
within the tables and the folders. A recording is listed only when it is requested: there are
millions of frames.
"""

import collections
import os
import pathlib
import re

from jax_me.datasets.generation.source_files import walk_folders
from jax_me.datasets.micro.clip_layout import TABLE_SUFFIXES, FolderTree
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number

PARTS = ("A", "C")

_SUBJECT = {
  "A": re.compile(r"sp_?no\.?_?(\d+)", re.IGNORECASE),
  "C": re.compile(r"(\d{1,3})", re.IGNORECASE),
}
_CLIP = re.compile(r"sp_?no\.?_?(\d+)_([a-z]+)_(\d+)", re.IGNORECASE)
# Never searched. The folder "exception" holds tables of frames with known errors.
_EXCLUDED = re.compile(r"depth|video|color|exception|__macosx", re.IGNORECASE)
_DEPTH = 6


def subject_name(part: str, cell: object) -> str | None:
  """ "spNO.1" from "spNo.1" in part A, "01" from 1 in part C; None from anything else."""
  match = _SUBJECT[part].fullmatch(str(cell).strip())
  if not match:
    return None
  return f"spNO.{int(match[1])}" if part == "A" else f"{int(match[1]):02d}"


class Casme3Layout:
  """One part of the dataset below a folder; frames are listed on request.

  Attributes:
    tree: the folder with the names of its tables; its folders are not listed.
    has_frames: whether there is any clip or recording.
  """

  def __init__(self, top: pathlib.Path, part: str):
    self._clips: dict[tuple[str, str, int], list[pathlib.Path]] = collections.defaultdict(list)
    self._subjects: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    # Cache of the last folder only: rows of one recording are adjacent, and all recordings together
    # have millions of frames.
    self._listed: tuple[pathlib.Path, dict[int, str]] | None = None
    self._top = top
    excluded = (_EXCLUDED, _CLIP, _SUBJECT["A"], _SUBJECT[part])
    tables = []

    def is_searched(name: str) -> bool:
      return not any(pattern.fullmatch(name) for pattern in excluded)

    for parent, files, folders in walk_folders(top, depth=_DEPTH, enter=is_searched):
      tables += [
        (parent / name).relative_to(top).as_posix()
        for name in files
        if name.lower().endswith(TABLE_SUFFIXES) and not name.startswith("~$")
      ]
      for name in folders:
        if part == "A" and (match := _CLIP.fullmatch(name)):
          key = (f"spNO.{int(match[1])}", match[2].lower(), int(match[3]))
          self._clips[key].append(parent / name)
        elif (subject := subject_name(part, name)) is not None:
          self._subjects[subject].append(parent / name)
    self.tree = FolderTree(top, (), tuple(tables))
    self.has_frames = bool(self._clips or self._subjects)

  def frames(self, subject: str, recording: str, onset: int) -> dict[int, str]:
    """Returns the frames of a cut clip if there is one, else of the whole recording.

    Args:
      subject: as returned by `subject_name`.
      recording: its letter.
      onset: as annotated; part of the names of cut clips.

    Returns:
      Frame number -> path below the folder, ascending; empty when nothing was found.

    Raises:
      ValueError: the clip was found more than once.
    """
    found = self._clips.get((subject, recording.lower(), onset))
    if not found:
      parents = self._subjects.get(subject, ())
      recordings = [path for parent in parents if (path := _find_child(parent, recording))]
      # Depth maps may be in a separate tree.
      found = [
        path for parent in recordings if (path := _find_child(parent, "color"))
      ] or recordings
    if not found:
      return {}
    if len(found) > 1:
      paths = " and ".join(str(folder.relative_to(self._top)) for folder in found[:2])
      raise ValueError(
        f"manual_dir {self._top} holds a clip twice: {paths}; give one copy's folder"
      )
    if self._listed is None or self._listed[0] != found[0]:
      self._listed = (found[0], _list_frames(found[0], self._top))
    return self._listed[1]


def _find_child(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """Finds a folder by its name: in the same letter case if possible, else in any."""
  with os.scandir(folder) as entries:
    names = sorted(e.name for e in entries if e.name.casefold() == name.casefold() and e.is_dir())
  return folder / (name if name in names else names[0]) if names else None


def _list_frames(folder: pathlib.Path, top: pathlib.Path) -> dict[int, str]:
  parent = folder.relative_to(top).as_posix()
  frames: dict[int, str] = {}
  for name in sorted(os.listdir(folder)):
    number = frame_number(name) if is_image_name(name) else None
    if number is not None and not name.startswith("."):
      frames.setdefault(number, f"{parent}/{name}")
  return dict(sorted(frames.items()))
