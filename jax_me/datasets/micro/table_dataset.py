"""Base of datasets with an annotation table and folders of frames.

A builder subclasses TableClipDataset and defines the table's columns, the classes and the published
counts.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from jax_me.data.labels import canonical_label
from jax_me.datasets.generation.example import ReportRow
from jax_me.datasets.generation.find_files import describe_missing
from jax_me.datasets.generation.tables import ROW, Cell, parse_integer, read_table
from jax_me.datasets.micro.clip_dataset import ClipDataset, ClipOptions
from jax_me.datasets.micro.clip_layout import (
  IMAGES,
  ClipFolder,
  FolderTree,
  Key,
  clip_folders,
  clip_key,
  find_table,
  read_tree,
  single_folder,
)
from jax_me.datasets.micro.process_clips import Clip


@dataclasses.dataclass(frozen=True)
class AnnotatedClipOptions(ClipOptions):
  """Options of releases with raw and cropped frames and a table of annotations.

  Attributes:
    images: "raw" frames, the release's own "cropped" faces, or "auto": raw for align, else
      cropped; where one is missing, the other, which the report then states.
    table: name of the annotation table, where manual_dir holds more than one.
  """

  images: str = "auto"
  table: str = ""

  def __post_init__(self):
    super().__post_init__()
    if self.images not in IMAGES:
      raise ValueError(f"images must be one of {', '.join(IMAGES)}: {self.images!r}")


@dataclasses.dataclass(frozen=True)
class Columns:
  """Names of the columns of an annotation table."""

  subject: str
  clip: str
  onset: str
  apex: str
  offset: str
  emotion: str

  def header(self) -> tuple[str, ...]:
    return dataclasses.astuple(self)


@dataclasses.dataclass(frozen=True)
class TableClipOptions(AnnotatedClipOptions):
  """Options of datasets with a choice of classes.

  Attributes:
    classes: number of classes.
  """

  classes: int = 0


TableOptionsT = TypeVar("TableOptionsT", bound=TableClipOptions)


class TableClipDataset(ClipDataset[TableOptionsT]):
  """A dataset whose annotation table lists its clips.

  Attributes:
    title: the dataset's name in messages.
    columns: columns of the table.
    table_names: regular expression, searched for in the lower-case names of tables.
    clip_names: regular expression for the lower-case names of clips; "" for any.
    classes: number of classes -> class, in the order of the codes -> its expressions.
    counts: expression -> published number of clips.
    notes: clip's file -> known problem of the clip.
  """

  title: ClassVar[str]
  columns: ClassVar[Columns]
  table_names: ClassVar[str]
  clip_names: ClassVar[str] = ""
  classes: ClassVar[Mapping[int, Mapping[str, tuple[str, ...]]]]
  counts: ClassVar[Mapping[str, int]]
  notes: ClassVar[Mapping[str, str]] = {}

  @classmethod
  @abc.abstractmethod
  def subject_name(cls, cell: object) -> str | None:
    """Name of the subject from a cell or a folder's name; None without a number."""

  @classmethod
  @abc.abstractmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """Subject and `clip_key` of the clip; None for folders of something else."""

  @classmethod
  def config_title(cls, options: TableOptionsT) -> str:
    return f"{options.classes}_{super().config_title(options)}"

  @classmethod
  def label_names(cls, options: TableOptionsT, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del manual_dir
    return tuple(cls.classes[options.classes])

  def known_counts(self) -> dict[str, dict[str, int]]:
    classes = self.classes[self.options.classes]
    counts = {name: sum(self.counts[e] for e in parts) for name, parts in classes.items()}
    return self.example_counts(counts)

  @classmethod
  def list_clips(
    cls, options: TableOptionsT, manual_dir: pathlib.Path, table_option: str = "table"
  ) -> tuple[list[Clip], list[ReportRow]]:
    """Lists the clips, as in `ClipDataset`.

    Args:
      options: the options.
      manual_dir: folder of the user's files.
      table_option: name of the option for the table in error messages.

    Returns:
      The clips, and report rows of what is left out.
    """
    instructions = str(cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
    tree = read_tree(manual_dir)
    folders, rows = frame_folders(
      tree, cls.folder_key, options, dataset=cls.title, instructions=instructions
    )
    table = find_table(
      tree,
      pattern=cls.table_names,
      header=cls.columns.header(),
      chosen=options.table,
      instructions=instructions,
      clip_column=cls.columns.clip,
      clip_names=cls.clip_names,
      option=table_option,
    )
    classes = cls.classes[options.classes]
    clips, problems = read_clips(
      table,
      cls.columns,
      folders,
      tree=tree,
      subject=cls.subject_name,
      classes={emotion: name for name, parts in classes.items() for emotion in parts},
      notes=cls.notes,
    )
    return clips, rows + problems


def read_clips(
  path: pathlib.Path,
  columns: Columns,
  folders: Mapping[Key, Sequence[ClipFolder]],
  *,
  tree: FolderTree,
  subject: Callable[[Cell], str | None],
  classes: Mapping[str, str],
  notes: Mapping[str, str],
) -> tuple[list[Clip], list[ReportRow]]:
  """Reads the clips of an annotation table.

  Args:
    path: the table.
    columns: its columns.
    folders: as returned by `clip_layout.clip_folders`.
    tree: the folder tree that contains them.
    subject: returns the subject's name from its cell.
    classes: expression -> class; clips of other expressions are left out, with a report row.
    notes: clip's file -> known problem of the clip.

  Returns:
    One clip per row, in the table's order, without frames if there is no folder; and report rows.

  Raises:
    ValueError: the table cannot be read, or a clip has two folders.
  """
  clips: dict[str, Clip] = {}
  problems = []
  listed = set()
  for row in read_table(path, header=columns.header()):
    subject_id = subject(row[columns.subject])
    name = str(row[columns.clip] or "").strip()
    file = f"{subject_id}/{name}"
    emotion = row[columns.emotion]
    location = {"table": path.name, "row": row[ROW]}
    if subject_id is None or not name or emotion is None:
      # Notes below the table are not clips.
      problems.append(ReportRow(f"{path.name}#{row[ROW]}", "no_clip", location))
      continue
    key = (subject_id, clip_key(name))
    if key in listed:
      problems.append(ReportRow(f"{file}#{row[ROW]}", "listed_twice", location))
      continue
    listed.add(key)
    try:
      onset, apex, offset = (
        parse_integer(row[column]) for column in (columns.onset, columns.apex, columns.offset)
      )
    except ValueError as error:
      problems.append(ReportRow(file, "bad_annotation", {"detail": str(error), **location}))
      continue
    label = canonical_label(str(emotion))
    if label not in classes:
      problems.append(ReportRow(file, "other_label", {"detail": label}))
      continue
    note = [notes[file]] if file in notes else []
    if onset is not None and offset is not None and offset < onset:
      # The folders contain little more than the expression, so the last frame is a good estimate.
      note.append(f"the annotated offset {offset} is before the onset; the last frame is used")
      offset = None
    found = folders.get(key, ())
    clips[file] = Clip(
      file=file,
      label=classes[label],
      subject=subject_id,
      clip=name,
      onset=_or_unknown(onset),
      apex=_or_unknown(apex),
      offset=_or_unknown(offset),
      frames=single_folder(tree, found).frames if found else (),
      note="; ".join(note),
    )
  unlisted = [found[0].path for key, found in folders.items() if key not in listed]
  problems += [ReportRow(folder, "not_listed", {"table": path.name}) for folder in sorted(unlisted)]
  return list(clips.values()), problems


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
    key: as in `clip_layout.clip_folders`.
    options: the options `images` and `align`.
    dataset: name of the dataset in messages.
    instructions: text added to an error.

  Returns:
    The folders of each clip; and a report row if `images` is "auto" and only the other kind exists.

  Raises:
    ValueError: there are none; the message states what manual_dir must hold.
  """
  folders, cropped = clip_folders(tree, key, options.images, options.align)
  if cropped is None:
    _, other = clip_folders(tree, key, "auto", options.align)
    if other is not None:
      kind = "cropped" if other else "raw"
      raise ValueError(
        f"manual_dir {tree.top} holds only {kind} frames of {dataset}: give images={kind} or auto"
      )
    hint = dataset.partition(" ")[0]
    raise ValueError(describe_missing(tree.top, f"frames of {dataset}", hint=hint) + instructions)
  if options.images == "auto" and cropped == options.align:
    kind = "cropped" if cropped else "raw"
    return folders, [ReportRow(dataset, f"only_{kind}", {"detail": f"only {kind} frames exist"})]
  return folders, []


def _or_unknown(number: int | None) -> int:
  return -1 if number is None else number
