"""Decoded images of one split: random access, resized on the host, cached in memory when small."""

import concurrent.futures
import pathlib
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jax_me.data.index import read_index
from jax_me.faces.cores import available_cores

DEFAULT_CACHE_BYTES = 2**30
MAX_THREADS = 8


class ImageStore:
  """The images of a split as uint8 [image_size, image_size, 3] RGB arrays.

  Shrinking averages areas (antialiased), enlarging is bilinear; a picture that is not square is
  stretched. JPEGs are decoded at 1/2, 1/4 or 1/8 of their size when that is still enough.
  When all decoded images fit into `cache_bytes`, each is decoded once and kept.

  Attributes:
    index: ExampleIndex of the split; row i describes image i.
    image_size: side of the returned images, pixels.
    name: dataset and split, for messages.
    cached: whether decoded images are kept.
  """

  def __init__(
    self,
    builder: Any,
    split: str = "train",
    *,
    image_size: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    threads: int | None = None,
  ):
    """Opens a prepared dataset.

    Args:
      builder: what `jax_me.data.builders.prepare` returned.
      split: name of the split.
      image_size: side of the images, pixels, at least 1.
      cache_bytes: keep decoded images if all of the split's need no more; 0 never keeps.
      threads: threads that decode one batch; None takes the usable cores, at most 8.

    Raises:
      ValueError: no such split, or a number out of range.
    """
    if image_size < 1:
      raise ValueError(f"image_size must be at least 1, got {image_size}")
    if cache_bytes < 0:
      raise ValueError(f"cache_bytes must not be negative, got {cache_bytes}")
    self.index = read_index(builder, split)
    self.image_size = image_size
    self.name = f"{builder.info.full_name}:{split}"
    self._records = builder.as_data_source(
      split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    self._threads = min(MAX_THREADS, available_cores()) if threads is None else max(1, threads)
    self.cached = len(self.index) * self._image_bytes <= cache_bytes
    self._allocate()

  @property
  def _image_bytes(self) -> int:
    return self.image_size**2 * 3

  def _allocate(self) -> None:
    count = len(self.index) if self.cached else 0
    # np.empty takes no memory until an image is written into it.
    self._cache = np.empty((count, self.image_size, self.image_size, 3), np.uint8)
    self._filled = np.zeros(count, bool)
    # Starts its threads when first used.
    self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, "decode")

  def __len__(self) -> int:
    return len(self.index)

  def __getstate__(self) -> dict[str, Any]:
    # What goes to a worker process: no threads, no pixels.
    return {**self.__dict__, "_pool": None, "_cache": None, "_filled": None, "cached": False}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._allocate()

  def encoded(self, position: int) -> bytes:
    """The stored JPEG or PNG bytes of image `position`."""
    record = self._records[position]
    return tf_example_pb2.Example.FromString(record).features.feature["image"].bytes_list.value[0]

  def image(self, position: int) -> np.ndarray:
    """Image `position`, uint8 [image_size, image_size, 3].

    Raises:
      ValueError: the stored bytes cannot be decoded (the dataset is damaged).
    """
    return self.images([position])[0]

  def images(self, positions: Sequence[int] | np.ndarray) -> np.ndarray:
    """Images in the given order, uint8 [len(positions), image_size, image_size, 3].

    Raises:
      IndexError: a position is outside [0, len(self)).
      ValueError: stored bytes cannot be decoded (the dataset is damaged).
    """
    positions = np.asarray(positions, np.int64)
    if positions.size and not (0 <= positions.min() and positions.max() < len(self)):
      raise IndexError(f"positions must lie in [0, {len(self)}), got {positions}")
    if self.cached:
      missing = np.unique(positions[~self._filled[positions]])
      if missing.size:
        self._cache[missing] = self._decode_all(missing)
        self._filled[missing] = True
      return self._cache[positions]
    return self._decode_all(positions)

  def _decode_all(self, positions: np.ndarray) -> np.ndarray:
    out = np.empty((len(positions), self.image_size, self.image_size, 3), np.uint8)

    def decode_some(rows: range) -> None:
      for row in rows:
        out[row] = self._decode(int(positions[row]))

    count = min(self._threads, len(positions))
    if count <= 1:
      decode_some(range(len(positions)))
      return out
    # OpenCV releases Python's lock, so threads decode side by side.
    for done in self._pool.map(decode_some, [range(i, len(out), count) for i in range(count)]):
      assert done is None
    return out

  def _decode(self, position: int) -> np.ndarray:
    image = decode_image(self.encoded(position), self.image_size)
    if image is None:
      raise ValueError(
        f"image {position} ({self.index.file[position]}) of {self.name} cannot be decoded: the "
        f"dataset is damaged; delete {dataset_folder(self._records)} and build it again"
      )
    return image


def dataset_folder(records: Any) -> pathlib.Path:
  """Where the records of a TFDS data source lie."""
  return pathlib.Path(records.dataset_info.data_dir)


def decode_image(encoded: bytes, image_size: int) -> np.ndarray | None:
  """Decodes and resizes one image.

  Args:
    encoded: JPEG or PNG bytes.
    image_size: side of the result, pixels.

  Returns:
    uint8 [image_size, image_size, 3] RGB; None when the bytes cannot be decoded.
  """
  data = np.frombuffer(encoded, np.uint8)
  image = cv2.imdecode(data, _decode_flag(encoded, image_size)) if len(data) else None
  if image is None:
    return None
  height, width = image.shape[:2]
  if (height, width) != (image_size, image_size):
    smaller = height >= image_size and width >= image_size
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    image = cv2.resize(image, (image_size, image_size), interpolation=method)
  return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_flag(encoded: bytes, image_size: int) -> int:
  """The strongest reduction that still gives at least image_size pixels on both sides."""
  size = jpeg_size(encoded)
  if size is not None:
    factor = min(size) // image_size
    if factor >= 8:
      return cv2.IMREAD_REDUCED_COLOR_8
    if factor >= 4:
      return cv2.IMREAD_REDUCED_COLOR_4
    if factor >= 2:
      return cv2.IMREAD_REDUCED_COLOR_2
  return cv2.IMREAD_COLOR


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
  """(height, width) from a JPEG's frame header (ITU-T T.81, B.2.2); None if it is not a JPEG."""
  if encoded[:2] != b"\xff\xd8":
    return None
  at = 2
  while at + 9 < len(encoded):
    if encoded[at] != 0xFF:
      return None
    marker = encoded[at + 1]
    if marker == 0xFF:  # fill byte
      at += 1
      continue
    # SOF0..SOF15 hold the size; C4, C8 and CC in that range are other segments.
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return (
        int.from_bytes(encoded[at + 5 : at + 7], "big"),
        int.from_bytes(encoded[at + 7 : at + 9], "big"),
      )
    at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
  return None
