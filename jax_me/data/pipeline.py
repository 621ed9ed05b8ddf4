"""Batches for training and evaluation: Grain over a TFDS dataset's array_record files.

A batch is {"image": uint8 [B, H, W, 3], "label": int32 [B], "mask": bool [B], "index": int32 [B]}
and, where the dataset has shares of votes, "targets": float32 [B, C]. `index` is the example's
place in its split, so it leads back to the file, subject and clip in the ExampleIndex. Several
processes each get their own rows of the same global batches.
"""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import cv2
import grain
import numpy as np
from absl import flags

from jax_me.data.device_images import DeviceImages
from jax_me.data.image_store import ImageStore
from jax_me.data.sampling import BalancedSampler, ShuffledSampler, checked_indices

ImageSource = ImageStore | DeviceImages
# "image" lies on the devices where the images do.
Batch = dict[str, Any]

PREFETCHED_BATCHES = 2


def train_batches(
  store: ImageSource,
  *,
  batch_size: int,
  seed: int,
  indices: Sequence[int] | np.ndarray | None = None,
  balanced: bool = False,
  workers: int = 0,
  process_index: int = 0,
  process_count: int = 1,
) -> "TrainBatches":
  """Endless shuffled batches whose position can be saved and restored.

  The examples form an endless stream: epoch after epoch, each a new permutation in which every
  example stands once. Batches are cut from that stream one after another, so nothing is dropped
  at an epoch's end; a batch may hold the end of one epoch and the start of the next.
  The stream depends on indices, seed and balanced only, not on workers or processes.

  Args:
    store: the images.
    batch_size: global batch, shared out over the processes.
    seed: non-negative; another seed, another order.
    indices: examples to use, for example a fold's training side; None takes all.
    balanced: draw every class equally often instead (an epoch then repeats rare classes).
    workers: processes that decode; 0 decodes in threads of this one, which is enough unless
      cores idle. Ignored when the store keeps decoded images.
    process_index: this process among process_count (`jax.process_index()`).
    process_count: processes that share each global batch (`jax.process_count()`).

  Raises:
    ValueError: no examples, an index outside the split, or a batch that cannot be shared out.
  """
  order = make_sampler(store, seed=seed, indices=indices, balanced=balanced)
  rows = _own_rows(batch_size, process_index, process_count)
  return TrainBatches(store, order, batch_size, rows, workers)


def make_sampler(
  store: ImageSource,
  *,
  seed: int,
  indices: Sequence[int] | np.ndarray | None = None,
  balanced: bool = False,
) -> ShuffledSampler:
  """The endless stream of examples that `train_batches` cuts into batches; arguments as there.

  Raises:
    ValueError: no examples, or an index outside the split.
  """
  chosen = _chosen(store, indices)
  if balanced:
    return BalancedSampler(chosen, store.index.label[chosen], seed)
  return ShuffledSampler(chosen, seed)


class TrainBatches(Iterator[Batch]):
  """Iterator of training batches; see `train_batches`.

  Attributes:
    batch_size: global batch.
    epoch_size: examples in an epoch.
    examples_seen: examples of the stream that were handed out, over all processes.
  """

  def __init__(
    self, store: ImageSource, order: ShuffledSampler, batch_size: int, rows: slice, workers: int
  ):
    if workers < 0:
      raise ValueError(f"workers must be 0 or more, got {workers}")
    self.batch_size = batch_size
    self.epoch_size = len(order)
    self.examples_seen = 0
    self._store = store
    self._order = order
    self._rows = rows
    self._workers = 0 if store.cached else workers
    self._iterator: Any = None

  def __next__(self) -> Batch:
    if self._iterator is None:
      plan = _TrainPlan(self._order, self.examples_seen, self.batch_size, self._rows)
      self._iterator = _start(_BatchSource(self._store, plan), self._workers)
    batch = next(self._iterator)
    if self._workers:
      # Workers hand over views of shared memory, which would stay open as long as the batch lives.
      batch = {name: np.array(array, subok=False) for name, array in batch.items()}
    self.examples_seen += self.batch_size
    return batch

  def get_state(self) -> dict[str, Any]:
    """JSON-able position: after `set_state` the next batch is the one that would come next now."""
    return {"examples_seen": self.examples_seen, "order": self._fingerprint()}

  def set_state(self, state: dict[str, Any]) -> None:
    """Continues at a saved position, with any number of workers or processes.

    Raises:
      ValueError: the state belongs to other examples, another seed or another way of drawing.
    """
    if state["order"] != self._fingerprint():
      raise ValueError(
        "the saved data position belongs to another order of examples: the dataset, fold, seed or "
        "balanced sampling changed since it was saved. Start in a new workdir"
      )
    self.close()
    self.examples_seen = int(state["examples_seen"])

  def close(self) -> None:
    """Stops the threads and worker processes; the next call of `next` starts them again."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None

  def _fingerprint(self) -> str:
    digest = hashlib.sha256(f"{self._order.state_name} {self._order.seed}".encode())
    digest.update(self._order.indices.tobytes())
    digest.update(self._store.index.label[self._order.indices].tobytes())
    return digest.hexdigest()[:16]


def eval_batches(
  store: ImageSource,
  *,
  batch_size: int,
  indices: Sequence[int] | np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> "EvalBatches":
  """Every example exactly once, in the given order; the last batch is padded.

  All batches have the same shape and all processes the same number of them. Padding has mask
  False, index -1, label 0 and a black image.

  Args:
    store: the images.
    batch_size: global batch, shared out over the processes.
    indices: examples to use, for example a fold's test side; None takes all.
    process_index: this process among process_count.
    process_count: processes that share each global batch.

  Raises:
    ValueError: no examples, an index outside the split, or a batch that cannot be shared out.
  """
  rows = _own_rows(batch_size, process_index, process_count)
  return EvalBatches(store, _chosen(store, indices), batch_size, rows)


class EvalBatches:
  """Iterable of evaluation batches, as often as wanted; `len` is the number of batches."""

  def __init__(self, store: ImageSource, indices: np.ndarray, batch_size: int, rows: slice):
    self._source = _BatchSource(store, _EvalPlan(indices, batch_size, rows))

  def __len__(self) -> int:
    return len(self._source)

  def __iter__(self) -> Iterator[Batch]:
    iterator = _start(self._source, workers=0)
    try:
      yield from iterator
    finally:
      iterator.close()


def channel_statistics(
  store: ImageStore, indices: Sequence[int] | np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each colour channel over all pixels of some images.

  Pass the training side of a fold only: statistics of test images would leak.

  Args:
    store: the images, taken at their size in the store.
    indices: examples to use; None takes all.

  Returns:
    (mean, std), float32 [3] each, RGB, for pixel values scaled to [0, 1].

  Raises:
    ValueError: no examples, or an index outside the split.
  """
  chosen = _chosen(store, indices)
  total, squares = store.channel_sums(chosen).sum(0)
  pixels = len(chosen) * store.image_size**2
  mean = total / pixels
  std = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
  return (mean / 255).astype(np.float32), (std / 255).astype(np.float32)


class _Plan(Protocol):
  """Which examples this process's part of batch n holds; -1 is padding."""

  def __len__(self) -> int: ...

  def __call__(self, number: int) -> np.ndarray: ...


class _TrainPlan:
  def __init__(self, order: ShuffledSampler, start: int, batch_size: int, rows: slice):
    self._order, self._start, self._batch_size, self._rows = order, start, batch_size, rows

  def __len__(self) -> int:
    return sys.maxsize // 2  # endless: Grain wants a length

  def __call__(self, number: int) -> np.ndarray:
    first = self._start + number * self._batch_size + self._rows.start
    return self._order.at(first, self._rows.stop - self._rows.start)


class _EvalPlan:
  def __init__(self, indices: np.ndarray, batch_size: int, rows: slice):
    self._batches = -(-len(indices) // batch_size)
    padding = np.full(self._batches * batch_size - len(indices), -1, np.int64)
    self._table = np.concatenate([indices, padding]).reshape(self._batches, batch_size)[:, rows]

  def __len__(self) -> int:
    return self._batches

  def __call__(self, number: int) -> np.ndarray:
    return self._table[number]


class _BatchSource:
  """Grain's view of the work: element n is batch n."""

  def __init__(self, store: ImageSource, plan: _Plan):
    self._store = store
    self._plan = plan
    self.on_device = store.on_device

  def __len__(self) -> int:
    return len(self._plan)

  def __getitem__(self, number: Any) -> Batch:
    index = self._plan(int(number))
    mask = index >= 0
    label = np.zeros(len(index), np.int32)
    label[mask] = self._store.index.label[index[mask]]
    batch = {
      "image": self._store.batch(index),
      "label": label,
      "mask": mask,
      "index": index.astype(np.int32),
    }
    if self._store.index.targets is not None:
      batch["targets"] = np.where(mask[:, None], self._store.index.targets[index], 0)
    return batch


def _start(source: _BatchSource, workers: int) -> Any:
  if source.on_device:  # there is nothing to prepare ahead
    return (source[number] for number in range(len(source)))
  dataset = grain.MapDataset.source(source).to_iter_dataset(
    grain.ReadOptions(num_threads=PREFETCHED_BATCHES, prefetch_buffer_size=PREFETCHED_BATCHES)
  )
  if workers:
    # Grain asks absl for its flags, which only programs started by absl have parsed.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1),
      worker_init_fn=_start_worker,
    )
  return iter(dataset)


def _start_worker(worker: int, workers: int) -> None:
  del worker, workers
  cv2.setNumThreads(1)  # the workers are the parallelism


def _chosen(store: ImageSource, indices: Sequence[int] | np.ndarray | None) -> np.ndarray:
  chosen = checked_indices(np.arange(len(store)) if indices is None else indices)
  if chosen.max() >= len(store):
    raise ValueError(f"index {chosen.max()} is outside {store.name}, which has {len(store)} images")
  return chosen


def _own_rows(batch_size: int, process_index: int, process_count: int) -> slice:
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size}")
  if process_count < 1 or not 0 <= process_index < process_count:
    raise ValueError(f"process {process_index} of {process_count} does not exist")
  if batch_size % process_count:
    raise ValueError(
      f"the global batch_size {batch_size} cannot be shared out evenly over "
      f"{process_count} processes"
    )
  share = batch_size // process_count
  return slice(process_index * share, (process_index + 1) * share)
