"""Face descriptors of a built dataset, computed once and cached in its folder.

One descriptor takes about 85 ms on one core: 300,000 faces take seven core hours. An interrupted
computation continues from its partial file.
"""

import io
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from jax_me.cpu_cores import available_cores
from jax_me.data.clip_inputs.inputs import MOTION_INPUTS
from jax_me.data.image_store import ImageStore
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.faces.face_descriptor import DESCRIPTOR_SIZE, describe_face
from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.files import exclusive_lock, write_atomically
from jax_me.progress import Progress
from jax_me.worker_pool import map_in_processes

IMAGES_PER_TASK = 16
# A worker takes about two seconds to start.
TASKS_PER_WORKER = 2
_ROW_BYTES = 4 * DESCRIPTOR_SIZE

logger = logging.getLogger(__name__)


def describe_dataset(
  builder: FaceDataset, split: str = "train", workers: int | None = None
) -> np.ndarray:
  """Computes the face descriptor of every image of a split.

  The largest face of each image is detected and cropped, also if the stored image is aligned. The
  result is cached in the dataset's folder (whose name identifies its content) as
  `face_descriptors-<split>.npy`; without write permission there is no caching.

  Args:
    builder: a dataset from `jax_me.datasets.catalog.prepare`.
    split: name of a split, or several joined by "+".
    workers: worker processes; None uses one per core, 0 or 1 only the calling process.

  Returns:
    float32 [N, 128] in the order of `read_index(builder, split)`; NaN if no face is found.

  Raises:
    ValueError: no such split, or the dataset's images show motion instead of faces.
  """
  clip_input = getattr(builder.options, "input", "")
  if clip_input in MOTION_INPUTS:
    raise ValueError(
      f"the images of {builder.info.full_name} show motion ({clip_input}), not faces: use the same "
      "dataset built with input='apex'"
    )
  workers = available_cores() if workers is None else workers
  parts = [_describe_split(builder, name, workers) for name in split.split("+")]
  return np.concatenate(parts)


def _describe_split(builder: FaceDataset, split: str, workers: int) -> np.ndarray:
  store = ImageStore(builder, split, image_size=1, cache_bytes=0)
  path = pathlib.Path(str(builder.data_path), f"face_descriptors-{split}.npy")
  cached = _load_cached(path, len(store))
  if cached is not None:
    return cached
  if not os.access(path.parent, os.W_OK):
    logger.warning("%s is not writable: face descriptors are not cached", path.parent)
    return np.concatenate([*_describe_images(store, 0, workers)])
  lock = path.with_name(f".{path.stem}.lock")
  with exclusive_lock(lock, lambda: logger.info("waiting for another process (%s)", lock)):
    cached = _load_cached(path, len(store))
    return _resume(store, path, workers) if cached is None else cached


def _resume(store: ImageStore, path: pathlib.Path, workers: int) -> np.ndarray:
  """Appends the missing descriptors to the partial file of raw rows, then writes `path`."""
  partial = path.with_name(f".{path.stem}.partial")
  with partial.open("ab") as file:
    # A killed run may have written half a row.
    done = min(file.tell() // _ROW_BYTES, len(store))
    file.truncate(done * _ROW_BYTES)
    for rows in _describe_images(store, done, workers):
      file.write(rows.tobytes())
      file.flush()
  found = np.fromfile(partial, np.float32).reshape(-1, DESCRIPTOR_SIZE)
  write_atomically(path, _npy_bytes(found))
  partial.unlink()
  return found


def _load_cached(path: pathlib.Path, count: int) -> np.ndarray | None:
  """The cached descriptors; None if missing or unusable."""
  try:
    found = np.load(path, allow_pickle=False)
  except (OSError, ValueError, EOFError):
    return None
  usable = found.shape == (count, DESCRIPTOR_SIZE) and found.dtype == np.float32
  return found if usable else None


def _npy_bytes(rows: np.ndarray) -> bytes:
  buffer = io.BytesIO()
  np.save(buffer, rows, allow_pickle=False)
  return buffer.getvalue()


def _describe_images(store: ImageStore, start: int, workers: int) -> Iterator[np.ndarray]:
  """Yields float32 [n, 128] for consecutive images from `start` on."""
  positions = range(start, len(store))
  tasks = (
    [store.encoded(position) for position in positions[first : first + IMAGES_PER_TASK]]
    for first in range(0, len(positions), IMAGES_PER_TASK)
  )
  workers = min(workers, len(positions) // (IMAGES_PER_TASK * TASKS_PER_WORKER))
  progress = Progress(f"{store.name} faces", len(store), done=start, quiet=not positions)
  try:
    for rows in map_in_processes(_describe_encoded, tasks, workers=workers):
      yield rows
      progress.advance(len(rows))
  finally:
    progress.close()


def _describe_encoded(encoded: Sequence[bytes]) -> np.ndarray:
  rows = np.full((len(encoded), DESCRIPTOR_SIZE), np.nan, np.float32)
  for row, data in zip(rows, encoded, strict=True):
    try:
      found = describe_face(read_image(data))
    except UnreadableImage:
      continue
    if found is not None:
      row[:] = found
  return rows
