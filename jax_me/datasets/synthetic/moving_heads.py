"""Films of synthetic subjects whose heads turn out of the image plane, lean, duck and are covered.

The drawn face is projected on an upright elliptic cylinder with a nose, which is rotated about the
vertical axis (yaw) and tilted (pitch): parts near the camera move more than parts behind them, and
the far side is foreshortened. All times are in frames of `clip_rendering.FPS`.
"""

import dataclasses
import functools

import cv2
import numpy as np

from jax_me.datasets.synthetic import warping
from jax_me.datasets.synthetic.base_portrait import CANVAS, FRAME, blurred, pixel_centres
from jax_me.datasets.synthetic.clip_rendering import DemoVideo

# Half width and depth of the cylinder and height of the nose, in interocular distances.
_HALF_WIDTH, _DEPTH, _NOSE = 1.2, 1.35, 0.4
_NOSE_WIDTH = np.array([0.3, 0.4], np.float32)
# The turn fades from this distance below the chin over this height, so that shoulders keep still.
_NECK, _NECK_HEIGHT = 0.1, 0.7
# Frames that a hand takes to arrive and to leave.
HAND_FRAMES = 18


@dataclasses.dataclass(frozen=True)
class HeadMove:
  """A temporary motion of the head: raised-cosine rise and fall with a plateau between them.

  Attributes:
    start, end: frames between which the head is moved.
    ramp: frames of the rise and of the fall.
    yaw: rotation about the vertical axis in degrees, positive towards the right of the image.
    pitch: rotation about the horizontal axis in degrees, positive upwards.
    shift: (right, down) in pixels.
    scale: factor of the size at the plateau; above 1 when the head leans in.
  """

  start: int
  end: int
  ramp: int
  yaw: float = 0.0
  pitch: float = 0.0
  shift: tuple[float, float] = (0.0, 0.0)
  scale: float = 1.0

  def share(self, frame: int) -> float:
    """Fraction of the motion at a frame, in [0, 1]."""
    inside = min(frame - self.start, self.end - frame) / self.ramp
    return float(0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0, 1)))


@dataclasses.dataclass(frozen=True)
class HandCover:
  """A hand over the lower face.

  Attributes:
    start, end: frames between which the hand covers the mouth; it arrives before and leaves after.
    side: -1 if it comes from the left of the image, 1 from the right.
    height: of its middle above (positive) or below the mouth, interocular distances.
  """

  start: int
  end: int
  side: int
  height: float = 0.0


@dataclasses.dataclass(frozen=True)
class MovingHeadFilm(DemoVideo):
  """A film of one subject with head motions and hands.

  Attributes:
    head_moves: motions of the head, added up.
    hands: times at which a hand covers the mouth.
  """

  head_moves: tuple[HeadMove, ...] = ()
  hands: tuple[HandCover, ...] = ()

  def head_pose(self, index: int) -> tuple[float, float]:
    """(yaw, pitch) of the head in a frame, degrees, without the drift of the camera."""
    shares = [(move.share(index), move) for move in self.head_moves]
    return (
      sum(share * move.yaw for share, move in shares),
      sum(share * move.pitch for share, move in shares),
    )

  def frame(self, index: int) -> np.ndarray:
    """Renders one frame: uint8 [FRAME, FRAME, 3] RGB.

    Raises:
      IndexError: index outside [0, length).
    """
    if not 0 <= index < self.length:
      raise IndexError(f"film {self.name} has frames 0 to {self.length - 1}, got {index}")
    texture, at = self._furrowed(index), self._sampling(index)
    # The border is continued, not mirrored: a mirrored head would appear beside a ducked one.
    at = np.clip(at, 0, CANVAS - 1).astype(np.float32)
    image = warping.sampled(texture, at, cv2.INTER_CUBIC)
    for hand in self.hands:
      image = self._covered(image, hand, index)
    return self.camera.expose(image, index)

  def _affine(self, index: int) -> np.ndarray:
    """Affine map [2, 3] from canvas to frame, with the shift and scale of the head moves."""
    pose = self.camera.pose(index)
    middle = pose[:, :2] @ self.subject.identity.points[30] + pose[:, 2]
    for move in self.head_moves:
      share = move.share(index)
      scale = 1 + share * (move.scale - 1)
      pose = scale * pose
      pose[:, 2] += (1 - scale) * middle + share * np.array(move.shift)
    return pose

  def _sampling(self, index: int) -> np.ndarray:
    points = self.subject.identity.points
    yaw, pitch = np.radians(self.head_pose(index))
    nose = np.float32(_NOSE * self.subject.iod) * np.array([np.sin(yaw), -np.sin(pitch)])
    field = self.camera.turn(points, index) + self._nose_relief * nose.astype(np.float32)
    moved = self._displacement(index)
    if moved.any():
      field = field + self.subject.field(moved)
    back = warping.inverse(field)
    pose = cv2.invertAffineTransform(self._affine(index)).astype(np.float32)
    at = _pixels() @ pose[:, :2].T + pose[:, 2]
    if yaw or pitch:
      at = self._unturned(at, yaw, pitch)
    grid = (at + np.float32(0.5)) / np.float32(warping.STEP) - np.float32(0.5)
    return at - warping.sampled(back, np.clip(grid, 0, warping.GRID - 1))

  @functools.cached_property
  def _nose_relief(self) -> np.ndarray:
    """Height [GRID, GRID, 1] of the nose above the cylinder, 1 at its tip."""
    points = self.subject.identity.points
    middle = 0.7 * points[30] + 0.3 * points[28]
    offset = (warping.grid_points() - middle.astype(np.float32)) / np.float32(self.subject.iod)
    return np.exp(-0.5 * ((offset / _NOSE_WIDTH) ** 2).sum(-1, keepdims=True))

  def _unturned(self, at: np.ndarray, yaw: float, pitch: float) -> np.ndarray:
    """Canvas positions [H, W, 2] before the head was turned, of positions after it."""
    points, iod = self.subject.identity.points, self.subject.iod
    middle = points[27]
    half = _HALF_WIDTH * iod
    x = (at[..., 0] - np.float32(middle[0])) / np.float32(half)
    y = at[..., 1] - np.float32(points[8, 1] + _NECK * iod)
    fade = np.clip(1 - y / np.float32(_NECK_HEIGHT * iod), 0, 1)
    on_head = np.abs(x) < 1
    around = np.arcsin(np.clip(x, -1, 1)) - np.float32(yaw) * fade
    before = np.sin(np.clip(around, -np.pi / 2, np.pi / 2))
    out = at.copy()
    out[..., 0] = np.where(on_head, before * np.float32(half) + np.float32(middle[0]), at[..., 0])
    # The depth is that of the head as it is seen now; a turn about the axis leaves it the same.
    depth = np.float32(_DEPTH * iod) * np.sqrt(np.clip(1 - x**2, 0, 1))
    down = at[..., 1] - np.float32(middle[1])
    angle = np.float32(pitch) * fade
    tilted = (down + depth * np.sin(angle)) / np.cos(angle)
    weight = np.clip((1 - np.abs(x)) * 4, 0, 1)
    out[..., 1] += weight * (tilted - down)
    return out

  def _covered(self, image: np.ndarray, hand: HandCover, index: int) -> np.ndarray:
    """The frame [FRAME, FRAME, 3] with a hand, where one is seen at this time."""
    away = max(hand.start - index, index - hand.end, 0) / HAND_FRAMES
    if away >= 1:
      return image
    points, iod = self.subject.identity.points, self.subject.iod
    pose = self._affine(index)
    size = iod * float(np.hypot(*pose[0, :2]))
    mouth = pose[:, :2] @ points[62] + pose[:, 2]
    # It arrives along an arc from below and beside.
    ease = 0.5 - 0.5 * np.cos(np.pi * away)
    start = np.array([hand.side * 2.2, 2.6]) * size
    middle = mouth + np.array([0.15 * hand.side, 0.1 - hand.height]) * size + ease * start
    fingers = np.array([-hand.side * 1.0, -0.35])
    across = np.array([-fingers[1], fingers[0]])
    mask = np.zeros((FRAME, FRAME), np.float32)
    _capsule(mask, middle + 0.5 * size * np.array([hand.side, 0.9]), middle, 0.55 * size)
    for finger in range(4):
      root = middle + (finger - 1.5) * 0.26 * size * across
      _capsule(mask, root, root + fingers * size * (0.75 - 0.08 * abs(finger - 1.5)), 0.14 * size)
    soft = blurred(mask, 1.0)[..., None]
    skin = self.subject.identity.texture[tuple(np.round(points[30]).astype(int)[::-1])]
    relief = blurred(mask, 0.09 * size)[..., None]
    colour = np.float32(0.85) * skin * (0.55 + 0.45 * relief) * (1 + 0.05 * _grain()[..., None])
    return image + soft * (colour.astype(np.float32) - image)


@functools.cache
def _pixels() -> np.ndarray:
  return pixel_centres(FRAME)


@functools.cache
def _grain() -> np.ndarray:
  """Smooth texture of the skin [FRAME, FRAME], mean 0, standard deviation 1."""
  noise = blurred(np.random.default_rng(5).standard_normal((FRAME, FRAME), np.float32), 1.5)
  return noise / noise.std()


def _capsule(mask: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float) -> None:
  """Draws a thick line with round ends into a mask."""
  first, last = (tuple(int(round(c * 16)) for c in point) for point in (start, end))
  cv2.line(mask, first, last, 1.0, max(1, round(2 * radius)), cv2.LINE_8, 4)  # type: ignore[call-overload]
