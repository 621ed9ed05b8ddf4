"""File search for CK+, its labelled sequences, and the selection of stored frames."""

import os
import pathlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from jax_me.datasets.generation.process_images import SourceImage
from jax_me.datasets.generation.source_files import describe_missing, find_folders, single_path
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number

# In the order of the codes in the files, 1 to 7. Code 0, neutral, does not occur.
EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
NEUTRAL = "neutral"
IMAGES, LABELS = "cohn-kanade-images", "Emotion"
INSTRUCTIONS = """
CK+ is available to research groups on request: see http://www.jeffcohn.net/Resources/. Unpack
extended-cohn-kanade-images.zip and Emotion_labels.zip below one folder and pass that folder:
  cohn-kanade-images/S005/001/S005_001_00000001.png
  Emotion/S005/001/S005_001_00000011_emotion.txt    (labelled sequences only)"""

_SUBJECT = re.compile(r"S\d+", re.IGNORECASE)
_LABEL_SUFFIX = "_emotion.txt"


class LabeledSequence(NamedTuple):
  """One labelled sequence.

  Attributes:
    subject, clip: names of its folders, such as "S005" and "001".
    label: one of EMOTIONS.
    frames: (number, path below the image folder), from the neutral face to the peak.
  """

  subject: str
  clip: str
  label: str
  frames: tuple[tuple[int, str], ...]


def find_release(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  """Finds the image folder and the label folder.

  Raises:
    ValueError: one is missing or found more than once; the message names the archive to unpack.
  """
  release = []
  for name, hint in ((IMAGES, "images"), (LABELS, "Emotion")):
    found = [
      path
      for path in find_folders(folder, name, enter=lambda name: not _SUBJECT.fullmatch(name))
      if any(_subfolder_names(path))
    ]
    path = single_path(folder, found, name)
    if path is None:
      what = f"folder {name} of CK+ with subfolders such as S005"
      raise ValueError(describe_missing(folder, what, hint=hint) + INSTRUCTIONS)
    release.append(path)
  return release[0], release[1]


def _subfolder_names(folder: pathlib.Path) -> Iterator[str]:
  """Sorted names of the subfolders that begin with a letter or digit."""
  with os.scandir(folder) as entries:
    names = sorted(entry.name for entry in entries if entry.is_dir())
  yield from (name for name in names if name[0].isalnum())


def list_sequences(
  images: pathlib.Path, labels: pathlib.Path
) -> tuple[list[LabeledSequence], list[ReportRow]]:
  """All labelled sequences that have images, and report rows of what is left out."""
  sequences, rows = [], []
  listed = set()
  for subject in _subfolder_names(images):
    for clip in _subfolder_names(images / subject):
      name = f"{subject}/{clip}"
      listed.add(name)
      frames, problems = _list_frames(images, name)
      rows += problems
      try:
        label = _read_label(labels / subject / clip)
      except ValueError as error:
        rows.append(problem(name, "bad_annotation", str(error)))
        continue
      if label is None:
        rows.append(problem(name, "no_expression", "no label"))
      elif not frames:
        rows.append(problem(name, "missing", "labelled, but without images"))
      else:
        sequences.append(LabeledSequence(subject, clip, label, frames))
  for subject in _subfolder_names(labels):
    for clip in _subfolder_names(labels / subject):
      name = f"{subject}/{clip}"
      if name not in listed and any((labels / name).glob(f"*{_LABEL_SUFFIX}")):
        rows.append(problem(name, "missing", "labelled, but there is no such folder"))
  return sequences, rows


def _list_frames(
  images: pathlib.Path, name: str
) -> tuple[tuple[tuple[int, str], ...], list[ReportRow]]:
  frames: dict[int, str] = {}
  rows = []
  for path in sorted((images / name).iterdir()):
    if path.name.startswith(".") or not is_image_name(path.name):
      continue
    number = frame_number(path.name)
    if number is None or number in frames:
      detail = "no number" if number is None else f"same number as {frames[number]}"
      rows.append(problem(f"{name}/{path.name}", "unexpected_name", detail))
    else:
      frames[number] = f"{name}/{path.name}"
  return tuple(sorted(frames.items())), rows


def _read_label(folder: pathlib.Path) -> str | None:
  """The label in a sequence's label folder; None if that is empty or missing."""
  if not folder.is_dir():
    return None
  files = [path for path in sorted(folder.iterdir()) if path.name.lower().endswith(_LABEL_SUFFIX)]
  files = [path for path in files if not path.name.startswith(".")]
  if not files:
    return None
  codes = {path.name: parse_code(path.read_text(errors="replace")) for path in files}
  if len(set(codes.values())) > 1:
    listed = ", ".join(f"{name}: {code}" for name, code in codes.items())
    raise ValueError(f"labels differ ({listed})")
  return EMOTIONS[next(iter(codes.values())) - 1]


def parse_code(text: str) -> int:
  """The expression code in a label file's text: "   3.0000000e+00" gives 3.

  Raises:
    ValueError: not a whole number from 1 to 7.
  """
  try:
    number = float(text)
  except ValueError:
    raise ValueError(f"{text.strip()[:40]!r} is not a number") from None
  if number not in range(1, len(EMOTIONS) + 1):
    raise ValueError(f"{text.strip()[:40]!r} is not a code from 1 to {len(EMOTIONS)}")
  return int(number)


def select_frames(
  sequence: LabeledSequence, peak_frames: int, neutral_first: bool
) -> list[SourceImage]:
  """Selects the frames of a sequence that are stored.

  Args:
    sequence: a labelled sequence.
    peak_frames: number of last frames that get the sequence's label.
    neutral_first: whether the first frame is stored too, as neutral.

  Returns:
    one image per selected frame, in the order of the sequence.
  """
  frames = sequence.frames
  first = frames[:1] if neutral_first and len(frames) > 1 else ()
  peaks = frames[len(first) :][-peak_frames:]
  return [
    SourceImage(
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
