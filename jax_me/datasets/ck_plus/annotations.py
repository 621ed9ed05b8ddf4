"""CK+'s sequences and their labels below a folder -> one Picture a frame that is stored."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.find_files import describe_missing, find_folders
from jax_me.datasets.generation.process_images import Picture
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number

# In the order of the codes in the files, 1 to 7. Code 0, neutral, stands in none.
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
NEUTRAL = "neutral"
IMAGES, LABELS = "cohn-kanade-images", "Emotion"
INSTRUCTIONS = """
CK+ is given to research groups on request: see http://www.jeffcohn.net/Resources/. Unpack
extended-cohn-kanade-images.zip and Emotion_labels.zip below one folder and give that folder:
  cohn-kanade-images/S005/001/S005_001_00000001.png
  Emotion/S005/001/S005_001_00000011_emotion.txt    (for some sequences only)"""

_SUBJECT = re.compile(r"S\d+", re.IGNORECASE)
_ENDING = "_emotion.txt"


class Sequence(NamedTuple):
  """One labelled sequence.

  Attributes:
    subject, clip: names of its folders, "S005" and "001".
    label: one of EMOTIONS.
    frames: (number, path below the folder of images), from the neutral face to the peak.
  """

  subject: str
  clip: str
  label: str
  frames: tuple[tuple[int, str], ...]


def find(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """The folders of images and of labels.

  Raises:
    ValueError: one is not there, or more than once; the message names the archive to unpack.
  """
  places = []
  for name, hint in ((IMAGES, "images"), (LABELS, "Emotion")):
    found = [
      place
      for place in find_folders(folder, name, enter=lambda name: not _SUBJECT.fullmatch(name))
      if any(_folders(place))
    ]
    if len(found) > 1:
      raise ValueError(
        f"manual_dir {folder} has {name} more than once ({', '.join(map(str, found))}); give the "
        "folder of one copy."
      )
    if not found:
      what = f"folder {name} of CK+ with its folders S005 and so on"
      raise ValueError(describe_missing(folder, what, hint=hint) + INSTRUCTIONS)
    places.append(found[0])
  return places[0], places[1]


def _folders(folder: pathlib.Path) -> Iterator[str]:
  """Names of the folders in a folder that begin with a letter or digit, sorted."""
  with os.scandir(folder) as entries:
    names = sorted(entry.name for entry in entries if entry.is_dir())
  yield from (name for name in names if name[0].isalnum())


def list_sequences(images: pathlib.Path, labels: pathlib.Path) -> tuple[list[Sequence], list[Row]]:
  """All labelled sequences that have images, and what was left out."""
  sequences, rows = [], []
  listed = set()
  for subject in _folders(images):
    for clip in _folders(images / subject):
      name = f"{subject}/{clip}"
      listed.add(name)
      frames, problems = _frames(images, name)
      rows += problems
      try:
        label = _label(labels / subject / clip)
      except ValueError as error:
        rows.append(Row(name, "bad_annotation", {"detail": str(error)}))
        continue
      if label is None:
        rows.append(Row(name, "no_expression", {"detail": "no label is given"}))
      elif not frames:
        rows.append(Row(name, "missing", {"detail": "labelled, but without images"}))
      else:
        sequences.append(Sequence(subject, clip, label, frames))
  for subject in _folders(labels):
    for clip in _folders(labels / subject):
      name = f"{subject}/{clip}"
      if name not in listed and any((labels / name).glob(f"*{_ENDING}")):
        rows.append(Row(name, "missing", {"detail": "labelled, but there is no such folder"}))
  return sequences, rows


def _frames(images: pathlib.Path, name: str) -> tuple[tuple[tuple[int, str], ...], list[Row]]:
  frames: dict[int, str] = {}
  rows = []
  for path in sorted((images / name).iterdir()):
    if path.name.startswith(".") or not is_image_name(path.name):
      continue
    number = frame_number(path.name)
    if number is None or number in frames:
      detail = "no number" if number is None else f"as {frames[number]}"
      rows.append(Row(f"{name}/{path.name}", "unexpected_name", {"detail": detail}))
    else:
      frames[number] = f"{name}/{path.name}"
  return tuple(sorted(frames.items())), rows


def _label(folder: pathlib.Path) -> str | None:
  """The label in a sequence's folder; None where that is empty or missing."""
  if not folder.is_dir():
    return None
  files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(_ENDING)]
  files = [path for path in files if not path.name.startswith(".")]
  if not files:
    return None
  codes = {path.name: read_code(path.read_text(errors="replace")) for path in files}
  if len(set(codes.values())) > 1:
    told = ", ".join(f"{name}: {code}" for name, code in codes.items())
    raise ValueError(f"labels differ ({told})")
  return EMOTIONS[next(iter(codes.values())) - 1]


def read_code(text: str) -> int:
  """The number in a label's file: "   3.0000000e+00" is 3.

  Raises:
    ValueError: it is none from 1 to 7.
  """
  try:
    number = float(text)
  except ValueError:
    raise ValueError(f"{text.strip()[:40]!r} is not a number") from None
  if number not in range(1, len(EMOTIONS) + 1):
    raise ValueError(f"{text.strip()[:40]!r} is no code from 1 to {len(EMOTIONS)}")
  return int(number)


def choose_frames(sequence: Sequence, peak_frames: int, neutral_first: bool) -> list[Picture]:
  """The frames of a sequence that are stored, in their order.

  Args:
    sequence: a labelled sequence.
    peak_frames: so many of the last ones have its label.
    neutral_first: whether the first one is stored too, as neutral.
  """
  frames = sequence.frames
  first = frames[:1] if neutral_first and len(frames) > 1 else ()
  peaks = frames[len(first) :][-peak_frames:]
  return [
    Picture(
      file=file,
      label=NEUTRAL if (number, file) in first else sequence.label,
      subject=sequence.subject,
      clip=sequence.clip,
      frame=number,
      onset=frames[0][0],
      apex=frames[-1][0],
    )
    for number, file in (*first, *peaks)
  ]
