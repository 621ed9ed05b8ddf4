"""Search for clips below a folder: folders of numbered frames, and annotation tables.

Copies are nested differently, so clips are identified by the names of their own folders and of the
folders directly above, at any depth.
"""

import collections
import dataclasses
import pathlib
import re
from collections.abc import Sequence

from jax_me.csv_files import TableError
from jax_me.datasets.generation.source_files import describe_missing, walk_files
from jax_me.datasets.generation.tables import read_table
from jax_me.faces.image_files import is_image_name
from jax_me.faces.input_files import frame_number

IMAGES = ("auto", "raw", "cropped")
TABLE_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".csv")

# Column with the names of the clips.
CLIP = "Filename"

_DIGITS = re.compile(r"\d+")

Key = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class ClipFolder:
  """A folder of frames.

  Attributes:
    path: path below the top folder, with forward slashes.
    cropped: whether these are the release's face crops, according to the names of the frames
      ("reg_img46.jpg") or of a folder ("Cropped").
    frames: (number, path below the top folder), ascending.
  """

  path: str
  cropped: bool
  frames: tuple[tuple[int, str], ...]

  @property
  def parts(self) -> tuple[str, ...]:
    """Names of the folders, from the top one to the clip's own."""
    return pathlib.PurePosixPath(self.path).parts


@dataclasses.dataclass(frozen=True)
class FolderTree:
  """Clips and tables below a folder.

  Attributes:
    top: the folder.
    folders: all folders with numbered frames, by name.
    tables: paths below `top` of all tables, by name.
  """

  top: pathlib.Path
  folders: tuple[ClipFolder, ...]
  tables: tuple[str, ...]


def read_tree(top: pathlib.Path) -> FolderTree:
  """Lists the clips and tables below a folder without opening a file."""
  groups: dict[tuple[str, bool], dict[int, str]] = collections.defaultdict(dict)
  tables = []
  for name in walk_files(top):
    parent, _, base = name.rpartition("/")
    if base.lower().endswith(TABLE_SUFFIXES) and not base.startswith("~$"):  # Excel's lock files
      tables.append(name)
    elif is_image_name(base) and (number := frame_number(base)) is not None:
      cropped = base.lower().startswith("reg_") or "crop" in parent.lower()
      groups[parent, cropped].setdefault(number, name)
  folders = [
    ClipFolder(path, cropped, tuple(sorted(frames.items())))
    for (path, cropped), frames in sorted(groups.items())
  ]
  return FolderTree(top, tuple(folders), tuple(tables))


def clip_key(name: str) -> str:
  """Key that is equal for all spellings of a clip: "s01_ne_01", "S1_ne_1"; "006_1_2", "6_1_2"."""
  return _DIGITS.sub(lambda digits: str(int(digits[0])), name.strip().casefold())


def format_subject(cell: object, prefix: str, width: int) -> str | None:
  """Returns the name of a subject from any spelling: 1, "01" or "sub1" -> "sub01".

  Args:
    cell: a table cell or the name of a folder; its last number counts.
    prefix: of the name.
    width: digits of the number, zero-padded.

  Returns:
    The name; None if the cell has no number.
  """
  digits = _DIGITS.findall(str(cell))
  return f"{prefix}{int(digits[-1]):0{width}d}" if digits else None


def single_folder(tree: FolderTree, folders: Sequence[ClipFolder]) -> ClipFolder:
  """Returns the only folder of a clip.

  Raises:
    ValueError: the clip was found more than once.
  """
  if len(folders) > 1:
    paths = " and ".join(folder.path for folder in folders[:2])
    raise ValueError(f"manual_dir {tree.top} holds a clip twice: {paths}; give one copy's folder")
  return folders[0]


def find_table(
  tree: FolderTree,
  *,
  pattern: str,
  header: Sequence[str],
  chosen: str,
  instructions: str,
  clip_names: str = "",
  option: str = "table",
) -> pathlib.Path:
  """Finds the annotation table.

  Args:
    tree: the tables.
    pattern: regular expression searched for in the lower-case file names. If none matches, tables
      that have the header and list clips of the dataset are taken.
    header: required columns.
    chosen: path or name given by the user; "" searches.
    instructions: text added to an error.
    clip_names: regular expression for the lower-case names of the dataset's clips, in the column
      CLIP; "" for any.
    option: name of the dataset's option that selects the table.

  Returns:
    Path of the table.

  Raises:
    ValueError: there is none, not that one, or more than one.
  """
  if chosen:
    found = [name for name in tree.tables if name == chosen or name.rpartition("/")[2] == chosen]
  else:
    names = {name: name.rpartition("/")[2].lower() for name in tree.tables}
    usual = [name for name in names if "objective" not in names[name]]
    found = [name for name in usual if re.search(pattern, names[name])]
    if not found:
      found = [name for name in usual if _lists_clips(tree.top / name, header, clip_names)]
  if not found:
    default = f"table of annotations with the columns {', '.join(header)}"
    what = f"table {chosen!r}" if chosen else default
    raise ValueError(describe_missing(tree.top, what) + instructions)
  if len(found) > 1:
    raise ValueError(
      f"manual_dir {tree.top} holds more than one table of annotations: {', '.join(found)}. "
      f"Choose one with the option {option} (--config.data.options.{option}={found[0]})."
    )
  return tree.top / found[0]


def _lists_clips(path: pathlib.Path, header: Sequence[str], clip_names: str) -> bool:
  try:
    rows = read_table(path, header=header)
  except TableError:
    return False
  names = (str(row[CLIP]).strip().lower() for row in rows) if clip_names else ()
  return not clip_names or any(re.fullmatch(clip_names, name) for name in names)
