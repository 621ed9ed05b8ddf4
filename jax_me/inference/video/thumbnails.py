"""Small images of a video, kept in bounded memory: faces of each person, and whole frames."""

import math

import cv2
import numpy as np

# Face crops of all people together; at the side below about 20 MB.
MAX_FACES = 8192
FACE_SIDE = 96
MAX_FRAMES = 24
FRAME_SIDE = 400
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 85]


def encode_jpeg(image: np.ndarray, side: int) -> bytes:
  """Encodes an image uint8 [H, W, 3] RGB, shrunk to at most `side` pixels on its longer side."""
  scale = min(1.0, side / max(image.shape[:2]))
  size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
  small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
  _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), _QUALITY)
  return data.tobytes()


class FaceThumbnails:
  """Face crops of each person, at first of every frame, later of one in 2, 4, 8, ... frames.

  Of these, the crop with the most motion is kept, since it is that of an apex.
  """

  def __init__(self):
    # person -> interval -> (frame, motion, JPEG).
    self._people: dict[int, dict[int, tuple[int, float, bytes]]] = {}
    self._stride = 1
    self._count = 0

  def add(self, person: int, frame: int, face: np.ndarray, motion: float | None) -> None:
    """Adds a face crop.

    Args:
      person: number of the person.
      frame: index of the frame.
      face: uint8 [S, S, 3] RGB.
      motion: distance from the neutral face; None or NaN if not measured.
    """
    height = 0.0 if motion is None or math.isnan(motion) else motion
    self._keep(person, (frame, height, encode_jpeg(face, FACE_SIDE)))
    if self._count > MAX_FACES:
      self._stride *= 2
      people, self._people, self._count = self._people, {}, 0
      for number, crops in people.items():
        for crop in crops.values():
          self._keep(number, crop)

  def nearest(self, person: int, frame: int) -> bytes | None:
    """JPEG of the person in the frame nearest to one; None if there is none."""
    crops = self._people.get(person, {}).values()
    nearest = min(crops, key=lambda crop: abs(crop[0] - frame), default=None)
    return nearest and nearest[2]

  def _keep(self, person: int, crop: tuple[int, float, bytes]) -> None:
    crops = self._people.setdefault(person, {})
    interval = crop[0] // self._stride
    if interval not in crops:
      self._count += 1
    elif crops[interval][1] >= crop[1]:
      return
    crops[interval] = crop


class FrameThumbnails:
  """Whole frames at regular intervals, which grow with the video."""

  def __init__(self):
    self._frames: list[tuple[float, bytes]] = []
    self._step = 0.0

  def wants(self, seconds: float) -> bool:
    """Whether the frame of a time would be kept; asked first because drawing it takes time."""
    return not self._frames or seconds - self._frames[-1][0] >= self._step

  def add(self, seconds: float, image: np.ndarray) -> None:
    """Adds a frame, uint8 [H, W, 3] RGB, that is later than those before."""
    self._frames.append((seconds, encode_jpeg(image, FRAME_SIDE)))
    if len(self._frames) > MAX_FRAMES:
      self._frames = self._frames[::2]
      self._step = self._frames[1][0] - self._frames[0][0]

  def frames(self, count: int) -> list[tuple[float, bytes]]:
    """(seconds, JPEG) of at most `count` frames, spread over the video."""
    if len(self._frames) <= count:
      return list(self._frames)
    return [
      self._frames[index] for index in np.linspace(0, len(self._frames) - 1, count).astype(int)
    ]
