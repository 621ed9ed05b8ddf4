"""The face descriptors of a prepared dataset, computed once and kept beside its records.

One descriptor takes about 85 ms on one core: 300,000 faces take seven core hours. Work that is
interrupted goes on where it stopped.
"""

import io
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.cpu_cores import available_cores
from jax_me.data.image_store import ImageStore
from jax_me.datasets.generation.build_lock import build_lock
from jax_me.datasets.generation.process_pool import map_in_processes
from jax_me.faces.face_descriptor import DESCRIPTOR_SIZE, describe_face
from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.files import write_atomically
from jax_me.progress import Progress

# Inputs of clips whose pictures show no face as a camera sees it.
PICTURES_OF_MOTION = ("pair", "dynamic", "flow")
IMAGES_PER_TASK = 16
# A worker takes about two seconds to start.
TASKS_PER_WORKER = 2
_ROW_BYTES = 4 * DESCRIPTOR_SIZE

logger = logging.getLogger(__name__)


def describe_dataset(builder: Any, split: str = "train", workers: int | None = None) -> np.ndarray:
  """The face descriptor of every image of a split.

  Each picture's largest face is found and cut anew, whether the stored picture is aligned or not.
  The result is kept in the dataset's folder (whose name stands for its content) as
  `face_descriptors-<split>.npy`; where that folder cannot be written, it is computed each time.

  Args:
    builder: what `jax_me.datasets.catalog.prepare` returned.
    split: name of a split, or several joined by "+".
    workers: processes; None takes one a core, 0 or 1 none beside this one.

  Returns:
    float32 [N, 128] in the order of `read_index(builder, split)`; NaN where no face is found.

  Raises:
    ValueError: no such split, or the dataset's pictures show motion instead of faces.
  """
  input = getattr(builder.options, "input", "")
  if input in PICTURES_OF_MOTION:
    raise ValueError(
      f"the pictures of {builder.info.full_name} show motion ({input}), no faces: describe the "
      "faces of the same dataset built with input='apex'"
    )
  workers = available_cores() if workers is None else workers
  parts = [_describe_split(builder, name, workers) for name in split.split("+")]
  return np.concatenate(parts)


def _describe_split(builder: Any, split: str, workers: int) -> np.ndarray:
  store = ImageStore(builder, split, image_size=1, cache_bytes=0)
  path = pathlib.Path(str(builder.data_path), f"face_descriptors-{split}.npy")
  kept = _load(path, len(store))
  if kept is not None:
    return kept
  if not os.access(path.parent, os.W_OK):
    logger.warning("%s cannot be written: its face descriptors are not kept", path.parent)
    return np.concatenate([*_describe(store, 0, workers)])
  with build_lock(path.with_name(f".{path.stem}.lock")):
    kept = _load(path, len(store))
    return _continue(store, path, workers) if kept is None else kept


def _continue(store: ImageStore, path: pathlib.Path, workers: int) -> np.ndarray:
  """Describes what an earlier run left, appending to a file of bare rows; then writes `path`."""
  partial = path.with_name(f".{path.stem}.partial")
  with partial.open("ab") as file:
    # A killed run may have left half a row.
    done = min(file.tell() // _ROW_BYTES, len(store))
    file.truncate(done * _ROW_BYTES)
    for rows in _describe(store, done, workers):
      file.write(rows.tobytes())
      file.flush()
  found = np.fromfile(partial, np.float32).reshape(-1, DESCRIPTOR_SIZE)
  write_atomically(path, _npy_bytes(found))
  partial.unlink()
  return found


def _load(path: pathlib.Path, count: int) -> np.ndarray | None:
  """What an earlier call kept; None when there is nothing of use."""
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


def _describe(store: ImageStore, start: int, workers: int) -> Iterator[np.ndarray]:
  """Yields float32 [some, 128] for the images from `start` on, in order."""
  positions = range(start, len(store))
  tasks = (
    [store.encoded(position) for position in positions[first : first + IMAGES_PER_TASK]]
    for first in range(0, len(positions), IMAGES_PER_TASK)
  )
  workers = min(workers, len(positions) // (IMAGES_PER_TASK * TASKS_PER_WORKER))
  progress = Progress(f"{store.name} faces", len(store), done=start, quiet=not positions)
  try:
    for rows in map_in_processes(_describe_images, tasks, workers=workers):
      yield rows
      for _ in rows:
        progress.advance()
  finally:
    progress.close()


def _describe_images(encoded: Sequence[bytes]) -> np.ndarray:
  rows = np.full((len(encoded), DESCRIPTOR_SIZE), np.nan, np.float32)
  for row, data in zip(rows, encoded, strict=True):
    try:
      found = describe_face(read_image(data))
    except UnreadableImage:
      continue
    if found is not None:
      row[:] = found
  return rows
