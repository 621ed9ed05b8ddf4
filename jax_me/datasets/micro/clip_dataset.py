"""What the datasets of micro-expression clips share: options, the one split, the work on a clip.

A builder subclasses ClipDataset and lists its clips; there is one split, "train", from which folds
are formed by subject (`jax_me.data.folds`).
"""

import abc
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

from jax_me.data.clip_inputs.inputs import check_input
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.example import Row
from jax_me.datasets.generation.source_files import walk_files
from jax_me.datasets.generation.split import Split
from jax_me.datasets.micro.process_clips import (
  APEX_POLICIES,
  COMPUTED,
  MOMENTS,
  Clip,
  Task,
  examples_per_clip,
  run_task,
)
from jax_me.faces.alignment import check_settings
from jax_me.faces.image_files import is_image_name

ENCODINGS = ("png", "jpg")
DEFAULT_SIZE = 224
SHEET_SUFFIXES = (".xlsx", ".xls", ".csv")
# A worker takes about two seconds to start, as long as this many clips.
TASKS_PER_WORKER = 10


@dataclasses.dataclass(frozen=True)
class ClipOptions:
  """What changes the content of a dataset of clips.

  Attributes:
    input: what the examples of a clip show, see `jax_me.data.clip_inputs.inputs`: "apex",
      "key_frames" (onset, apex, offset: three examples), "pair", "dynamic", "flow" or "frames".
    frames: examples a clip for the input "frames", evenly spaced from onset to offset; 0 takes
      all. Without meaning for the others.
    align: cut out and align the face with dlib; all frames of a clip share the transform of its
      onset frame. False takes the release's pictures as they are.
    size: side of the stored squares in pixels. 0 means 224, except for single frames that are not
      aligned: these keep their shape and, where every reader can show them, their bytes.
      Pictures that are not aligned are stretched to the square.
    on_no_face: for align, clips in which dlib finds no face: "skip", "center" or "error".
    encoding: "png" (lossless) or "jpg" (quality 95).
    apex_policy: for inputs with an apex, clips without a usable one: "middle" takes the frame
      half-way from onset to offset and says so in the report, "skip" leaves the clip out. The
      stored `apex` is -1 either way.
  """

  input: str = "apex"
  frames: int = 8
  align: bool = True
  size: int = 0
  on_no_face: str = "skip"
  encoding: str = "png"
  apex_policy: str = "middle"

  def __post_init__(self):
    check_input(self.input, self.frames)
    choices = {"encoding": ENCODINGS, "apex_policy": APEX_POLICIES}
    for name, known in choices.items():
      if getattr(self, name) not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}: {getattr(self, name)!r}")
    if self.size == 0 and (self.align or self.input in COMPUTED):
      object.__setattr__(self, "size", DEFAULT_SIZE)
    check_settings(self.size or DEFAULT_SIZE, self.on_no_face)
    # Settings that change nothing must not make another dataset.
    idle = [] if self.align else ["on_no_face"]
    idle += [] if self.size else ["encoding"]
    idle += [] if self.input == "frames" else ["frames"]
    idle += [] if "apex" in MOMENTS[self.input] else ["apex_policy"]
    for field in idle:
      object.__setattr__(self, field, type(self).__dataclass_fields__[field].default)


class ClipDataset(FaceDataset):
  """A dataset of clips. Subclasses define `list_clips`, `label_names` and `known_counts`."""

  Options = ClipOptions

  @classmethod
  @abc.abstractmethod
  def list_clips(cls, options: Any, manual_dir: pathlib.Path) -> tuple[list[Clip], list[Row]]:
    """The clips in a fixed order, those without frames too, and rows for what is left out.

    Raises:
      ValueError: manual_dir does not hold the dataset; the message says what it must hold.
    """

  @classmethod
  def fingerprint(cls, options: Any, manual_dir: pathlib.Path) -> str:
    """Names of all images; names, sizes and times of all tables.

    A hundred thousand frames are not asked for size and time: on a network disk that takes
    minutes at every start.
    """
    del options
    digest = hashlib.sha256()
    for name in walk_files(manual_dir):
      if name.lower().endswith(SHEET_SUFFIXES):
        status = (manual_dir / name).stat()
        name = f"{name}\0{status.st_size}\0{status.st_mtime_ns}"
      elif not is_image_name(pathlib.PurePosixPath(name).name):
        continue
      digest.update(f"{name}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()

  @classmethod
  def config_title(cls, options: Any) -> str:
    how = "aligned" if options.align else "original"
    return f"{options.input}_{how}" + (f"_{options.size}" if options.size else "")

  def splits(self) -> dict[str, Split]:
    options = self.options
    clips, problems = self.list_clips(options, self.manual_dir)
    for row in problems:
      self.report(row.file, row.status, **row.details)
    tasks = [
      Task(
        folder=str(self.manual_dir),
        clip=clip,
        input=options.input,
        frames=options.frames,
        align=options.align,
        size=options.size,
        on_no_face=options.on_no_face,
        encoding=options.encoding,
        apex_policy=options.apex_policy,
      )
      for clip in clips
    ]
    total = examples_per_clip(options.input, options.frames) * len(clips) or None
    return {"train": Split(run_task, tasks, total, tasks_per_worker=TASKS_PER_WORKER)}

  def counts_of_examples(self, clips: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """For `known_counts`: numbers of clips as numbers of this input's examples; {} if unknown."""
    each = examples_per_clip(self.options.input, self.options.frames)
    return {"train": {label: each * count for label, count in clips.items()}} if each else {}
