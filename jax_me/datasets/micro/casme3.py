"""CAS(ME)3 (Li et al., TPAMI 2022): 860 micro-expressions of 94 subjects in part A, 165 in part C.

Protocols: leave-one-subject-out over three, four or seven classes. A recording contains
several micro-expressions (397 rows of part A share subject and recording), so a clip is identified
by its onset.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

from jax_me.data.labels import MICRO_EMOTIONS, canonical_label
from jax_me.datasets.generation.options import option
from jax_me.datasets.generation.tables import ROW, Cell, parse_integer, read_table
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.datasets.micro.casme3_layout import PARTS, Casme3Layout, subject_name
from jax_me.datasets.micro.clip_dataset import ClipDataset
from jax_me.datasets.micro.clip_layout import find_table
from jax_me.datasets.micro.clip_options import ClipOptions
from jax_me.datasets.micro.process_clips import MAX_FRAME_DISTANCE, Clip
from jax_me.datasets.micro.table_dataset import MOMENTS, or_unknown

# From version 2 of the annotations of part A, and from those of part C.
COUNTS = {
  "A": {
    "happiness": 55,
    "sadness": 57,
    "surprise": 187,
    "fear": 86,
    "disgust": 250,
    "anger": 64,
    "others": 161,
  },
  "C": {"negative": 99, "positive": 16, "surprise": 30, "others": 20},
}
_GROUPED: dict[str, tuple[str, ...]] = {
  "negative": ("sadness", "fear", "disgust", "anger", "negative"),
  "positive": ("happiness", "positive"),
  "surprise": ("surprise",),
}
# Number of classes -> class, in the order of the codes -> its expressions.
CLASSES: dict[int, dict[str, tuple[str, ...]]] = {
  7: {name: (name,) for name in MICRO_EMOTIONS if name in COUNTS["A"]},
  4: {**_GROUPED, "others": ("others",)},
  3: _GROUPED,
}
# Corrections by tvaranka/meb of wrong rows of part A (arXiv:2211.11425).
CORRECTIONS: dict[str, dict[str, int]] = {
  "spNO.149/d_112": {"apex": 160},
  "spNO.214/c_5": {"offset": 34},
  "spNO.216/d_3647": {"onset": 2647},
  "spNO.216/e_0": {"onset": 1, "apex": 1},
  "spNO.40/e_1812": {"offset": 1845},
  "spNO.40/e_2327": {"offset": 2403},
}
# At 30 fps. The longest row has 730; one has 3,456, which is a typing error.
MAX_FRAMES = 1000

_TABLE_NAMES = {"A": r"part_?a_me_label_jpgindex_v2", "C": r"part_?c_me\b"}
_COLUMNS = {
  "A": ("Subject", "Filename", "Onset", "Apex", "Offset", "emotion"),
  "C": ("sub", "count", "onset", "", "offset", "emotion"),
}
# Part C has one recording per subject.
_RECORDING_C = "a"
INSTRUCTIONS = """
CAS(ME)3 is given to research groups on request: see http://casme.psych.ac.cn/casme/e4. Unpack what
you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It must hold, nested as you like:
  part A   cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx (version 1 has wrong labels), and either
           part_A/spNO.1/a/color/175.jpg or Part_A_ME_clip/frame/spNo.1_a_355/355.jpg
  part C   CAS(ME)3_part_C_ME.xlsx and part_C/01/a/color/373.jpg
Both tables are public: https://github.com/jingtingEmmaLi/CAS-ME-3, folder annotation."""


@dataclasses.dataclass(frozen=True)
class Casme3Options(ClipOptions):
  """Options of CAS(ME)3.

  Attributes:
    part: "A", or "C" (mock crimes; it has no apex frames and only the four classes).
    classes: 7 (happiness, sadness, surprise, fear, disgust, anger, others), 4 (negative: sadness,
      fear, disgust, anger; positive: happiness; surprise; others), 3 (these without others), or 0:
      7 in part A, 4 in part C.
    repair: use tvaranka/meb's numbers for six wrong rows of part A. False uses the table as it is:
      clips that end before they begin are left out, and a wrong apex follows apex_policy. The
      report lists these clips either way.
    table: name of the table of annotations, where manual_dir holds more than one.
  """

  part: str = "A"
  classes: int = 0
  repair: bool = option(False, idle=lambda options: options.part == "C")
  table: str = ""

  def __post_init__(self):
    if self.part not in PARTS:
      raise ValueError(f"part of CAS(ME)3 must be A or C: {self.part!r}")
    known = (0, 3, 4, 7) if self.part == "A" else (0, 3, 4)
    if self.classes not in known:
      numbers = ", ".join(str(number) for number in known)
      raise ValueError(
        f"classes of CAS(ME)3, part {self.part}, must be one of {numbers}: {self.classes}"
      )
    if self.classes == 0:
      self._set("classes", known[-1])
    super().__post_init__()

  @property
  def title(self) -> str:
    return f"{self.part}_{self.classes}_{super().title}"


class Casme3(ClipDataset[Casme3Options]):
  """Builder of CAS(ME)3, with `Casme3Options`."""

  name = "casme3"
  DESCRIPTION = "CAS(ME)3: micro-expressions of 94 people (part A) or 30 (part C), 30 fps, colour."
  CITATION = (
    "J. Li, Z. Dong, S. Lu, S.-J. Wang, W.-J. Yan, Y. Ma, Y. Liu, C. Huang, X. Fu: CAS(ME)3: A "
    "Third Generation Facial Spontaneous Micro-Expression Database with Depth Information and "
    "High Ecological Validity. IEEE TPAMI, 2022."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = Casme3Options
  CLASSES = CLASSES

  @classmethod
  def fingerprint(cls, options: Casme3Options, manual_dir: pathlib.Path) -> str:
    """Hash of the annotated clips and the names of their frames.

    The recordings have 8 million frames, too many to list.
    """
    digest = hashlib.sha256()
    for clip in cls.list_clips(options, manual_dir)[0]:
      line = (clip.file, clip.label, clip.onset, clip.apex, clip.offset, clip.frames)
      digest.update(f"{line}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

  def published_clips(self) -> Mapping[str, int]:
    return COUNTS[self.options.part]

  @classmethod
  def list_clips(
    cls, options: Casme3Options, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[ReportRow]]:
    layout = Casme3Layout(manual_dir, options.part)
    # `describe_missing` is not used: it would search through all recordings.
    for what, exists in (("table", layout.tree.tables), ("frames", layout.has_frames)):
      if not exists:
        raise ValueError(
          f"manual_dir {manual_dir} holds no {what} of CAS(ME)3, part {options.part}.{INSTRUCTIONS}"
        )
    columns = _COLUMNS[options.part]
    header = tuple(column for column in columns if column)
    path = find_table(
      layout.tree,
      pattern=_TABLE_NAMES[options.part],
      header=header,
      chosen=options.table,
      instructions=INSTRUCTIONS,
    )
    classes = cls.class_of_expression(options)
    clips: dict[str, Clip] = {}
    problems = []
    for row in read_table(path, header=header):
      location = {"table": path.name, "row": row[ROW]}
      try:
        clip = _parse_row([row.get(column) for column in columns], options)
      except ValueError as error:
        problems.append(problem(f"{path.name}#{row[ROW]}", "bad_annotation", str(error)))
        continue
      if clip.file in clips:
        problems.append(ReportRow(f"{clip.file}#{row[ROW]}", "listed_twice", location))
      elif clip.label not in classes:
        problems.append(problem(clip.file, "other_label", clip.label))
      else:
        clips[clip.file] = dataclasses.replace(
          clip, label=classes[clip.label], frames=_select_frames(clip, options, layout)
        )
    return list(clips.values()), problems


def _parse_row(cells: Sequence[Cell], options: Casme3Options) -> Clip:
  """Parses a row as a clip without frames whose label is the expression.

  Raises:
    ValueError: a cell is missing or invalid.
  """
  subject_cell, name, *numbers, emotion = cells
  subject = subject_name(options.part, subject_cell)
  if subject is None:
    raise ValueError(f"{subject_cell!r} is not a subject")
  if name is None or emotion is None:
    raise ValueError("the recording is missing" if name is None else "the expression is missing")
  annotated = dict(zip(MOMENTS, map(parse_integer, numbers), strict=True))
  if annotated["onset"] is None:
    raise ValueError("the onset, which identifies a clip, is missing")
  clip = f"{str(name).lower()}_{annotated['onset']}" if options.part == "A" else str(name)
  file = f"{subject}/{clip}"
  corrected = CORRECTIONS.get(file, {}) if options.repair else {}
  onset, apex, offset = map(or_unknown, (annotated | corrected).values())
  note = [f"{moment} {annotated[moment]} corrected to {corrected[moment]}" for moment in corrected]
  if offset - onset > MAX_FRAMES:
    note.append(f"the annotated offset {offset} is not credible")
  return Clip(
    file=file,
    label=canonical_label(str(emotion)),
    subject=subject,
    clip=clip,
    onset=onset,
    apex=apex,
    offset=offset,
    note="; ".join(note),
  )


def _select_frames(
  clip: Clip, options: Casme3Options, layout: Casme3Layout
) -> tuple[tuple[int, str], ...]:
  """Returns the frames of a clip, without the rest of its recording."""
  if options.part == "A":
    recording, _, onset = clip.clip.rpartition("_")
    frames = layout.frames(clip.subject, recording, int(onset))
  else:
    frames = layout.frames(clip.subject, _RECORDING_C, clip.onset)
  first = clip.onset - MAX_FRAME_DISTANCE
  last = clip.onset + MAX_FRAMES
  if clip.offset >= clip.onset:
    last = min(last, clip.offset + MAX_FRAME_DISTANCE)
  return tuple((number, path) for number, path in frames.items() if first <= number <= last)
