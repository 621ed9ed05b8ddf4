"""Processing of a micro-expression clip: read its frames, align them, compute the input, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jax_me.bounded_reading import read_file, time_limit
from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.datasets.generation.process_images import is_portable_image
from jax_me.datasets.generation.tasks import Example, ReportRow, Skipped, TaskResult
from jax_me.datasets.micro.clip_options import (
  COMPUTED_INPUTS,
  REQUIRED_FRAMES,
  ClipOptions,
  examples_per_clip,
)
from jax_me.faces.alignment import ClipAligner, NoFaceError
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image
from jax_me.image_preparation import resize_image

# A missing frame is replaced by one at most this many frames away.
MAX_FRAME_DISTANCE = 3
# Number of frames searched for a face, evenly spaced from onset to offset.
FACE_SEARCH_FRAMES = 8


@dataclasses.dataclass(frozen=True)
class Clip:
  """One labelled clip.

  Attributes:
    file: its name, unique in the dataset and free of local folders, such as "sub01/EP02_01f".
    label: class name.
    subject: the person.
    clip: the recording, unique for the subject.
    onset, apex, offset: frame numbers as annotated, -1 if unknown. The first or last frame replaces
      an unknown onset or offset.
    frames: (number, path below manual_dir) of each frame, ascending; () when none was found.
    database: source dataset, "" when there is only one.
    note: remark for the report, "" for none.
  """

  file: str
  label: str
  subject: str
  clip: str
  onset: int = -1
  apex: int = -1
  offset: int = -1
  frames: tuple[tuple[int, str], ...] = ()
  database: str = ""
  note: str = ""


@dataclasses.dataclass(frozen=True)
class KeyFrames:
  """Available frames that represent the onset, apex and offset of a clip.

  Attributes:
    onset, apex, offset: frame numbers, onset <= apex <= offset.
    has_apex: whether the annotation has a usable apex; else `apex` is the middle frame.
    remarks: status -> detail, for the report.
  """

  onset: int
  apex: int
  offset: int
  has_apex: bool
  remarks: dict[str, str]

  @property
  def moments(self) -> dict[str, int]:
    """The three frame numbers by name."""
    return {"onset": self.onset, "apex": self.apex, "offset": self.offset}


class _FrameReader:
  """The frames of a clip, read on request and cached."""

  def __init__(self, folder: str, frames: Sequence[tuple[int, str]]):
    self.data: dict[int, bytes] = {}
    self.unreadable: dict[str, str] = {}
    self._paths = dict(frames)
    self._folder = pathlib.Path(folder)
    self.images: dict[int, np.ndarray] = {}

  def available(self) -> list[int]:
    """Numbers of the frames not found unreadable so far, ascending."""
    return sorted(self._paths)

  def name(self, number: int) -> str:
    return pathlib.PurePosixPath(self._paths[number]).name

  def read(self, number: int) -> np.ndarray | None:
    """Returns uint8 [H, W, 3] RGB; None if unreadable, which removes it from `available`."""
    if number not in self.images:
      try:
        with time_limit():
          data = read_file(self._folder / self._paths[number])
          self.images[number] = read_image(data)
      except (OSError, UnreadableImage) as error:
        reason = error.reason if isinstance(error, UnreadableImage) else error.strerror
        self.unreadable[self.name(number)] = reason or str(error)
        del self._paths[number]
        return None
      self.data[number] = data
    return self.images[number]


@dataclasses.dataclass(frozen=True)
class ClipProcessor:
  """Makes the examples of a clip from its frames.

  Attributes:
    folder: folder of the frames.
    options: input, alignment and encoding.
  """

  folder: str
  options: ClipOptions

  def __call__(self, clip: Clip) -> TaskResult:
    """Processes one clip.

    Raises:
      ValueError: no face in the clip, and on_no_face is "error"; the message names the clip.
    """
    options = self.options
    frames = _FrameReader(self.folder, clip.frames)
    details: dict[str, object] = {}
    digest = ""
    examples: tuple[Example, ...] = ()
    try:
      key_frames, needed = self._read_needed_frames(clip, frames)
      digest = _digest(frames, needed)
      if not key_frames.has_apex and "apex" in REQUIRED_FRAMES[options.input]:
        details |= {"apex": "middle", "apex_frame": key_frames.apex}
      remarks = dict(key_frames.remarks)
      if frames.unreadable:
        remarks["replaced_frames"] = _summarize(frames.unreadable)
      prepared = self._prepare_frames(frames, key_frames, needed, details, remarks)
      examples = tuple(self._examples(clip, frames, key_frames, prepared))
    except Skipped as skipped:
      remarks = {skipped.status: skipped.detail}
    except NoFaceError as error:
      raise ValueError(f"clip {clip.file}: {error}") from error
    status, *others = remarks or {"ok": ""}
    details = {"detail": remarks.get(status, ""), "note": clip.note, **details}
    details |= {other: remarks[other] for other in others}
    row = ReportRow(clip.file, status, {k: v for k, v in details.items() if v != ""}, digest)
    # Published counts are of clips; a clip has this many examples if all could be stored.
    found = examples_per_clip(options.input, options.frames) or len(examples)
    return TaskResult(examples, (row,), (clip.label,) * found)

  def _read_needed_frames(self, clip: Clip, frames: _FrameReader) -> tuple[KeyFrames, list[int]]:
    """Returns the key frames, and the frames that the input needs, all of them readable."""
    options = self.options
    while True:
      available = frames.available()
      try:
        key_frames = choose_key_frames(clip, available, options.input, options.apex_policy)
      except Skipped as skipped:
        if frames.unreadable:
          raise Skipped("unreadable", _summarize(frames.unreadable)) from skipped
        raise
      needed = frames_needed(
        options.input, **key_frames.moments, available=available, count=options.frames
      )
      if options.input == "apex" and not options.align:
        needed = [key_frames.apex]  # The onset would only serve to detect the face.
      if all([frames.read(number) is not None for number in needed]):
        return key_frames, needed

  def _prepare_frames(
    self,
    frames: _FrameReader,
    key_frames: KeyFrames,
    needed: list[int],
    details: dict[str, object],
    remarks: dict[str, str],
  ) -> dict[int, np.ndarray]:
    """Aligns or resizes the frames; adds to the details and remarks of the report."""
    options = self.options
    images = {number: frames.images[number] for number in needed}
    shapes = {image.shape for image in images.values()}
    if len(shapes) > 1 and (options.align or options.input in COMPUTED_INPUTS):
      sizes = sorted(f"{width} x {height}" for height, width, _ in shapes)
      raise Skipped("size_mismatch", f"its frames have {' and '.join(sizes)} pixels")
    if not options.align:
      return {
        # As at inference; size 0 stores the frames as they are.
        number: resize_image(image, options.size) if options.size else image
        for number, image in images.items()
      }
    aligner = self._find_aligner(frames, key_frames, shapes.pop())
    if aligner.chip is None:
      raise Skipped("no_face", f"in {FACE_SEARCH_FRAMES} frames from onset to offset")
    record = aligner.record
    details |= {key: record[key] for key in ("faces", "box", "transform", "reference")}
    if record["status"] != "ok":
      remarks[record["status"]] = ""
    return {number: aligner.chip.extract(image) for number, image in images.items()}

  def _find_aligner(
    self, frames: _FrameReader, key_frames: KeyFrames, shape: tuple[int, ...]
  ) -> ClipAligner:
    """Returns the transform of the clip: from its onset, or the first later frame with a face."""
    inside = [n for n in frames.available() if key_frames.onset <= n <= key_frames.offset]
    positions = np.unique(np.rint(np.linspace(0, len(inside) - 1, FACE_SEARCH_FRAMES)).astype(int))

    def candidates() -> Iterator[tuple[int, np.ndarray]]:
      for number in (inside[position] for position in positions):
        image = frames.read(number)
        if image is not None and image.shape == shape:
          yield number, image

    options = self.options
    aligner = ClipAligner.of_clip(candidates(), options.size, options.on_no_face, options.detector)
    assert aligner is not None, "the onset is a candidate"
    return aligner

  def _examples(
    self,
    clip: Clip,
    frames: _FrameReader,
    key_frames: KeyFrames,
    prepared: dict[int, np.ndarray],
  ) -> Iterator[Example]:
    options = self.options
    images = make_clip_images(options.input, prepared, **key_frames.moments, count=options.frames)
    for number, image in images:
      original = not options.size and is_portable_image(frames.data[number])
      yield Example(
        image=frames.data[number] if original else encode_image(image, options.encoding),
        label=clip.label,
        file=f"{clip.file}/{number}",
        subject=clip.subject,
        clip=clip.clip,
        frame=number,
        onset=clip.onset if clip.onset >= 0 else key_frames.onset,
        apex=clip.apex if key_frames.has_apex else -1,
        offset=clip.offset if clip.offset >= 0 else key_frames.offset,
        database=clip.database,
      )


def choose_key_frames(
  clip: Clip, available: Sequence[int], input: str, apex_policy: str
) -> KeyFrames:
  """Chooses which of the available frames represent the onset, apex and offset.

  Args:
    clip: the clip, as annotated.
    available: ascending numbers of the available frames.
    input: one of `clip_inputs.INPUTS`; frames that it does not require may be missing.
    apex_policy: without a usable annotated apex: "middle" of onset and offset, or "skip".

  Returns:
    The frames.

  Raises:
    Skipped: a required frame is missing, or the annotation is invalid.
  """
  if not available:
    raise Skipped("missing_frames", "no frame of this clip was found")
  onset = clip.onset if clip.onset >= 0 else available[0]
  offset = clip.offset if clip.offset >= 0 else available[-1]
  if offset < onset:
    raise Skipped("bad_annotation", f"offset {offset} is before onset {onset}")
  remarks = {}
  apex, has_apex = clip.apex, onset <= clip.apex <= offset
  if not has_apex:
    missing = apex < 0
    status = "no_apex" if missing else "apex_out_of_range"
    text = "no apex is annotated" if missing else f"apex {apex} is not in [{onset}, {offset}]"
    if "apex" in REQUIRED_FRAMES[input]:
      if apex_policy == "skip":
        raise Skipped(status, text)
      if not missing:
        remarks[status] = text
    apex = (onset + offset) // 2
  chosen = {}
  moved = []
  for name, number in (("onset", onset), ("apex", apex), ("offset", offset)):
    near = chosen[name] = _nearest(available, number)
    if name not in REQUIRED_FRAMES[input] or near == number:
      continue
    estimated = name == "apex" and not has_apex
    # An estimated apex may be any frame of the expression.
    low, high = (onset, offset) if estimated else (number, number)
    if not low - MAX_FRAME_DISTANCE <= near <= high + MAX_FRAME_DISTANCE:
      raise Skipped("missing_frames", f"{name} frame {number}; the nearest is {near}")
    if not estimated:
      moved.append(f"{name} {number}: {near}")
  if moved:
    remarks["nearest_frame"] = ", ".join(moved)
  if input in ("pair", "flow") and chosen["onset"] == chosen["apex"]:
    remarks["apex_at_onset"] = f"both are frame {chosen['onset']}: the image shows no motion"
  return KeyFrames(**chosen, has_apex=has_apex, remarks=remarks)


def _nearest(numbers: Sequence[int], wanted: int) -> int:
  return min(numbers, key=lambda number: (abs(number - wanted), number))


def _digest(frames: _FrameReader, needed: Sequence[int]) -> str:
  digest = hashlib.sha256()
  for number in needed:
    digest.update(frames.data[number])
  return digest.hexdigest()


def _summarize(reasons: dict[str, str]) -> str:
  name, reason = next(iter(reasons.items()))
  more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
  return f"{name}: {reason}{more}"
