"""Common base of the micro-expression datasets: options and the split of clips.

A builder subclasses ClipDataset and lists its clips; there is one split, "train", from which folds
are formed by subject (`jax_me.data.folds`).
"""

import abc
import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping
from typing import TypeVar

from jax_me.data.clip_inputs.inputs import check_input
from jax_me.datasets.generation.base_builder import BuilderOptions, FaceDataset
from jax_me.datasets.generation.example import ReportRow
from jax_me.datasets.generation.process_images import check_encoding
from jax_me.datasets.generation.source_files import walk_files
from jax_me.datasets.generation.split import Split
from jax_me.datasets.micro.process_clips import (
  APEX_POLICIES,
  COMPUTED_INPUTS,
  REQUIRED_FRAMES,
  Clip,
  ClipTask,
  examples_per_clip,
  run_clip_task,
)
from jax_me.faces.alignment import check_settings
from jax_me.faces.image_files import is_image_name

DEFAULT_SIZE = 224
SHEET_SUFFIXES = (".xlsx", ".xls", ".csv")
# Starting a worker takes about two seconds, as long as this many clips.
TASKS_PER_WORKER = 10


@dataclasses.dataclass(frozen=True)
class ClipOptions(BuilderOptions):
  """Options of a dataset of clips.

  Attributes:
    input: kind of the examples of a clip, see `jax_me.data.clip_inputs.inputs`: "apex",
      "key_frames" (onset, apex, offset: three examples), "pair", "dynamic", "flow" or "frames".
    frames: examples per clip for the input "frames", evenly spaced from onset to offset; 0 takes
      all. Ignored for the others.
    align: crop and align the face with dlib; all frames of a clip share the transform of its onset
      frame. False takes the release's images as they are.
    size: side of the stored images in pixels. 0 means 224, except for single frames that are not
      aligned: these keep their shape and, for ordinary JPEG and PNG, their bytes. Images that are
      not aligned are stretched to a square.
    on_no_face: for align, clips in which dlib finds no face: "skip", "center" or "error".
    encoding: "png" (lossless) or "jpg" (quality 95).
    apex_policy: for inputs with an apex, clips without a usable one: "middle" takes the frame
      half-way from onset to offset, which the report states; "skip" leaves the clip out. The stored
      `apex` is -1 either way.
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
    check_encoding(self.encoding)
    if self.apex_policy not in APEX_POLICIES:
      known = ", ".join(APEX_POLICIES)
      raise ValueError(f"apex_policy must be one of {known}: {self.apex_policy!r}")
    if self.size == 0 and (self.align or self.input in COMPUTED_INPUTS):
      object.__setattr__(self, "size", DEFAULT_SIZE)
    check_settings(self.size or DEFAULT_SIZE, self.on_no_face)
    unused = [] if self.align else ["on_no_face"]
    unused += [] if self.size else ["encoding"]
    unused += [] if self.input == "frames" else ["frames"]
    unused += [] if "apex" in REQUIRED_FRAMES[self.input] else ["apex_policy"]
    self._reset(*unused)


ClipOptionsT = TypeVar("ClipOptionsT", bound=ClipOptions)


class ClipDataset(FaceDataset[ClipOptionsT]):
  """A dataset of clips. Subclasses define `list_clips`, `label_names` and `known_counts`."""

  Options = ClipOptions

  @classmethod
  @abc.abstractmethod
  def list_clips(
    cls, options: ClipOptionsT, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[ReportRow]]:
    """Lists the clips in a fixed order, also those without frames, and rows for what is left out.

    Raises:
      ValueError: manual_dir does not hold the dataset; the message says what it must hold.
    """

  @classmethod
  def fingerprint(cls, options: ClipOptionsT, manual_dir: pathlib.Path) -> str:
    """Hash of the names of all images, and of the names, sizes and times of all tables.

    Sizes and times of a hundred thousand frames are not read: on a network disk that takes minutes
    at every start.
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
  def config_title(cls, options: ClipOptionsT) -> str:
    kind = "aligned" if options.align else "original"
    return f"{options.input}_{kind}" + (f"_{options.size}" if options.size else "")

  def splits(self) -> dict[str, Split]:
    options = self.options
    clips, problems = self.list_clips(options, self.manual_dir)
    for row in problems:
      self.report(row.file, row.status, **row.details)
    tasks = [
      ClipTask(
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
    return {"train": Split(run_clip_task, tasks, total, tasks_per_worker=TASKS_PER_WORKER)}

  def example_counts(self, clips: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """For `known_counts`: converts numbers of clips to numbers of examples; {} if unknown."""
    count = examples_per_clip(self.options.input, self.options.frames)
    return {"train": {label: count * number for label, number in clips.items()}} if count else {}
