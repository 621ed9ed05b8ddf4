"""Where CAS(ME)3's frames and tables lie below a folder.

Part A comes in two forms: whole recordings, `part_A/spNO.1/a/color/175.jpg`, and
`Part_A_ME_clip/frame/spNo.1_a_355/355.jpg`, cut to the expressions (person, recording, onset).
Part C comes as recordings, `part_C/01/a/color/373.jpg`. Names differ in case between tables and
disk, and within either. Recordings are not looked into before one is asked for: they have millions
of frames.
"""

import collections
import os
import pathlib
import re

from jax_me.datasets.generation.find_files import walk_folders
from jax_me.datasets.micro.clip_layout import TABLE_SUFFIXES, Tree
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number

PARTS = ("A", "C")

_PERSON = {
  "A": re.compile(r"sp_?no\.?_?(\d+)", re.IGNORECASE),
  "C": re.compile(r"(\d{1,3})", re.IGNORECASE),
}
_CLIP = re.compile(r"sp_?no\.?_?(\d+)_([a-z]+)_(\d+)", re.IGNORECASE)
# Never looked into. The folder "exception" holds tables of frames that users complained of.
_CLOSED = re.compile(r"depth|video|color|exception|__macosx", re.IGNORECASE)
_DEPTH = 6


def person_name(part: str, cell: object) -> str | None:
  """ "spNO.1" from "spNo.1" in part A, "01" from 1 in part C; None from anything else."""
  match = _PERSON[part].fullmatch(str(cell).strip())
  if not match:
    return None
  return f"spNO.{int(match[1])}" if part == "A" else f"{int(match[1]):02d}"


class Layout:
  """One part of the dataset below a folder; frames are listed when asked for.

  Attributes:
    tree: the folder with the names of its tables; its folders are not listed.
    has_frames: whether there is any clip or recording.
  """

  def __init__(self, top: pathlib.Path, part: str):
    self._clips: dict[tuple[str, str, int], list[pathlib.Path]] = collections.defaultdict(list)
    self._people: dict[str, list[pathlib.Path]] = collections.defaultdict(list)
    # Of the last folder only: rows of one recording stand together, and all would be a million.
    self._listed: tuple[pathlib.Path, dict[int, str]] | None = None
    self._top = top
    closed = (_CLOSED, _CLIP, _PERSON["A"], _PERSON[part])
    tables = []

    def is_open(name: str) -> bool:
      return not any(pattern.fullmatch(name) for pattern in closed)

    for place, files, folders in walk_folders(top, depth=_DEPTH, enter=is_open):
      tables += [
        (place / name).relative_to(top).as_posix()
        for name in files
        if name.lower().endswith(TABLE_SUFFIXES) and not name.startswith("~$")
      ]
      for name in folders:
        if part == "A" and (match := _CLIP.fullmatch(name)):
          key = (f"spNO.{int(match[1])}", match[2].lower(), int(match[3]))
          self._clips[key].append(place / name)
        elif (person := person_name(part, name)) is not None:
          self._people[person].append(place / name)
    self.tree = Tree(top, (), tuple(tables))
    self.has_frames = bool(self._clips or self._people)

  def frames(self, person: str, recording: str, onset: int) -> dict[int, str]:
    """Frame number -> path below the folder, ascending: of the cut clip, else of the recording.

    Args:
      person: as `person_name` gives it.
      recording: its letter.
      onset: as annotated, by which cut clips are named.

    Raises:
      ValueError: it was found more than once.
    """
    found = self._clips.get((person, recording.lower(), onset))
    if not found:
      people = self._people.get(person, ())
      recordings = [place for folder in people if (place := _child(folder, recording))]
      # Depth may lie in a tree of its own.
      found = [place for folder in recordings if (place := _child(folder, "color"))] or recordings
    if not found:
      return {}
    if len(found) > 1:
      places = " and ".join(str(folder.relative_to(self._top)) for folder in found[:2])
      raise ValueError(
        f"manual_dir {self._top} holds a clip twice: {places}; give one copy's folder"
      )
    if self._listed is None or self._listed[0] != found[0]:
      self._listed = (found[0], _numbered_frames(found[0], self._top))
    return self._listed[1]


def _child(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """A folder in another by its name, in that case if it is there, else in any."""
  with os.scandir(folder) as entries:
    names = sorted(e.name for e in entries if e.name.casefold() == name.casefold() and e.is_dir())
  return folder / (name if name in names else names[0]) if names else None


def _numbered_frames(folder: pathlib.Path, top: pathlib.Path) -> dict[int, str]:
  place = folder.relative_to(top).as_posix()
  frames: dict[int, str] = {}
  for name in sorted(os.listdir(folder)):
    number = frame_number(name) if is_image_name(name) else None
    if number is not None and not name.startswith("."):
      frames.setdefault(number, f"{place}/{name}")
  return dict(sorted(frames.items()))
