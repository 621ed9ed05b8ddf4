"""Synthetic micro-expression clips and videos with known ground truth.

Everything is drawn from numpy generators seeded with (seed, subject, ...), so every frame can be
rendered alone, in any process and order, with the same result. A clip is a resting face with
*movements*: the labelled expression, blinks, small unrelated action units, and a slow drift of the
head, at 100 frames per second.

The intensity of an expression is the distance that the leading point of its leading action unit
moves at the apex. It is drawn from INTENSITY, 0.016 to 0.066 interocular distances, which is 1.7 to
7 pixels on a face 224 pixels wide.
"""

import dataclasses
import functools

import cv2
import numpy as np
import threadpoolctl

from jax_me.datasets.synthetic import action_units, base_portrait, camera_motion, subjects, warping
from jax_me.datasets.synthetic.action_units import LABELS
from jax_me.datasets.synthetic.base_portrait import CANVAS, FRAME

FPS = 100
INTENSITY = (0.016, 0.066)  # Interocular distances.
DURATION = (22, 49)  # Frames from onset to offset: at most half a second.
_FURROW_DEPTH = 6.5  # Darkening of a furrow per interocular distance of its unit's strength.
# Points that touch when eyes and mouth close: the upper ones, the lower ones.
_LIDS_AND_LIPS = np.array([[37, 38, 43, 44, 61, 62, 63], [41, 40, 47, 46, 67, 66, 65]])
TAGS = {
  "identity": 1,
  "order": 2,
  "clip": 3,
  "units": 4,
  "clip_noise": 5,
  "video": 6,
  "video_noise": 7,
  "film": 8,
  "film_noise": 9,
}


def generator(seed: int, subject: int, tag: str, *rest: int) -> np.random.Generator:
  """Random generator of one thing that is drawn.

  Args:
    seed: seed of the dataset.
    subject: number of the subject.
    tag: what is drawn, a key of TAGS.
    *rest: more numbers that identify it.

  Returns:
    The generator.
  """
  return np.random.default_rng([seed, subject, TAGS[tag], *rest])


class DemoSubject:
  """One synthetic person.

  Args:
    seed: of the whole dataset, >= 0.
    subject: number of the person, >= 0.
  """

  def __init__(self, seed: int, subject: int):
    if seed < 0 or subject < 0:
      raise ValueError(f"seed and subject must be >= 0, got {seed=}, {subject=}")
    self.seed, self.subject = seed, subject
    # BLAS sums depend on the number of threads; with one thread the face is always the same.
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
      self.identity = subjects.draw_identity(generator(seed, subject, "identity"))
    points = self.identity.points
    self.iod = float(np.linalg.norm(points[36:42].mean(0) - points[42:48].mean(0)))
    self._furrows: dict[tuple[str, int], np.ndarray] = {}

  @property
  def name(self) -> str:
    """Subject name as in the dataset, such as "p007"."""
    return f"p{self.subject:03d}"

  def field(self, displacement: np.ndarray) -> np.ndarray:
    """Dense forward motion [GRID, GRID, 2] (canvas pixels) of moved control points [P, 2]."""
    # Without BLAS, whose rounding depends on the number of threads. Most points do not move.
    moving = displacement.any(1)
    moves = displacement[moving].astype(np.float32)
    flat = np.einsum("cp,pk->ck", self.identity.fields[:, moving], moves)
    return flat.reshape(warping.GRID, warping.GRID, 2)

  def blink(self, amount: float) -> np.ndarray:
    """Control point motion [P, 2] of lids closing by `amount` (1 = almost shut)."""
    points = self.identity.points
    moved = np.zeros_like(points)
    upper, lower = _LIDS_AND_LIPS[:, :4]
    slit = points[lower] - points[upper]
    moved[upper] = 0.72 * amount * slit
    moved[lower] = -0.07 * amount * slit
    return moved

  def keep_apart(self, moved: np.ndarray) -> np.ndarray:
    """Returns the motion [P, 2], corrected where lids or lips would pass through each other."""
    upper, lower = _LIDS_AND_LIPS
    gap = self.identity.points[lower, 1] - self.identity.points[upper, 1]
    excess = np.maximum(0, moved[upper, 1] - moved[lower, 1] - 0.8 * np.maximum(gap, 0))
    moved[upper, 1] -= excess / 2
    moved[lower, 1] += excess / 2
    return moved

  def furrow(self, unit: str, side: int) -> np.ndarray:
    """Darkness [CANVAS, CANVAS] of the furrows of one side of a unit; below 0 where lighter."""
    if (unit, side) not in self._furrows:
      drawn = np.zeros((CANVAS, CANVAS), np.float32)
      for here, line in action_units.furrows(unit, self.identity.points, self.iod):
        if here == side:
          fixed = np.round(line * 16).astype(np.int32)
          cv2.polylines(drawn, [fixed], False, 1.0, 2, cv2.LINE_8, 4)
      # A dark line with lighter sides, like a skin fold under soft light.
      fold = base_portrait.blurred(drawn, 1.9) - 0.5 * base_portrait.blurred(drawn, 4.0)
      self._furrows[unit, side] = fold
    return self._furrows[unit, side]


@functools.lru_cache(maxsize=2)
def _subject(seed: int, subject: int) -> DemoSubject:
  return DemoSubject(seed, subject)


def subject_of(seed: int, subject: int | DemoSubject) -> DemoSubject:
  """The subject itself, or the subject with this number, drawn once for neighbouring calls."""
  return subject if isinstance(subject, DemoSubject) else _subject(seed, subject)


@dataclasses.dataclass(frozen=True)
class Movement:
  """Temporary motion of a face.

  Attributes:
    start, peak, end: frame numbers; the movement is 0 up to start, 1 at peak, 0 from end on.
    hold: frames after the peak in which it stays at 1.
    units: action units -> (image-left, image-right) strength at the peak, interocular distances.
    blink: how far the lids close at the peak, in [0, 1].
  """

  start: int
  peak: int
  end: int
  units: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
  blink: float = 0.0
  hold: int = 0

  def activation(self, frame: int) -> float:
    """Fraction of the movement at a frame, with raised-cosine rise and fall."""
    if not self.start < frame < self.end:
      return 0.0
    if frame <= self.peak:
      part = (frame - self.start) / (self.peak - self.start)
    elif frame <= self.peak + self.hold:
      return 1.0
    else:
      part = (self.end - frame) / (self.end - self.peak - self.hold)
    return float(0.5 - 0.5 * np.cos(np.pi * part))


@dataclasses.dataclass(frozen=True)
class Event:
  """A labelled expression: onset is the last frame before it, offset the first frame after it."""

  onset: int
  apex: int
  offset: int
  label: str
  intensity: float


@dataclasses.dataclass(frozen=True)
class DemoVideo:
  """Video of one subject with known expressions.

  Attributes:
    name: unique within the seed, such as "p007_03".
    subject: the person.
    length: number of frames.
    events: the labelled expressions, in order of time.
    movements: all movements, labelled or not.
    fps: frames per second.
  """

  name: str
  subject: DemoSubject
  length: int
  events: tuple[Event, ...]
  movements: tuple[Movement, ...]
  camera: camera_motion.Camera
  fps: int = FPS

  def frame(self, index: int) -> np.ndarray:
    """Renders one frame: uint8 [FRAME, FRAME, 3] RGB.

    Raises:
      IndexError: index outside [0, length).
    """
    if not 0 <= index < self.length:
      raise IndexError(f"clip {self.name} has frames 0 to {self.length - 1}, got {index}")
    texture = self._furrowed(index)
    at = self._sampling(index)
    image = warping.sampled(texture, at, cv2.INTER_CUBIC)
    return self.camera.expose(image, index)

  def control_points(self, index: int) -> np.ndarray:
    """Positions of the control points in a frame [P, 2], pixels; the first 68 are the landmarks."""
    points = self.subject.identity.points + self._displacement(index)
    grid = ((points + 0.5) / warping.STEP - 0.5).astype(np.float32)
    drift = self.camera.turn(self.subject.identity.points, index)
    turned = warping.sampled(drift, grid[:, None])[:, 0]
    pose = self.camera.pose(index)
    return (points + turned) @ pose[:, :2].T + pose[:, 2]

  def _displacement(self, index: int) -> np.ndarray:
    moved = np.zeros_like(self.subject.identity.points)
    for movement in self.movements:
      share = movement.activation(index)
      if share > 0:
        moved += share * self.subject.iod * action_units.displacement(movement.units)
        if movement.blink:
          moved += self.subject.blink(share * movement.blink)
    return self.subject.keep_apart(moved)

  def _sampling(self, index: int) -> np.ndarray:
    """Canvas position of every pixel of the frame: float32 [FRAME, FRAME, 2]."""
    moved = self._displacement(index)
    field = self.camera.turn(self.subject.identity.points, index)
    if moved.any():
      field = field + self.subject.field(moved)
    back = warping.inverse(field)
    pose = cv2.invertAffineTransform(self.camera.pose(index))
    # Frame pixel -> canvas pixel -> cell of the grid, in one affine step.
    to_grid = pose / warping.STEP
    to_grid[:, 2] += 0.5 / warping.STEP - 0.5
    shift = cv2.warpAffine(
      back, to_grid, (FRAME, FRAME), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
      borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip
    across = np.arange(FRAME, dtype=np.float32)
    down = across[:, None]
    canvas = np.stack([a * across + b * down + c for a, b, c in pose.astype(np.float32)], -1)
    return canvas - shift

  def _furrowed(self, index: int) -> np.ndarray:
    texture = self.subject.identity.texture
    dark = None
    for movement in self.movements:
      share = movement.activation(index)
      for unit, strengths in movement.units.items():
        for side, strength in enumerate(strengths):
          if share * strength > 0:
            depth = self.subject.furrow(unit, side) * np.float32(_FURROW_DEPTH * share * strength)
            dark = depth if dark is None else dark + depth
    if dark is None:
      return texture
    return texture * (1 - np.clip(dark, -0.3, 0.6))[..., None]


@dataclasses.dataclass(frozen=True)
class DemoClip(DemoVideo):
  """A clip with one labelled expression."""

  @property
  def onset(self) -> int:
    return self.events[0].onset

  @property
  def apex(self) -> int:
    return self.events[0].apex

  @property
  def offset(self) -> int:
    return self.events[0].offset

  @property
  def label(self) -> str:
    return self.events[0].label


def _draw_event(
  rng: np.random.Generator, units_rng: np.random.Generator, onset: int, label: str
) -> tuple[Event, Movement]:
  """Draws an expression that starts at `onset`.

  The action units have their own generator: the number of draws depends on the label, and later
  draws must not.
  """
  duration = int(rng.integers(*DURATION, endpoint=True))
  apex = onset + int(round(duration * rng.uniform(0.35, 0.6)))
  intensity = float(rng.uniform(*INTENSITY))
  units = action_units.draw_expression(label, intensity, units_rng)
  event = Event(onset, apex, onset + duration, label, intensity)
  return event, Movement(event.onset, event.apex, event.offset, units)


def draw_distractors(
  rng: np.random.Generator, length: int, rate: float, intensity: float
) -> list[Movement]:
  """Draws blinks and small action units that are independent of the label.

  Args:
    rng: random generator.
    length: frames of the video.
    rate: mean number of each kind in the video.
    intensity: intensity of the labelled expression; an unrelated unit reaches up to half of it.

  Returns:
    The movements.
  """
  movements = []
  for _ in range(rng.poisson(rate)):
    start = int(rng.integers(-10, length))
    closing, opening = int(rng.integers(5, 9)), int(rng.integers(8, 16))
    blink = float(rng.uniform(0.4, 1.0))
    movements.append(Movement(start, start + closing, start + closing + opening, blink=blink))
  for _ in range(rng.poisson(rate)):
    start = int(rng.integers(-20, length))
    duration = int(rng.integers(20, 120))
    name = str(rng.choice(action_units.NAMES_OF_UNITS))
    left, right = intensity * rng.uniform(0.15, 0.5) * rng.uniform(0.3, 1.0, 2)
    peak = start + duration // 2
    units = {name: (float(left), float(right))}
    movements.append(Movement(start, peak, start + duration, units))
  return movements


def clip_label(seed: int, subject: int, index: int) -> str:
  """Draws the label of a clip; three consecutive clips of a subject have all three labels.

  Args:
    seed: seed of the dataset.
    subject: number of the subject.
    index: number of the clip.

  Returns:
    One of LABELS.
  """
  rng = generator(seed, subject, "order", index // len(LABELS))
  return LABELS[rng.permutation(len(LABELS))[index % len(LABELS)]]


def demo_clip(seed: int, subject: int | DemoSubject, index: int) -> DemoClip:
  """Returns one labelled micro-expression clip.

  Args:
    seed: seed of the dataset.
    subject: the subject, or its number (then the face is drawn again).
    index: number of the clip, >= 0, without upper limit.

  Returns:
    The clip. Nothing is rendered until `frame` is called.
  """
  person = subject_of(seed, subject)
  rng = generator(seed, person.subject, "clip", index)
  label = clip_label(seed, person.subject, index)
  units_rng = generator(seed, person.subject, "units", index)
  event, expression = _draw_event(rng, units_rng, int(rng.integers(8, 30)), label)
  length = event.offset + int(rng.integers(8, 30))
  movements = [expression, *draw_distractors(rng, length, 0.5, event.intensity)]
  camera = camera_motion.Camera.draw(rng, (seed, person.subject, TAGS["clip_noise"], index))
  name = f"{person.name}_{index:02d}"
  return DemoClip(name, person, length, (event,), tuple(movements), camera)


def demo_video(seed: int, subject: int | DemoSubject, index: int, seconds: float) -> DemoVideo:
  """Returns a long video of one subject with labelled expressions between neutral intervals.

  Args:
    seed: seed of the dataset.
    subject: the subject, or its number.
    index: number of the video, >= 0. Videos and clips of one index are unrelated.
    seconds: length; neutral intervals between expressions last 1 to 3 seconds.

  Returns:
    The video. Nothing is rendered until `frame` is called.
  """
  person = subject_of(seed, subject)
  rng = generator(seed, person.subject, "video", index)
  length = max(1, round(seconds * FPS))
  events: list[Event] = []
  movements: list[Movement] = []
  onset = int(rng.integers(FPS // 2, 2 * FPS))
  while True:
    event, expression = _draw_event(rng, rng, onset, LABELS[rng.integers(len(LABELS))])
    if event.offset >= length:
      break
    events.append(event)
    movements.append(expression)
    onset = event.offset + int(rng.integers(FPS, 3 * FPS))
  movements += draw_distractors(rng, length, 0.4 * seconds, float(np.mean(INTENSITY)))
  camera = camera_motion.Camera.draw(rng, (seed, person.subject, TAGS["video_noise"], index))
  name = f"{person.name}_v{index:02d}"
  return DemoVideo(name, person, length, tuple(events), tuple(movements), camera)
