"""Base of datasets with an annotation table and folders of frames."""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from jax_me.data.labels import canonical_label
from jax_me.datasets.generation.options import option
from jax_me.datasets.generation.source_files import describe_missing
from jax_me.datasets.generation.tables import ROW, parse_integer, read_table
from jax_me.datasets.generation.tasks import ReportRow, problem
from jax_me.datasets.micro.clip_dataset import ClipDataset
from jax_me.datasets.micro.clip_layout import (
  CLIP,
  IMAGES,
  ClipFolder,
  FolderTree,
  Key,
  clip_key,
  find_table,
  format_subject,
  read_tree,
  single_folder,
)
from jax_me.datasets.micro.clip_options import ClipOptions
from jax_me.datasets.micro.process_clips import Clip

MOMENTS = ("onset", "apex", "offset")
# Columns of the tables; letter case, spaces and punctuation differ between them.
SUBJECT, EMOTION = "Subject", "Estimated Emotion"
MOMENT_COLUMNS = ("OnsetFrame", "ApexFrame", "OffsetFrame")


@dataclasses.dataclass(frozen=True)
class AnnotatedClipOptions(ClipOptions):
  """Options of releases with raw and cropped frames and a table of annotations.

  Attributes:
    images: "raw" frames, the release's own "cropped" faces, or "auto": raw for align, else
      cropped; where one is missing, the other, which the report then states.
    table: name of the annotation table, where manual_dir holds more than one.
  """

  images: str = option("auto", choices=IMAGES)
  table: str = ""


@dataclasses.dataclass(frozen=True)
class TableClipOptions(AnnotatedClipOptions):
  """Options of datasets with a choice of classes.

  Attributes:
    classes: number of classes.
  """

  classes: int = 0

  @property
  def title(self) -> str:
    return f"{self.classes}_{super().title}"


TableOptionsT = TypeVar("TableOptionsT", bound=TableClipOptions)


class TableClipDataset(ClipDataset[TableOptionsT]):
  """A dataset whose annotation table lists its clips.

  Attributes:
    TITLE: the dataset's name in messages.
    TABLE_NAMES: regular expression, searched for in the lower-case names of tables.
    CLIP_NAMES: regular expression for the lower-case names of clips; "" for any.
    SUBJECT_NAME: prefix and number of digits of the subjects' names.
    NOTES: clip's file -> known problem of the clip.
  """

  TITLE: ClassVar[str]
  TABLE_NAMES: ClassVar[str]
  CLIP_NAMES: ClassVar[str] = ""
  SUBJECT_NAME: ClassVar[tuple[str, int]]
  NOTES: ClassVar[Mapping[str, str]] = {}

  @classmethod
  @abc.abstractmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """Subject and `clip_key` of the clip; None for folders of something else."""

  @classmethod
  def list_clips(
    cls, options: TableOptionsT, manual_dir: pathlib.Path, table_option: str = "table"
  ) -> tuple[list[Clip], list[ReportRow]]:
    """Lists the clips in the table's order, as in `ClipDataset`.

    Args:
      options: the options.
      manual_dir: folder of the user's files.
      table_option: name of the option for the table in error messages.

    Returns:
      The clips, and report rows of what is left out.
    """
    instructions = str(cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
    tree = read_tree(manual_dir)
    folders, problems = frame_folders(
      tree, cls.folder_key, options, dataset=cls.TITLE, instructions=instructions
    )
    header = (SUBJECT, CLIP, *MOMENT_COLUMNS, EMOTION)
    table = find_table(
      tree,
      pattern=cls.TABLE_NAMES,
      header=header,
      chosen=options.table,
      instructions=instructions,
      clip_names=cls.CLIP_NAMES,
      option=table_option,
    )
    class_of_expression = cls.class_of_expression(options)
    clips: dict[str, Clip] = {}
    listed = set()
    for row in read_table(table, header=header):
      subject = format_subject(row[SUBJECT], *cls.SUBJECT_NAME)
      name = str(row[CLIP] or "").strip()
      file = f"{subject}/{name}"
      location = {"table": table.name, "row": row[ROW]}
      if subject is None or not name or row[EMOTION] is None:
        # Notes below the table are not clips.
        problems.append(ReportRow(f"{table.name}#{row[ROW]}", "no_clip", location))
        continue
      key = (subject, clip_key(name))
      if key in listed:
        problems.append(ReportRow(f"{file}#{row[ROW]}", "listed_twice", location))
        continue
      listed.add(key)
      try:
        onset, apex, offset = (parse_integer(row[column]) for column in MOMENT_COLUMNS)
      except ValueError as error:
        problems.append(ReportRow(file, "bad_annotation", {"detail": str(error), **location}))
        continue
      label = canonical_label(str(row[EMOTION]))
      if label not in class_of_expression:
        problems.append(problem(file, "other_label", label))
        continue
      note = [cls.NOTES[file]] if file in cls.NOTES else []
      if onset is not None and offset is not None and offset < onset:
        # The folders contain little more than the expression: the last frame is a good estimate.
        note.append(f"the annotated offset {offset} is before the onset; the last frame is used")
        offset = None
      found = folders.get(key, ())
      clips[file] = Clip(
        file=file,
        label=class_of_expression[label],
        subject=subject,
        clip=name,
        onset=or_unknown(onset),
        apex=or_unknown(apex),
        offset=or_unknown(offset),
        frames=single_folder(tree, found).frames if found else (),
        note="; ".join(note),
      )
    return list(clips.values()), [*problems, *unlisted_folders(folders, listed, table)]


def or_unknown(number: int | None) -> int:
  """The number, -1 for None."""
  return -1 if number is None else number


def unlisted_folders(
  folders: Mapping[Key, Sequence[ClipFolder]], listed: set[Key], table: pathlib.Path
) -> list[ReportRow]:
  """Report rows of the folders whose clips a table does not list.

  Args:
    folders: the folders of each clip.
    listed: the clips in the table.
    table: the table.

  Returns:
    The rows, sorted by folder.
  """
  paths = sorted(found[0].path for key, found in folders.items() if key not in listed)
  return [ReportRow(path, "not_listed", {"table": table.name}) for path in paths]


def frame_folders(
  tree: FolderTree,
  key: Callable[[ClipFolder], Key | None],
  options: AnnotatedClipOptions,
  *,
  dataset: str,
  instructions: str,
) -> tuple[dict[Key, list[ClipFolder]], list[ReportRow]]:
  """Finds the folders of a dataset's frames.

  Args:
    tree: the folders.
    key: returns the subject and the `clip_key` of a folder, None for a folder of something else.
    options: the options `images` and `align`.
    dataset: name of the dataset in messages.
    instructions: text added to an error.

  Returns:
    The folders of each clip (more than one is a user's mistake); and a report row if `images` is
    "auto" and only the other kind exists.

  Raises:
    ValueError: there are none; the message states what manual_dir must hold.
  """
  found: dict[bool, dict[Key, list[ClipFolder]]] = {}
  for folder in tree.folders:
    if (name := key(folder)) is not None:
      found.setdefault(folder.cropped, {}).setdefault(name, []).append(folder)
  if not found:
    hint = dataset.partition(" ")[0]
    raise ValueError(describe_missing(tree.top, f"frames of {dataset}", hint=hint) + instructions)
  cropped = not options.align if options.images == "auto" else options.images == "cropped"
  if cropped in found:
    return found[cropped], []
  kind = "raw" if cropped else "cropped"
  if options.images != "auto":
    raise ValueError(
      f"manual_dir {tree.top} holds only {kind} frames of {dataset}: give images={kind} or auto"
    )
  return found[not cropped], [problem(dataset, f"only_{kind}", f"only {kind} frames exist")]
