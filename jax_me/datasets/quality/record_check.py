"""Check of all records of a dataset: each decodes and agrees with its row of the index."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from jax_me.cpu_cores import available_cores
from jax_me.data.index import ExampleIndex
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.progress import show_progress

MAX_THREADS = 8
CHUNK = 1024  # records per batch of results in memory
# Fields that must be equal in a record and in its row of the index.
COMPARED = ("label", "file", "subject", "clip", "frame", "onset", "apex", "offset", "database")


@dataclasses.dataclass(frozen=True)
class RecordCheck:
  """Result of reading all records of a dataset.

  Attributes:
    unreadable: (position, reason) of records that cannot be read or decoded.
    different: (position, field names) of records that differ from the index.
    digests: object array [N] of bytes, SHA-256 of each stored image; b"" if unreadable.
    sizes: (height, width) -> number of images.
  """

  unreadable: list[tuple[int, str]]
  different: list[tuple[int, str]]
  digests: np.ndarray
  sizes: collections.Counter[tuple[int, int]]


def check_records(builder: FaceDataset, split: str, index: ExampleIndex) -> RecordCheck:
  """Reads and decodes every record.

  Args:
    builder: a built dataset.
    split: name of a split, or several joined by "+".
    index: the result of `read_index(builder, split)`.

  Returns:
    the faulty records, and digests and sizes of the images.

  Raises:
    ValueError: the number of records differs from that of the index rows.
    OSError: a record file is missing.
  """
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != len(index):
    raise ValueError(f"{len(records)} records, but {len(index)} rows in the index")
  result = RecordCheck([], [], np.full(len(index), b"", object), collections.Counter())

  def check(position: int) -> tuple[str, str, bytes, tuple[int, int]]:
    # One damaged record must not stop the check, and the reader's exceptions are undocumented.
    try:
      features = tf_example_pb2.Example.FromString(records[position]).features.feature
      encoded = features["image"].bytes_list.value[0]
      different = [
        name for name in COMPARED if not _matches_index(features[name], index, name, position)
      ]
    except Exception as error:  # noqa: BLE001
      return f"cannot be read ({' '.join(str(error).split())[:200]})", "", b"", (0, 0)
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR) if encoded else None
    if image is None:
      return "its image cannot be decoded", "", b"", (0, 0)
    return (
      "",
      ", ".join(different),
      hashlib.sha256(encoded).digest(),
      (image.shape[0], image.shape[1]),
    )

  # OpenCV releases the GIL, so threads decode in parallel.
  with concurrent.futures.ThreadPoolExecutor(min(MAX_THREADS, available_cores())) as pool:
    starts = range(0, len(index), CHUNK)
    chunks = (pool.map(check, range(start, min(start + CHUNK, len(index)))) for start in starts)
    checked = itertools.chain.from_iterable(chunks)
    progress = show_progress(checked, f"reading {builder.name}", len(index))
    for position, (unreadable, different, digest, size) in enumerate(progress):
      if unreadable:
        result.unreadable.append((position, unreadable))
        continue
      if different:
        result.different.append((position, different))
      result.digests[position] = digest
      result.sizes[size] += 1
  return result


def _matches_index(feature: Any, index: ExampleIndex, name: str, position: int) -> bool:
  stored = getattr(index, name)[position]
  if isinstance(stored, str):
    return list(feature.bytes_list.value) == [stored.encode()]
  return list(feature.int64_list.value) == [int(stored)]
