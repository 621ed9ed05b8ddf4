"""Datasets of a table of annotated clips and of folders with their frames.

A builder subclasses TableClips and states the table's columns, the classes and the known counts.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from jax_me.data.labels import canonical_label
from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.find_files import describe_missing
from jax_me.datasets.generation.tables import ROW, read_table, whole_number
from jax_me.datasets.micro.clip_dataset import ClipDataset, ClipOptions
from jax_me.datasets.micro.clip_layout import (
  IMAGES,
  ClipFolder,
  Key,
  Tree,
  clip_folders,
  find_table,
  join_key,
  only_folder,
  read_tree,
)
from jax_me.datasets.micro.process_clips import Clip


@dataclasses.dataclass(frozen=True)
class AnnotatedClipOptions(ClipOptions):
  """Options of releases with raw and cropped frames and a table of annotations.

  Attributes:
    images: "raw" frames, the release's own "cropped" faces, or "auto": raw for align, else
      cropped; where only the other is there, that, which the report then says.
    table: name of the table of annotations, where manual_dir holds more than one.
  """

  images: str = "auto"
  table: str = ""

  def __post_init__(self):
    super().__post_init__()
    if self.images not in IMAGES:
      raise ValueError(f"images must be one of {', '.join(IMAGES)}: {self.images!r}")


@dataclasses.dataclass(frozen=True)
class Columns:
  """Names of the columns that a table has."""

  subject: str
  clip: str
  onset: str
  apex: str
  offset: str
  emotion: str

  def header(self) -> tuple[str, ...]:
    return dataclasses.astuple(self)


class TableClips(ClipDataset):
  """A dataset whose table of annotations lists its clips.

  Attributes:
    title: the dataset's name for people.
    columns: of the table.
    table_names: regular expression, searched for in the lower-case names of tables.
    clip_names: regular expression for the lower-case names of clips; "" for any.
    classes: number of classes -> class, in the order of the codes -> expressions it is made of.
    counts: expression -> published number of clips.
    notes: clip's file -> what is known to be odd about it.
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
  def subject_name(cls, cell: Any) -> str | None:
    """The person's name from a cell or from a folder's name; None without a number."""

  @classmethod
  @abc.abstractmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """The person's name and `join_key` of the clip; None for folders of something else."""

  @classmethod
  def config_title(cls, options: Any) -> str:
    return f"{options.classes}_{super().config_title(options)}"

  @classmethod
  def label_names(cls, options: Any, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del manual_dir
    return tuple(cls.classes[options.classes])

  def known_counts(self) -> dict[str, dict[str, int]]:
    classes = self.classes[self.options.classes]
    counts = {name: sum(self.counts[e] for e in parts) for name, parts in classes.items()}
    return self.counts_of_examples(counts)

  @classmethod
  def list_clips(
    cls, options: Any, manual_dir: pathlib.Path, table_option: str = "table"
  ) -> tuple[list[Clip], list[Row]]:
    """As in `ClipDataset`; `table_option` is what errors call the option for the table."""
    instructions = str(cls.MANUAL_DOWNLOAD_INSTRUCTIONS)
    tree = read_tree(manual_dir)
    folders, told = frame_folders(
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
    clips, problems = clips_of_table(
      table,
      cls.columns,
      folders,
      tree=tree,
      subject=cls.subject_name,
      classes={emotion: name for name, parts in classes.items() for emotion in parts},
      notes=cls.notes,
    )
    return clips, told + problems


def clips_of_table(
  path: pathlib.Path,
  columns: Columns,
  folders: Mapping[Key, Sequence[ClipFolder]],
  *,
  tree: Tree,
  subject: Callable[[Any], str | None],
  classes: Mapping[str, str],
  notes: Mapping[str, str],
) -> tuple[list[Clip], list[Row]]:
  """One clip a row, in the table's order; one without frames where there is no folder.

  Args:
    path: the table.
    columns: its columns.
    folders: as `clip_layout.clip_folders` gives them.
    tree: where the folders lie.
    subject: the person's name from the cell.
    classes: expression -> class; clips of other expressions are left out, with a row.
    notes: clip's file -> what is known to be odd about it.

  Raises:
    ValueError: the table cannot be read, or a clip lies there twice.
  """
  clips: dict[str, Clip] = {}
  problems = []
  listed = set()
  for row in read_table(path, header=columns.header()):
    person = subject(row[columns.subject])
    name = str(row[columns.clip] or "").strip()
    file = f"{person}/{name}"
    emotion = row[columns.emotion]
    where = {"table": path.name, "row": row[ROW]}
    if person is None or not name or emotion is None:
      # Notes that stand below a table are no clips.
      problems.append(Row(f"{path.name}#{row[ROW]}", "no_clip", where))
      continue
    key = (person, join_key(name))
    if key in listed:
      problems.append(Row(f"{file}#{row[ROW]}", "listed_twice", where))
      continue
    listed.add(key)
    try:
      onset, apex, offset = (
        whole_number(row[column]) for column in (columns.onset, columns.apex, columns.offset)
      )
    except ValueError as error:
      problems.append(Row(file, "bad_annotation", {"detail": str(error), **where}))
      continue
    label = canonical_label(str(emotion))
    if label not in classes:
      problems.append(Row(file, "other_label", {"detail": label}))
      continue
    note = [notes[file]] if file in notes else []
    if onset is not None and offset is not None and offset < onset:
      # The folders hold little more than the expression, so their last frame can stand for it.
      note.append(f"the annotated offset {offset} lies before the onset; the last frame is used")
      offset = None
    found = folders.get(key, ())
    clips[file] = Clip(
      file=file,
      label=classes[label],
      subject=person,
      clip=name,
      onset=_or_unknown(onset),
      apex=_or_unknown(apex),
      offset=_or_unknown(offset),
      frames=only_folder(tree, found).frames if found else (),
      note="; ".join(note),
    )
  strangers = [places[0].place for key, places in folders.items() if key not in listed]
  problems += [Row(place, "not_listed", {"table": path.name}) for place in sorted(strangers)]
  return list(clips.values()), problems


def frame_folders(
  tree: Tree,
  key: Callable[[ClipFolder], Key | None],
  options: AnnotatedClipOptions,
  *,
  dataset: str,
  instructions: str,
) -> tuple[dict[Key, list[ClipFolder]], list[Row]]:
  """The folders of a dataset's frames, and a row where they are not what "auto" would rather have.

  Raises:
    ValueError: there are none; the message says what manual_dir must hold.
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
    what = "cropped" if cropped else "raw"
    return folders, [Row(dataset, f"only_{what}", {"detail": f"only {what} frames are there"})]
  return folders, []


def _or_unknown(number: int | None) -> int:
  return -1 if number is None else number
