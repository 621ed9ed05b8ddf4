"""Reads every record of a dataset once: does it decode, does it agree with the index?"""

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
from jax_me.progress import show_progress

MAX_THREADS = 8
CHUNK = 1024  # records whose results wait in memory
# Fields that must be the same in a record and in its row of the index.
COMPARED = ("label", "file", "subject", "clip", "frame", "onset", "apex", "offset", "database")


@dataclasses.dataclass(frozen=True)
class RecordCheck:
  """What reading all records of a dataset found.

  Attributes:
    unreadable: (position, why) of records that cannot be read or decoded.
    different: (position, fields) of records that say something else than the index does.
    digests: object array [N] of bytes, SHA-256 of each stored image; b"" where unreadable.
    sizes: (height, width) -> number of images.
  """

  unreadable: list[tuple[int, str]]
  different: list[tuple[int, str]]
  digests: np.ndarray
  sizes: collections.Counter[tuple[int, int]]


def check_records(builder: Any, split: str, index: ExampleIndex) -> RecordCheck:
  """Reads and decodes everything.

  Args:
    builder: a prepared dataset.
    split: name of a split, or several joined by "+".
    index: what `read_index(builder, split)` gave.

  Raises:
    ValueError: there are more or fewer records than rows in the index.
    OSError: a file of records is missing.
  """
  records = builder.as_data_source(
    split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
  )
  if len(records) != len(index):
    raise ValueError(f"{len(records)} records, but {len(index)} rows in the index")
  result = RecordCheck([], [], np.full(len(index), b"", object), collections.Counter())

  def check(position: int) -> tuple[str, str, bytes, tuple[int, int]]:
    # One damaged record must not hide what the others are, and what the reader raises then is
    # not documented.
    try:
      features = tf_example_pb2.Example.FromString(records[position]).features.feature
      encoded = features["image"].bytes_list.value[0]
      different = [name for name in COMPARED if not _agrees(features[name], index, name, position)]
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

  # OpenCV releases Python's lock, so threads decode side by side.
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


def _agrees(feature: Any, index: ExampleIndex, name: str, position: int) -> bool:
  stored = getattr(index, name)[position]
  if isinstance(stored, str):
    return list(feature.bytes_list.value) == [stored.encode()]
  return list(feature.int64_list.value) == [int(stored)]
