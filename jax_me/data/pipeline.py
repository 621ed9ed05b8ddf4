"""Batches for training and evaluation: Grain over a TFDS dataset's array_record files.

A batch is {"image": uint8 [B, H, W, 3], "label": int32 [B], "mask": bool [B], "index": int32 [B]}
and, where the dataset has vote shares, "targets": float32 [B, C], and where it has valence and
arousal, "affect": float32 [B, 2], NaN where unknown. `index` is the example's position in its split
and gives its file, subject and clip in the ExampleIndex. Each of several processes gets its own
rows of the same global batches.
"""

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, SupportsInt

import cv2
import grain
import numpy as np
from absl import flags

from jax_me.command_errors import starting_processes
from jax_me.data.device_images import DeviceImages
from jax_me.data.image_store import ImageStore
from jax_me.data.random_crop import RandomCrop
from jax_me.data.sampling import BalancedSampler, ShuffledSampler, validate_indices

ImageSource = ImageStore | DeviceImages
# "image" is a jax.Array when the images are in device memory; all else is NumPy.
Batch = dict[str, Any]

PREFETCHED_BATCHES = 2


def train_batches(
  store: ImageSource,
  *,
  batch_size: int,
  seed: int,
  indices: Sequence[int] | np.ndarray | None = None,
  balanced: bool = False,
  crop: RandomCrop | None = None,
  workers: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> "TrainBatches":
  """Endless shuffled batches whose position can be saved and restored.

  The examples form an endless stream of epochs, each a new permutation of all examples.
  Consecutive batches are consecutive parts of that stream, so nothing is dropped at the end of an
  epoch; a batch may span two epochs. The stream depends only on indices, seed and balanced, not
  on workers or processes.

  Args:
    store: the images.
    batch_size: global batch size, a multiple of process_count.
    seed: non-negative seed of the sampling order.
    indices: examples to use, for example a fold's training set; None takes all.
    balanced: draw every class equally often (an epoch then repeats rare classes).
    crop: random crop of the stored images; None gives whole images. The store must be in host
      memory.
    workers: decoding processes; 0 decodes in threads of this process, which is enough unless
      cores are idle. Ignored when the batches are cached images.
    process_index: this process among process_count (`jax.process_index()`).
    process_count: processes that share each global batch (`jax.process_count()`).

  Returns:
    an endless iterator of batches.

  Raises:
    ValueError: no examples, an index outside the split, or an indivisible batch size.
  """
  sampler = make_sampler(store, seed=seed, indices=indices, balanced=balanced)
  rows = _process_rows(batch_size, process_index, process_count)
  return TrainBatches(store, sampler, batch_size, rows, workers, crop)


def make_sampler(
  store: ImageSource,
  *,
  seed: int,
  indices: Sequence[int] | np.ndarray | None = None,
  balanced: bool = False,
) -> ShuffledSampler:
  """Makes the sampler whose stream `train_batches` splits into batches.

  Args:
    store: the images.
    seed: non-negative seed of the sampling order.
    indices: examples to use; None takes all.
    balanced: draw every class equally often.

  Returns:
    the sampler.

  Raises:
    ValueError: no examples, or an index outside the split.
  """
  chosen = _select_indices(store, indices)
  if balanced:
    return BalancedSampler(chosen, store.index.label[chosen], seed)
  return ShuffledSampler(chosen, seed)


class TrainBatches(Iterator[Batch]):
  """Iterator of training batches; see `train_batches`.

  Attributes:
    batch_size: global batch size.
    epoch_size: examples per epoch.
    examples_seen: examples drawn from the stream so far, over all processes.
  """

  def __init__(
    self,
    store: ImageSource,
    sampler: ShuffledSampler,
    batch_size: int,
    rows: slice,
    workers: int,
    crop: RandomCrop | None = None,
  ):
    assert crop is None or not store.on_device
    if workers < 0:
      raise ValueError(f"workers must be 0 or more, got {workers}")
    self.batch_size = batch_size
    self.epoch_size = len(sampler)
    self.examples_seen = 0
    self._store = store
    self._sampler = sampler
    self._rows = rows
    self._crop = crop
    self._workers = 0 if store.cached and crop is None else workers
    self._iterator: Any = None

  def __next__(self) -> Batch:
    if self._iterator is None:
      batch_indices = _TrainIndices(self._sampler, self.examples_seen, self.batch_size, self._rows)
      source = _BatchSource(self._store, batch_indices, self._crop)
      self._iterator = _make_iterator(source, self._workers)
    batch = next(self._iterator)
    if self._workers:
      # Workers return views of shared memory, which would stay open as long as the batch exists.
      batch = {name: np.array(array, subok=False) for name, array in batch.items()}
    self.examples_seen += self.batch_size
    return batch

  def get_state(self) -> dict[str, int | str]:
    """JSON-ready position; `set_state` continues with the batch that would be next now."""
    return {"examples_seen": self.examples_seen, "order": self._fingerprint()}

  def set_state(self, state: Mapping[str, int | str]) -> None:
    """Continues at a saved position, with any number of workers or processes.

    Raises:
      ValueError: the state is of other examples, another seed or another sampler.
    """
    if state["order"] != self._fingerprint():
      raise ValueError(
        "the saved data position belongs to another sampling order: the dataset, fold, seed or "
        "balanced sampling has changed since it was saved. Start in a new workdir"
      )
    self.close()
    self.examples_seen = int(state["examples_seen"])

  def close(self) -> None:
    """Stops threads and worker processes; the next call of `next` restarts them."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None

  def _fingerprint(self) -> str:
    digest = hashlib.sha256(f"{self._sampler.state_name} {self._sampler.seed}".encode())
    digest.update(self._sampler.indices.tobytes())
    digest.update(self._store.index.label[self._sampler.indices].tobytes())
    return digest.hexdigest()[:16]


def eval_batches(
  store: ImageSource,
  *,
  batch_size: int,
  indices: Sequence[int] | np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> "EvalBatches":
  """Batches with every example exactly once, in the given order; the last batch is padded.

  All batches have the same shape and all processes get the same number of batches. Padding has
  mask False, index -1, label 0 and a black image.

  Args:
    store: the images.
    batch_size: global batch size, a multiple of process_count.
    indices: examples to use, for example a fold's test set; None takes all.
    process_index: this process among process_count.
    process_count: processes that share each global batch.

  Returns:
    a reusable iterable of batches.

  Raises:
    ValueError: no examples, an index outside the split, or an indivisible batch size.
  """
  rows = _process_rows(batch_size, process_index, process_count)
  return EvalBatches(store, _select_indices(store, indices), batch_size, rows)


class EvalBatches:
  """Reusable iterable of evaluation batches; `len` is the number of batches."""

  def __init__(self, store: ImageSource, indices: np.ndarray, batch_size: int, rows: slice):
    self._source = _BatchSource(store, _EvalIndices(indices, batch_size, rows))

  def __len__(self) -> int:
    return len(self._source)

  def __iter__(self) -> Iterator[Batch]:
    iterator = _make_iterator(self._source, workers=0)
    try:
      yield from iterator
    finally:
      iterator.close()


def channel_statistics(
  store: ImageStore,
  indices: Sequence[int] | np.ndarray | None = None,
  *,
  per_image: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each colour channel over all pixels of some images.

  Pass only the training set of a fold, otherwise test data leaks into the statistics.

  Args:
    store: the images, at the store's size.
    indices: examples to use; None takes all.
    per_image: the mean of the standard deviations (with N - 1) of the images, instead of that of
      all pixels.

  Returns:
    (mean, std), float32 [3] each, RGB, for pixel values scaled to [0, 1].

  Raises:
    ValueError: no examples, or an index outside the split.
  """
  chosen = _select_indices(store, indices)
  sums, pixels = store.channel_sums(chosen), store.image_size**2
  mean, squares = sums.sum(0) / (len(chosen) * pixels)
  std = np.sqrt(np.maximum(squares - mean**2, 0.0))
  if per_image:
    means, squares = np.moveaxis(sums, 1, 0) / pixels
    variances = np.maximum(squares - means**2, 0.0) * pixels / max(pixels - 1, 1)
    std = np.sqrt(variances).mean(0)
  return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


class _BatchIndices(Protocol):
  """Examples in this process's rows of batch n; -1 is padding."""

  def __len__(self) -> int: ...

  def __call__(self, number: int) -> np.ndarray: ...


class _TrainIndices:
  def __init__(self, sampler: ShuffledSampler, start: int, batch_size: int, rows: slice):
    self._sampler, self._start, self._batch_size, self._rows = sampler, start, batch_size, rows

  def __len__(self) -> int:
    return sys.maxsize // 2  # endless, but Grain needs a length

  def __call__(self, number: int) -> np.ndarray:
    return self._sampler.at(self.first(number), self._rows.stop - self._rows.start)

  def first(self, number: int) -> int:
    """Position of the first example of batch `number` in the sampling stream."""
    return self._start + number * self._batch_size + self._rows.start


class _EvalIndices:
  def __init__(self, indices: np.ndarray, batch_size: int, rows: slice):
    self._batches = -(-len(indices) // batch_size)
    padding = np.full(self._batches * batch_size - len(indices), -1, np.int64)
    self._table = np.concatenate([indices, padding]).reshape(self._batches, batch_size)[:, rows]

  def __len__(self) -> int:
    return self._batches

  def __call__(self, number: int) -> np.ndarray:
    return self._table[number]


class _BatchSource:
  """Random-access data source for Grain: element n is batch n."""

  def __init__(
    self, store: ImageSource, batch_indices: _BatchIndices, crop: RandomCrop | None = None
  ):
    self._store = store
    self._batch_indices = batch_indices
    self._crop = crop
    self.on_device = store.on_device

  def __len__(self) -> int:
    return len(self._batch_indices)

  def __getitem__(self, number: SupportsInt) -> Batch:
    index = self._batch_indices(int(number))
    mask = index >= 0
    label = np.zeros(len(index), np.int32)
    label[mask] = self._store.index.label[index[mask]]
    batch = {
      "image": self._images(index, int(number)),
      "label": label,
      "mask": mask,
      "index": index.astype(np.int32),
    }
    if self._store.index.targets is not None:
      batch["targets"] = np.where(mask[:, None], self._store.index.targets[index], 0)
    if self._store.index.affect is not None:
      batch["affect"] = self._store.index.affect[index]
    return batch

  def _images(self, index: np.ndarray, number: int) -> Any:
    if self._crop is None:
      return self._store.batch(index)
    assert isinstance(self._batch_indices, _TrainIndices) and isinstance(self._store, ImageStore)
    return self._store.crops(index, self._crop, self._batch_indices.first(number))


def _make_iterator(source: _BatchSource, workers: int) -> Any:
  if source.on_device:  # nothing to prefetch
    return (source[number] for number in range(len(source)))
  dataset = grain.MapDataset.source(source).to_iter_dataset(
    grain.ReadOptions(num_threads=PREFETCHED_BATCHES, prefetch_buffer_size=PREFETCHED_BATCHES)
  )
  if workers:
    # Grain reads absl flags, which are parsed only in programs started by absl.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
      worker_init_fn=_init_worker,
    )
  iterator = iter(dataset)
  if workers:
    with starting_processes():
      iterator.start_prefetch()
  return iterator


def _init_worker(worker: int, workers: int) -> None:
  del worker, workers
  cv2.setNumThreads(1)  # parallelism comes from the workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # For systems without signal masks.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  """Ends a worker whose parent was killed, so that its shared memory and semaphores are freed."""
  parent = multiprocessing.parent_process()
  if parent is not None:
    parent.join()
    os._exit(1)


def _select_indices(store: ImageSource, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
  chosen = validate_indices(np.arange(len(store)) if indices is None else indices)
  if chosen.max() >= len(store):
    raise ValueError(f"index {chosen.max()} is outside {store.name}, which has {len(store)} images")
  return chosen


def _process_rows(batch_size: int, process_index: int, process_count: int) -> slice:
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size}")
  if process_count < 1 or not 0 <= process_index < process_count:
    raise ValueError(f"process {process_index} of {process_count} does not exist")
  if batch_size % process_count:
    raise ValueError(
      f"the global batch_size {batch_size} must be a multiple of the {process_count} processes"
    )
  share = batch_size // process_count
  return slice(process_index * share, (process_index + 1) * share)
