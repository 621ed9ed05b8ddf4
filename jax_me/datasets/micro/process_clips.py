"""The work on one clip of a micro-expression dataset: read its frames, align them, make the input.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.data.decoding import resize_image
from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.labeled_folder.process_files import is_plain
from jax_me.faces.alignment import ClipAligner, NoFaceError
from jax_me.faces.detector import find_faces
from jax_me.faces.image_files import UnreadableImage, encode_image, read_image

APEX_POLICIES = ("middle", "skip")
# The frames that an input cannot do without.
MOMENTS = {
  "apex": ("apex",),
  "key_frames": ("onset", "apex", "offset"),
  "pair": ("onset", "apex"),
  "dynamic": ("onset", "offset"),
  "flow": ("onset", "apex"),
  "frames": ("onset", "offset"),
}
# Inputs that compute one picture from several frames, which must then have one size.
COMPUTED = ("pair", "dynamic", "flow")
# A frame that cannot be had is replaced by one at most this far away.
NEAREST = 3
# Frames of a clip that are searched for a face, evenly spaced from the onset on.
SEARCHED = 8


@dataclasses.dataclass(frozen=True)
class Clip:
  """One labelled clip.

  Attributes:
    file: its name, unique in the dataset and free of local folders, such as "sub01/EP02_01f".
    label: class name.
    subject: the person.
    clip: the recording, unique for the person.
    onset, apex, offset: frame numbers as annotated, -1 unknown. Without onset or offset the first
      or last frame stands for it.
    frames: (number, path below manual_dir) of each frame, ascending; () when none was found.
    database: source dataset, "" when there is only one.
    note: what the report shall say about the clip, "" nothing.
  """

  file: str
  label: str
  subject: str
  clip: str
  onset: int
  apex: int
  offset: int
  frames: tuple[tuple[int, str], ...]
  database: str = ""
  note: str = ""


@dataclasses.dataclass(frozen=True)
class Task:
  """One clip, where it lies, and what to make of it; see `clips.ClipOptions`."""

  folder: str
  clip: Clip
  input: str
  frames: int
  align: bool
  size: int
  on_no_face: str
  encoding: str
  apex_policy: str


@dataclasses.dataclass(frozen=True)
class Moments:
  """Frames that stand for a clip's onset, apex and offset, all of which can be read.

  Attributes:
    onset, apex, offset: frame numbers, onset <= apex <= offset.
    has_apex: whether the annotation has a usable apex; else the middle frame stands for it.
    remarks: what a user should know, status -> detail.
  """

  onset: int
  apex: int
  offset: int
  has_apex: bool
  remarks: dict[str, str]


class _LeftOut(ValueError):
  """A clip that is not stored: the status for the report, and its detail."""

  def __init__(self, status: str, detail: str):
    super().__init__(status, detail)
    self.status, self.detail = status, detail


class _Frames:
  """The frames of a clip, read when asked for."""

  def __init__(self, folder: str, frames: Sequence[tuple[int, str]]):
    self.data: dict[int, bytes] = {}
    self.unreadable: dict[str, str] = {}
    self._paths = dict(frames)
    self._folder = pathlib.Path(folder)
    self._images: dict[int, np.ndarray] = {}

  def available(self) -> list[int]:
    """Numbers of the frames that are not known to be broken, ascending."""
    return sorted(self._paths)

  def name(self, number: int) -> str:
    return pathlib.PurePosixPath(self._paths[number]).name

  def read(self, number: int) -> np.ndarray | None:
    """uint8 [H, W, 3] RGB; None when broken, and then it is no longer available."""
    if number not in self._images:
      try:
        data = (self._folder / self._paths[number]).read_bytes()
        self._images[number] = read_image(data)
      except (OSError, UnreadableImage) as error:
        reason = error.reason if isinstance(error, UnreadableImage) else error.strerror
        self.unreadable[self.name(number)] = reason or str(error)
        del self._paths[number]
        return None
      self.data[number] = data
    return self._images[number]


def run_task(task: Task) -> Outcome:
  """Handles one clip.

  Raises:
    ValueError: no face in the clip, and on_no_face is "error"; the message names the clip.
  """
  clip = task.clip
  frames = _Frames(task.folder, clip.frames)
  details: dict[str, Any] = {}
  digest = ""
  examples: tuple[Example, ...] = ()
  try:
    moments, needed = _choose(task, frames)
    digest = _digest(frames, needed)
    if not moments.has_apex and "apex" in MOMENTS[task.input]:
      details |= {"apex": "middle", "apex_frame": moments.apex}
    remarks = dict(moments.remarks)
    if frames.unreadable:
      remarks["replaced_frames"] = _listed(frames.unreadable)
    squares = _squares(task, frames, moments, needed, details, remarks)
    examples = tuple(_examples(task, frames, moments, squares))
  except _LeftOut as reason:
    remarks = {reason.status: reason.detail}
  except NoFaceError as error:
    raise ValueError(f"clip {clip.file}: {error}") from error
  status, *others = remarks or {"ok": ""}
  details = {"detail": remarks.get(status, ""), "note": clip.note, **details}
  details |= {other: remarks[other] for other in others}
  row = Row(clip.file, status, {k: v for k, v in details.items() if v != ""}, digest)
  # The published numbers are of clips: of this many examples, if all could be stored.
  found = (clip.label,) * (examples_per_clip(task.input, task.frames) or len(examples))
  return Outcome(examples, (row,), found)


def examples_per_clip(input: str, frames: int) -> int:
  """Examples that a clip gives; 0 where that differs from clip to clip."""
  return {"key_frames": 3, "frames": frames}.get(input, 1)


def _choose(task: Task, frames: _Frames) -> tuple[Moments, list[int]]:
  """The moments of a clip, and the frames that its input needs, all of them read."""
  while True:
    available = frames.available()
    try:
      moments = find_moments(task.clip, available, task.input, task.apex_policy)
    except _LeftOut as reason:
      if frames.unreadable:
        raise _LeftOut("unreadable", _listed(frames.unreadable)) from reason
      raise
    needed = frames_needed(
      task.input,
      onset=moments.onset,
      apex=moments.apex,
      offset=moments.offset,
      available=available,
      count=task.frames,
    )
    if task.input == "apex" and not task.align:
      needed = [moments.apex]  # The onset is only there to find the face in.
    if all([frames.read(number) is not None for number in needed]):
      return moments, needed


def find_moments(clip: Clip, available: Sequence[int], input: str, apex_policy: str) -> Moments:
  """Settles which of the available frames are the onset, apex and offset.

  Args:
    clip: the clip, as annotated.
    available: ascending numbers of the frames that are there.
    input: one of `clip_inputs.INPUTS`; what it does not need may be missing.
    apex_policy: where no usable apex is annotated: "middle" of onset and offset, or "skip".
  """
  if not available:
    raise _LeftOut("missing_frames", "no frame of this clip was found")
  onset = clip.onset if clip.onset >= 0 else available[0]
  offset = clip.offset if clip.offset >= 0 else available[-1]
  if offset < onset:
    raise _LeftOut("bad_annotation", f"offset {offset} lies before onset {onset}")
  remarks = {}
  apex, has_apex = clip.apex, onset <= clip.apex <= offset
  if not has_apex:
    missing = apex < 0
    status = "no_apex" if missing else "apex_out_of_range"
    text = "no apex is annotated" if missing else f"apex {apex} is not in [{onset}, {offset}]"
    if "apex" in MOMENTS[input]:
      if apex_policy == "skip":
        raise _LeftOut(status, text)
      if not missing:
        remarks[status] = text
    apex = (onset + offset) // 2
  chosen = {}
  moved = []
  for moment, number in (("onset", onset), ("apex", apex), ("offset", offset)):
    near = chosen[moment] = _nearest(available, number)
    if moment not in MOMENTS[input] or near == number:
      continue
    estimated = moment == "apex" and not has_apex
    # An apex that was only estimated may be any frame of the expression.
    low, high = (onset, offset) if estimated else (number, number)
    if not low - NEAREST <= near <= high + NEAREST:
      raise _LeftOut("missing_frames", f"{moment} frame {number}; the nearest is {near}")
    if not estimated:
      moved.append(f"{moment} {number}: {near}")
  if moved:
    remarks["nearest_frame"] = ", ".join(moved)
  if input in ("pair", "flow") and chosen["onset"] == chosen["apex"]:
    remarks["apex_at_onset"] = f"both are frame {chosen['onset']}: the picture shows no motion"
  return Moments(**chosen, has_apex=has_apex, remarks=remarks)


def _squares(
  task: Task,
  frames: _Frames,
  moments: Moments,
  needed: list[int],
  details: dict[str, Any],
  remarks: dict[str, str],
) -> dict[int, np.ndarray]:
  """The frames as they are to be stored: aligned, or the release's own; adds to the report."""
  images = {number: _read(frames, number) for number in needed}
  shapes = {image.shape for image in images.values()}
  if len(shapes) > 1 and (task.align or task.input in COMPUTED):
    sizes = sorted(f"{width} x {height}" for height, width, _ in shapes)
    raise _LeftOut("size_mismatch", f"its frames have {' and '.join(sizes)} pixels")
  if not task.align:
    return {
      # As at inference; size 0 stores the frames as they are.
      number: resize_image(image, task.size) if task.size else image
      for number, image in images.items()
    }
  aligner = _find_face(task, frames, moments, shapes.pop())
  if aligner.chip is None:
    raise _LeftOut("no_face", f"in {SEARCHED} frames from onset to offset")
  record = aligner.record
  details |= {key: record[key] for key in ("faces", "box", "transform", "reference")}
  if record["status"] != "ok":
    remarks[record["status"]] = ""
  return {number: aligner.chip.extract(image) for number, image in images.items()}


def _find_face(
  task: Task, frames: _Frames, moments: Moments, shape: tuple[int, ...]
) -> ClipAligner:
  """The clip's one transform: from its onset, or the first later frame that shows a face."""
  inside = [n for n in frames.available() if moments.onset <= n <= moments.offset]
  picked = np.unique(np.rint(np.linspace(0, len(inside) - 1, SEARCHED)).astype(int))
  for number in (inside[position] for position in picked):
    image = frames.read(number)
    if image is not None and image.shape == shape and (faces := find_faces(image)):
      return ClipAligner.from_frame(image, faces, task.size, task.on_no_face, number)
  blank = np.zeros(shape, np.uint8)
  return ClipAligner.from_frame(blank, [], task.size, task.on_no_face, moments.onset)


def _examples(
  task: Task, frames: _Frames, moments: Moments, squares: dict[int, np.ndarray]
) -> Iterator[Example]:
  clip = task.clip
  pictures = make_clip_images(
    task.input,
    squares,
    onset=moments.onset,
    apex=moments.apex,
    offset=moments.offset,
    count=task.frames,
  )
  seen = set()
  for number, picture in pictures:
    if number in seen:  # two moments that fall on one frame
      continue
    seen.add(number)
    original = not task.size and is_plain(frames.data[number])
    yield Example(
      image=frames.data[number] if original else encode_image(picture, task.encoding),
      label=clip.label,
      file=f"{clip.file}/{number}",
      subject=clip.subject,
      clip=clip.clip,
      frame=number,
      onset=clip.onset if clip.onset >= 0 else moments.onset,
      apex=clip.apex if moments.has_apex else -1,
      offset=clip.offset if clip.offset >= 0 else moments.offset,
      database=clip.database,
    )


def _nearest(numbers: Sequence[int], wanted: int) -> int:
  return min(numbers, key=lambda number: (abs(number - wanted), number))


def _read(frames: _Frames, number: int) -> np.ndarray:
  image = frames.read(number)
  assert image is not None, "read before"
  return image


def _digest(frames: _Frames, needed: Sequence[int]) -> str:
  digest = hashlib.sha256()
  for number in needed:
    digest.update(frames.data[number])
  return digest.hexdigest()


def _listed(reasons: dict[str, str]) -> str:
  name, reason = next(iter(reasons.items()))
  more = f" and {len(reasons) - 1} more" if len(reasons) > 1 else ""
  return f"{name}: {reason}{more}"
