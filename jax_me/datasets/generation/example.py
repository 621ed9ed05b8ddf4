"""What a task of a build hands back: images to store, and what became of every source file.

Worker processes import this, so it imports nothing of TFDS.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Example:
  """One image of a dataset, ready to store.

  Attributes:
    image: encoded bytes, JPEG or PNG.
    label: class name, one of the builder's label names.
    file: relative name of the source, unique in the split.
    subject: the person, "" unknown.
    clip: the recording, "" for a single photograph.
    frame: position in the clip, -1 unknown.
    onset, apex, offset: frame numbers of the expression in its clip, -1 unknown.
    database: source dataset, "" when there is only one.
    targets: probability of every class where the dataset has shares of votes, else empty. Kept in
      the index only.
  """

  image: bytes
  label: str
  file: str
  subject: str = ""
  clip: str = ""
  frame: int = -1
  onset: int = -1
  apex: int = -1
  offset: int = -1
  database: str = ""
  targets: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
  """What became of one source file: a row of the build's report.

  Attributes:
    file: its relative name; "name#2" for a second thing taken from one file.
    status: "ok" when it is stored unharmed, else a word for what happened.
    details: further JSON values of the row.
    digest: SHA-256 of the source's bytes in hex, "" when it was not read. The base finds equal
      contents by it, within and across splits, and adds `same_content_as` to the row.
  """

  file: str
  status: str
  details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  digest: str = ""


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What one task gave.

  Attributes:
    examples: the images to store, in order.
    rows: what became of the source files, in order.
    found: labels of the annotations that the task handled, whether or not their images could be
      stored; compared with the published numbers.
  """

  examples: tuple[Example, ...] = ()
  rows: tuple[Row, ...] = ()
  found: tuple[str, ...] = ()
