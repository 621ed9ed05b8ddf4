"""Batched inference: class probabilities, valence and arousal of faces, in fixed batches."""

import collections
from typing import Generic, TypeVar

import jax
import numpy as np

from jax_me.models.classifier import make_classifier
from jax_me.models.model_folder import SavedModel

Key = TypeVar("Key")

# Faces per call of the model. On a CPU a face takes as long in any batch, and compilation for
# another size takes as long as 10 to 150 faces; larger batches help on accelerators only.
DEFAULT_BATCH = 4


class BatchedInference(Generic[Key]):
  """Collects faces and runs the model on full batches; compiles once per batch size.

  Runs asynchronously: the scores of a batch are fetched when the next batch is full. Models of one
  structure share the compiled program.

  Args:
    saved: the model with its normalisation statistics.
    batch: faces per batch; the last batch is padded.
  """

  def __init__(self, saved: SavedModel, batch: int = DEFAULT_BATCH):
    if batch < 1:
      raise ValueError(f"a batch must hold at least one face, got {batch}")
    graphdef, self._weights, self._normalisation = saved.split()
    self._classifier = make_classifier(graphdef, saved.affect)
    self._batch = batch
    self._pending: list[tuple[np.ndarray, Key]] = []
    self._running: collections.deque[tuple[list[Key], jax.Array]] = collections.deque()

  def submit(self, face: np.ndarray, key: Key) -> list[tuple[Key, np.ndarray]]:
    """Adds a face.

    Args:
      face: uint8 [S, S, 3] RGB.
      key: returned with the scores of this face.

    Returns:
      (key, float32 [classes]) of all faces whose scores are ready, in order of submission; with
      valence and arousal after the classes if the model has them.
    """
    self._pending.append((face, key))
    if len(self._pending) < self._batch:
      return []
    self._start()
    return self._fetch() if len(self._running) > 1 else []

  def flush(self) -> list[tuple[Key, np.ndarray]]:
    """The scores of all pending faces."""
    if self._pending:
      self._start()
    scores = []
    while self._running:
      scores += self._fetch()
    return scores

  def _start(self) -> None:
    faces, keys = zip(*self._pending, strict=True)
    self._pending = []
    # A new buffer for each batch: jax may still read the last one, or alias it without a copy.
    images = np.zeros((self._batch, *faces[0].shape), np.uint8)
    images[: len(faces)] = faces
    self._running.append((keys, self._classifier(self._weights, self._normalisation, images)))

  def _fetch(self) -> list[tuple[Key, np.ndarray]]:
    keys, scores = self._running.popleft()
    return list(zip(keys, np.asarray(scores), strict=False))  # The padding has no keys.
