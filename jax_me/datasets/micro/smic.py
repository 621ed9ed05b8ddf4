"""SMIC (Li et al. 2013): micro-expressions of three classes, seen by three cameras.

HS (100 fps) has 164 clips of 16 people; VIS and NIR (25 fps) 71 clips of 8 people each. SMIC holds
the frames from onset to offset; SMIC-E longer recordings of the same, with a table that says where
in them the expressions lie. No apex is annotated. Protocol: leave-one-subject-out.

Copies of SMIC_all_cropped lack the clip s18_sur_03, which SMIC_all_raw has; SMIC-E lacks the
recordings s3_ne_03, s3_ne_20, s4_ne_05, s4_ne_06 and s9_sur_02.
"""

import dataclasses
import os
import pathlib
import re
from collections.abc import Sequence

from jax_me.data.labels import GROUPS, canonical_label
from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.tables import ROW, read_table, whole_number
from jax_me.datasets.micro.clip_dataset import ClipDataset
from jax_me.datasets.micro.clip_layout import (
  ClipFolder,
  Key,
  Tree,
  find_table,
  join_key,
  only_folder,
  padded,
  read_tree,
)
from jax_me.datasets.micro.process_clips import Clip
from jax_me.datasets.micro.table_dataset import AnnotatedClipOptions, frame_folders

SUBSETS = ("hs", "vis", "nir")
# Published for HS only; of VIS and NIR no numbers of the single classes were checked.
COUNTS = {"hs": {"negative": 70, "positive": 51, "surprise": 43}}
HEADER = ("Subject", "Filename", "OnsetF", "OffsetF", "Emotion")
FURTHER = ("Onset2F", "Offset2F", "Onset3F", "Offset3F")
# s1_ne_01, in some places s01_ne_01: person, class, number.
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
    extended: take the expressions out of SMIC-E's longer recordings. These are raw.
  """

  subset: str = "hs"
  extended: bool = False

  def __post_init__(self):
    super().__post_init__()
    if self.subset not in SUBSETS:
      raise ValueError(f"subset must be one of {', '.join(SUBSETS)}: {self.subset!r}")
    if not self.extended:  # Then no table is read, so it must not make another dataset.
      object.__setattr__(self, "table", "")


class Smic(ClipDataset):
  """See `SmicOptions`. Classes: negative, positive, surprise."""

  name = "smic"
  DESCRIPTION = "SMIC: spontaneous micro-expressions: negative, positive and surprise."
  CITATION = (
    "X. Li, T. Pfister, X. Huang, G. Zhao, M. Pietikainen: A Spontaneous Micro-expression "
    "Database: Inducement, Collection and Baseline. FG, 2013."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = SmicOptions

  @classmethod
  def config_title(cls, options: SmicOptions) -> str:
    release = options.subset + ("_e" if options.extended else "")
    return f"{release}_{super().config_title(options)}"

  @classmethod
  def label_names(cls, options: SmicOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return GROUPS

  def known_counts(self) -> dict[str, dict[str, int]]:
    # SMIC-E lacks three of the clips, and has others that hold two expressions.
    known = {} if self.options.extended else COUNTS.get(self.options.subset, {})
    return self.counts_of_examples(known) if known else {}

  @classmethod
  def list_clips(
    cls, options: SmicOptions, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[Row]]:
    tree = read_tree(manual_dir)
    # The user may have named the folder of one camera.
    above = pathlib.Path(os.path.abspath(manual_dir)).parts[-2:]

    def key(folder: ClipFolder) -> Key | None:
      return folder_key(folder, options.subset, options.extended, above)

    release = f"SMIC{'-E' if options.extended else ''}, {options.subset.upper()}"
    folders, told = frame_folders(tree, key, options, dataset=release, instructions=INSTRUCTIONS)
    if options.extended:
      clips, problems = _extended_clips(tree, options, folders)
      return clips, told + problems
    return [_whole_clip(only_folder(tree, places)) for _, places in sorted(folders.items())], told


def folder_key(
  folder: ClipFolder, subset: str, extended: bool, above: Sequence[str] = ()
) -> Key | None:
  """Person and clip of .../s1/micro/negative/s1_ne_01; None for another camera or release.

  Args:
    folder: the folder.
    subset, extended: which camera and release is wanted.
    above: names of the folders in which all this lies.
  """
  parts = [part.lower() for part in folder.parts]
  if not parts or not _CLIP.fullmatch(parts[-1]):
    return None
  if any(part.startswith(("non_micro", "non-micro", "nonmicro")) for part in parts):
    return None
  around = [*(part.lower() for part in above), *parts[:-1]]
  if any(_EXTENDED.search(part) for part in around) != extended:
    return None
  # The innermost folder that names a camera decides; where none does, it is the one asked for.
  cameras = [match[1] for part in around for match in _SUBSET.finditer(part.replace("_", " "))]
  if cameras and cameras[-1] != subset:
    return None
  return padded(parts[-1].partition("_")[0], "s", 2) or "", join_key(parts[-1])


def _whole_clip(folder: ClipFolder) -> Clip:
  """A clip whose frames are those from onset to offset."""
  name = folder.parts[-1].lower()
  subject = padded(name.partition("_")[0], "s", 2) or ""
  numbers = [number for number, _ in folder.frames]
  return Clip(
    file=f"{subject}/{name}",
    label=canonical_label(name.split("_")[1]),
    subject=subject,
    clip=name,
    onset=numbers[0],
    apex=-1,
    offset=numbers[-1],
    frames=folder.frames,
  )


def _extended_clips(
  tree: Tree, options: SmicOptions, folders: dict[Key, list[ClipFolder]]
) -> tuple[list[Clip], list[Row]]:
  """The expressions that SMIC-E's table names; a recording may hold up to three."""
  table = find_table(
    tree,
    pattern=rf"{options.subset}[-_ ]?e.*annotation",
    header=HEADER,
    chosen=options.table,
    instructions=INSTRUCTIONS,
    clip_column="Filename",
    clip_names=_CLIP.pattern,
  )
  clips: list[Clip] = []
  problems = []
  listed = set()
  for row in read_table(table, header=HEADER, optional=FURTHER):
    name = str(row["Filename"] or "").strip().lower()
    if not _CLIP.fullmatch(name):  # Below the data stand explanations.
      problems.append(Row(f"{table.name}#{row[ROW]}", "no_clip", {"table": table.name}))
      continue
    subject = padded(name.partition("_")[0], "s", 2) or ""
    key = (subject, join_key(name))
    listed.add(key)
    label = canonical_label(name.split("_")[1])
    emotion = canonical_label(str(row["Emotion"] or label))
    if emotion in GROUPS and emotion != label:
      detail = f"the table says {emotion}; the clip's name, which decides, says {label}"
      problems.append(Row(f"{subject}/{name}#emotion", "two_labels", {"detail": detail}))
    places = folders.get(key, ())
    frames = only_folder(tree, places).frames if places else ()
    for count, nth in enumerate(("", "2", "3"), 1):
      file = f"{subject}/{name}" + (f"#{count}" if nth else "")
      try:
        onset, offset = (whole_number(row[f"{end}{nth}F"]) for end in ("Onset", "Offset"))
      except ValueError as error:
        problems.append(Row(file, "bad_annotation", {"detail": str(error), "row": row[ROW]}))
        continue
      if onset and offset:
        clips.append(
          Clip(
            file=file,
            label=label,
            subject=subject,
            clip=name,
            onset=onset,
            apex=-1,
            offset=offset,
            frames=frames,
          )
        )
      elif not nth:
        detail = f"onset {onset}, offset {offset}"
        problems.append(Row(file, "bad_annotation", {"detail": detail, "row": row[ROW]}))
  strangers = [places[0].place for key, places in folders.items() if key not in listed]
  problems += [Row(place, "not_listed", {"table": table.name}) for place in sorted(strangers)]
  return clips, problems
