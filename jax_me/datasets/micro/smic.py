"""SMIC (Li et al. 2013): micro-expressions of three classes, recorded by three cameras.

HS (100 fps) has 164 clips of 16 subjects; VIS and NIR (25 fps) 71 clips of 8 subjects each. SMIC
holds the frames from onset to offset; SMIC-E longer recordings of the same, with a table of the
frame numbers of the expressions. No apex is annotated. Protocol: leave-one-subject-out.

Copies of SMIC_all_cropped lack the clip s18_sur_03, which SMIC_all_raw has; SMIC-E lacks the
recordings s3_ne_03, s3_ne_20, s4_ne_05, s4_ne_06 and s9_sur_02.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from jax_me.data.labels import GROUPS, canonical_label
from jax_me.datasets.generation.options import option
from jax_me.datasets.generation.tables import ROW, parse_integer, read_table
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.datasets.micro.clip_dataset import ClipDataset
from jax_me.datasets.micro.clip_layout import (
  ClipFolder,
  FolderTree,
  Key,
  clip_key,
  find_table,
  format_subject,
  read_tree,
  single_folder,
)
from jax_me.datasets.micro.process_clips import Clip
from jax_me.datasets.micro.table_dataset import (
  AnnotatedClipOptions,
  frame_folders,
  unlisted_folders,
)

SUBSETS = ("hs", "vis", "nir")
# For HS only; the published counts per class of VIS and NIR were not checked.
COUNTS = {"hs": {"negative": 70, "positive": 51, "surprise": 43}}
HEADER = ("Subject", "Filename", "OnsetF", "OffsetF", "Emotion")
OPTIONAL_COLUMNS = ("Onset2F", "Offset2F", "Onset3F", "Offset3F")
# s1_ne_01 or s01_ne_01: subject, class, number.
_CLIP = re.compile(r"s\d+_(ne|po|sur)_\d+")
_EXTENDED = re.compile(r"(hs|vis|nir|smic)[-_ ]?e(?![a-z])|(hs|vis|nir)[-_ ]?long")
_SUBSET = re.compile(r"(?<![a-z])(hs|vis|nir)(?![a-z])")
INSTRUCTIONS = """
SMIC is given to research groups on request: see https://www.oulu.fi/cmvs/node/41319. Unpack what
you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It must hold, nested as you like:
  cropped   SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image559740.bmp
  raw       SMIC_all_raw/HS/s1/micro/negative/s1_ne_01/image559740.bmp
  extended  HS_long/SMIC-HS-E/s01/s1_ne_01/image17581039.jpg, SMIC-HS-E_annotation.xlsx"""


@dataclasses.dataclass(frozen=True)
class SmicOptions(AnnotatedClipOptions):
  """Options of SMIC.

  Attributes:
    subset: "hs", "vis" or "nir": the camera.
    extended: take the expressions from SMIC-E's longer recordings, which are raw.
  """

  subset: str = option("hs", choices=SUBSETS)
  extended: bool = False
  # Without the recordings of SMIC-E no table is read.
  table: str = option("", idle=lambda options: not options.extended)

  @property
  def title(self) -> str:
    return f"{self.subset}{'_e' if self.extended else ''}_{super().title}"


class Smic(ClipDataset[SmicOptions]):
  """Builder of SMIC, with `SmicOptions`. Classes: negative, positive, surprise."""

  name = "smic"
  DESCRIPTION = "SMIC: spontaneous micro-expressions: negative, positive and surprise."
  CITATION = (
    "X. Li, T. Pfister, X. Huang, G. Zhao, M. Pietikainen: A Spontaneous Micro-expression "
    "Database: Inducement, Collection and Baseline. FG, 2013."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = SmicOptions
  LABELS = GROUPS

  def published_clips(self) -> Mapping[str, int]:
    # SMIC-E lacks three of the clips, and some of its recordings have two expressions.
    return {} if self.options.extended else COUNTS.get(self.options.subset, {})

  @classmethod
  def list_clips(
    cls, options: SmicOptions, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[ReportRow]]:
    tree = read_tree(manual_dir)
    # manual_dir may be the folder of one camera.
    above = pathlib.Path(os.path.abspath(manual_dir)).parts[-2:]

    def key(folder: ClipFolder) -> Key | None:
      return folder_key(folder, options.subset, options.extended, above)

    release = f"SMIC{'-E' if options.extended else ''}, {options.subset.upper()}"
    folders, rows = frame_folders(tree, key, options, dataset=release, instructions=INSTRUCTIONS)
    if options.extended:
      clips, problems = _extended_clips(tree, options, folders)
      return clips, rows + problems
    chosen = [single_folder(tree, found) for _, found in sorted(folders.items())]
    # The frames of a whole clip are those from onset to offset.
    return [
      _clip(folder.parts[-1].lower(), folder.frames[0][0], folder.frames[-1][0], folder.frames)
      for folder in chosen
    ], rows


def folder_key(
  folder: ClipFolder, subset: str, extended: bool, above: Sequence[str] = ()
) -> Key | None:
  """Returns subject and clip of .../s1/micro/negative/s1_ne_01.

  Args:
    folder: the folder.
    subset, extended: the wanted camera and release.
    above: names of the folders above the tree.

  Returns:
    (subject, `clip_key`); None for another camera or release.
  """
  parts = [part.lower() for part in folder.parts]
  if not parts or not _CLIP.fullmatch(parts[-1]):
    return None
  if any(part.startswith(("non_micro", "non-micro", "nonmicro")) for part in parts):
    return None
  parents = [*(part.lower() for part in above), *parts[:-1]]
  if any(_EXTENDED.search(part) for part in parents) != extended:
    return None
  # The innermost folder with the name of a camera decides; without any, all clips are accepted.
  cameras = [match[1] for part in parents for match in _SUBSET.finditer(part.replace("_", " "))]
  if cameras and cameras[-1] != subset:
    return None
  return _subject(parts[-1]), clip_key(parts[-1])


def _clip(
  name: str, onset: int, offset: int, frames: tuple[tuple[int, str], ...], suffix: str = ""
) -> Clip:
  """Returns an expression of the recording with this name; `suffix` tells several apart."""
  subject = _subject(name)
  label = canonical_label(name.split("_")[1])
  file = f"{subject}/{name}{suffix}"
  return Clip(file, label, subject, name, onset=onset, offset=offset, frames=frames)


def _subject(name: str) -> str:
  return format_subject(name.partition("_")[0], "s", 2) or ""


def _extended_clips(
  tree: FolderTree, options: SmicOptions, folders: dict[Key, list[ClipFolder]]
) -> tuple[list[Clip], list[ReportRow]]:
  """Reads the expressions of SMIC-E's table; a recording may contain up to three."""
  table = find_table(
    tree,
    pattern=rf"{options.subset}[-_ ]?e.*annotation",
    header=HEADER,
    chosen=options.table,
    instructions=INSTRUCTIONS,
    clip_names=_CLIP.pattern,
  )
  clips: list[Clip] = []
  problems = []
  listed = set()
  for row in read_table(table, header=HEADER, optional=OPTIONAL_COLUMNS):
    name = str(row["Filename"] or "").strip().lower()
    if not _CLIP.fullmatch(name):  # explanations below the data
      problems.append(ReportRow(f"{table.name}#{row[ROW]}", "no_clip", {"table": table.name}))
      continue
    subject = _subject(name)
    key = (subject, clip_key(name))
    listed.add(key)
    label = canonical_label(name.split("_")[1])
    emotion = canonical_label(str(row["Emotion"] or label))
    if emotion in GROUPS and emotion != label:
      detail = f"the label is {emotion} in the table and {label} in the clip's name, which is used"
      problems.append(problem(f"{subject}/{name}#emotion", "two_labels", detail))
    found = folders.get(key, ())
    frames = single_folder(tree, found).frames if found else ()
    for count, nth in enumerate(("", "2", "3"), 1):
      suffix = f"#{count}" if nth else ""
      file = f"{subject}/{name}{suffix}"
      try:
        onset, offset = (parse_integer(row[f"{end}{nth}F"]) for end in ("Onset", "Offset"))
      except ValueError as error:
        problems.append(ReportRow(file, "bad_annotation", {"detail": str(error), "row": row[ROW]}))
        continue
      if onset and offset:
        clips.append(_clip(name, onset, offset, frames, suffix))
      elif not nth:
        detail = f"onset {onset}, offset {offset}"
        problems.append(ReportRow(file, "bad_annotation", {"detail": detail, "row": row[ROW]}))
  return clips, [*problems, *unlisted_folders(folders, listed, table)]
