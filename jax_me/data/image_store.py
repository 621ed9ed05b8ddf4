"""Random access to the decoded, resized images of a split, cached in host memory when small."""

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jax_me.cpu_cores import available_cores
from jax_me.data.decoding import decode_into, decode_whole
from jax_me.data.index import read_index
from jax_me.data.random_crop import RandomCrop

DEFAULT_CACHE_BYTES = 2**30
MAX_THREADS = 8


class ImageStore:
  """The images of a split as uint8 [image_size, image_size, 3] RGB arrays.

  See `decoding` for the resizing. When all decoded images fit into `cache_bytes`, each is decoded
  once and cached.

  Attributes:
    index: ExampleIndex of the split; row i describes image i.
    image_size: side of the returned images, pixels.
    name: dataset and split, for messages.
    cached: whether decoded images are cached.
    on_device: whether the images are in device memory; False.
  """

  on_device = False

  def __init__(
    self,
    builder: tfds.core.DatasetBuilder,
    split: str = "train",
    *,
    image_size: int,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    threads: int | None = None,
    prepare: Callable[[np.ndarray], np.ndarray] | None = None,
  ):
    """Opens a prepared dataset.

    Args:
      builder: result of `jax_me.datasets.catalog.prepare`.
      split: name of the split.
      image_size: side of the images, pixels, at least 1.
      cache_bytes: cache decoded images if the whole split fits; 0 disables the cache.
      threads: decoding threads, shared by all callers; None uses the available cores, at most 8.
        A worker process has one.
      prepare: makes the image of a decoded one, uint8 [H, W, 3]; None resizes it.

    Raises:
      ValueError: no such split, or a number out of range.
    """
    if image_size < 1:
      raise ValueError(f"image_size must be at least 1, got {image_size}")
    if cache_bytes < 0:
      raise ValueError(f"cache_bytes must not be negative, got {cache_bytes}")
    self.index = read_index(builder, split)
    self.image_size = image_size
    self._prepare = prepare
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
    # np.empty uses no physical memory until an image is written.
    self._cache = np.empty((count, self.image_size, self.image_size, 3), np.uint8)
    self._filled = np.zeros(count, bool)
    self._sums = np.full((len(self.index), 2, 3), -1, np.int64)
    # Threads start on first use.
    self._pool = concurrent.futures.ThreadPoolExecutor(self._threads, "decode")

  def __len__(self) -> int:
    return len(self.index)

  def __getstate__(self) -> dict[str, Any]:
    # A worker process gets no pixels and one thread, since there are many workers.
    cleared = {"_pool": None, "_cache": None, "_filled": None, "_sums": None, "cached": False}
    return {**self.__dict__, **cleared, "_threads": 1}

  def __setstate__(self, state: dict[str, Any]) -> None:
    self.__dict__.update(state)
    self._allocate()

  def encoded(self, position: int) -> bytes:
    """The stored JPEG or PNG bytes of image `position`."""
    try:
      record = tf_example_pb2.Example.FromString(self._records[position])
      return record.features.feature["image"].bytes_list.value[0]
    except Exception as error:  # The reader's exceptions are undocumented.
      raise ValueError(f"{self._describe(position)} cannot be read: {self._damage}") from error

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

  def channel_sums(self, positions: np.ndarray) -> np.ndarray:
    """int64 [n, 2, 3]: each image's sum of values and sum of squares per channel.

    The sums of an image are cached, so that several folds share them.
    """
    powers = np.stack([np.arange(256), np.arange(256) ** 2])
    missing = positions[self._sums[positions, 0, 0] < 0]
    for start in range(0, len(missing), 64):
      part = missing[start : start + 64]
      for position, image in zip(part, self.images(part), strict=True):
        counts = [np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)]
        self._sums[position] = powers @ np.transpose(counts)
    return self._sums[positions]

  def batch(self, positions: np.ndarray) -> np.ndarray:
    """Like `images`; position -1 is padding and gives a black image."""
    real = positions >= 0
    images = self.images(positions[real])
    if real.all():
      return images
    padded = np.zeros((len(positions), *images.shape[1:]), np.uint8)
    padded[real] = images
    return padded

  def crops(self, positions: np.ndarray, crop: RandomCrop, first: int) -> np.ndarray:
    """Random crops of stored images; they are not cached.

    Args:
      positions: of the images, [n].
      crop: draws the crops.
      first: position of the first image in the sampling stream; the others follow.

    Returns:
      uint8 [n, image_size, image_size, 3].

    Raises:
      ValueError: stored bytes cannot be decoded (the dataset is damaged).
    """
    return self._decode_all(positions, crop, first)

  def _decode_all(
    self, positions: np.ndarray, crop: RandomCrop | None = None, first: int = 0
  ) -> np.ndarray:
    out = np.empty((len(positions), self.image_size, self.image_size, 3), np.uint8)

    def decode_rows(rows: range) -> None:
      for row in rows:
        self._decode(int(positions[row]), out[row], crop, first + row)

    # OpenCV releases the GIL, so threads decode in parallel. The pool is used even for one thread:
    # several callers share it, which limits the number of decoding threads.
    count = min(self._threads, len(positions))
    for result in self._pool.map(decode_rows, [range(i, len(out), count) for i in range(count)]):
      assert result is None
    return out

  def _decode(self, position: int, out: np.ndarray, crop: RandomCrop | None, number: int) -> None:
    encoded = self.encoded(position)
    if crop is not None:
      decoded = crop.decode_into(out, encoded, number)
    elif self._prepare is None:
      decoded = decode_into(out, encoded)
    else:
      image = decode_whole(encoded)
      decoded = image is not None
      if image is not None:
        out[:] = self._prepare(image)
    if not decoded:
      raise ValueError(f"{self._describe(position)} cannot be decoded: {self._damage}")

  def _describe(self, position: int) -> str:
    return f"image {position} ({self.index.file[position]}) of {self.name}"

  @property
  def _damage(self) -> str:
    folder = self._records.dataset_info.data_dir
    return f"the dataset is damaged; delete {folder} and build it again"
