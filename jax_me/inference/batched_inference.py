"""Batched inference: class probabilities of faces, in batches of fixed sizes."""

import collections
from collections.abc import Sequence
from typing import Generic, TypeVar

import jax
import numpy as np

from jax_me.models.classifier import make_classifier
from jax_me.models.model_folder import SavedModel

Key = TypeVar("Key")


class FaceClassifier:
  """A classifier for any number of faces; compiles once for one face and once for `batch` faces.

  Args:
    saved: the model with its normalisation statistics.
    batch: faces per call of the model. Larger batches help on accelerators only.
  """

  def __init__(self, saved: SavedModel, batch: int = 4):
    if batch < 1:
      raise ValueError(f"a batch must hold at least one face, got {batch}")
    graphdef, self._weights, self._normalisation = saved.split()
    self._classifier = make_classifier(graphdef)
    self.batch = batch

  def __call__(self, faces: Sequence[np.ndarray]) -> np.ndarray:
    """Class probabilities of faces uint8 [S, S, 3] RGB: float32 [faces, classes]."""
    parts = [faces[i : i + self.batch] for i in range(0, len(faces), self.batch)]
    scores = [self.start(part, 1 if len(part) == 1 else self.batch) for part in parts]
    return np.concatenate(scores)[: len(faces)]

  def start(self, faces: Sequence[np.ndarray], size: int) -> jax.Array:
    """Starts one batch, padded to `size`; float32 [size, classes], computed asynchronously."""
    # A new buffer for each batch: jax may still read the last one, or alias it without a copy.
    images = np.zeros((size, *faces[0].shape), np.uint8)
    images[: len(faces)] = faces
    return self._classifier(self._weights, self._normalisation, images)


class BatchedInference(Generic[Key]):
  """Collects the faces of a stream into full batches.

  Runs asynchronously: the scores of a batch are fetched when the next batch is full.

  Args:
    saved, batch: see `FaceClassifier`.
  """

  def __init__(self, saved: SavedModel, batch: int):
    self._classifier = FaceClassifier(saved, batch)
    self._pending: list[tuple[np.ndarray, Key]] = []
    self._running: collections.deque[tuple[list[Key], jax.Array]] = collections.deque()

  def submit(self, face: np.ndarray, key: Key) -> list[tuple[Key, np.ndarray]]:
    """Adds a face.

    Args:
      face: uint8 [S, S, 3] RGB.
      key: returned with the scores of this face.

    Returns:
      (key, float32 [classes]) of all faces whose scores are ready, in order of submission.
    """
    self._pending.append((face, key))
    if len(self._pending) < self._classifier.batch:
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
    self._running.append((keys, self._classifier.start(faces, self._classifier.batch)))

  def _fetch(self) -> list[tuple[Key, np.ndarray]]:
    keys, scores = self._running.popleft()
    return list(zip(keys, np.asarray(scores), strict=False))  # The padding has no keys.
