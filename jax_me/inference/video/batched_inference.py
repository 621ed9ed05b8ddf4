"""Batched inference: scores for faces that arrive one at a time, in batches of a fixed shape."""

import collections
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jax_me.models.layers import normalise_channels
from jax_me.models.model_folder import SavedModel, merge_model, split_model

Key = TypeVar("Key")


class BatchedInference(Generic[Key]):
  """Collects faces and runs the model on each full batch; compiles once.

  Runs asynchronously: the scores of a batch are fetched when the next batch is full.

  Args:
    saved: the model with its normalisation statistics.
    batch: faces per batch.
  """

  def __init__(self, saved: SavedModel, batch: int):
    if batch < 1:
      raise ValueError(f"a batch must hold at least one face, got {batch}")
    graph, self._params, self._state = split_model(saved.model)
    self._mean = jnp.asarray(saved.mean, jnp.float32)
    self._std = jnp.asarray(saved.std, jnp.float32)
    side = saved.image_size
    self._faces = np.zeros((batch, side, side, 3), np.uint8)
    self._keys: list[Key] = []
    self._running: collections.deque[tuple[list[Key], jax.Array]] = collections.deque()

    def probabilities(params: Any, state: Any, mean: jax.Array, std: jax.Array, faces: jax.Array):
      images = normalise_channels(faces.astype(jnp.float32) / 255, mean, std)
      logits = merge_model(graph, params, state)(images)
      return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    self._run = jax.jit(probabilities)

  def submit(self, face: np.ndarray, key: Key) -> list[tuple[Key, np.ndarray]]:
    """Adds a face.

    Args:
      face: uint8 [S, S, 3] RGB.
      key: returned with the scores of this face.

    Returns:
      (key, float32 [classes]) of all faces whose scores are ready, in order of submission.
    """
    self._faces[len(self._keys)] = face
    self._keys.append(key)
    if len(self._keys) < len(self._faces):
      return []
    self._start()
    return self._fetch() if len(self._running) > 1 else []

  def flush(self) -> list[tuple[Key, np.ndarray]]:
    """The scores of all pending faces."""
    if self._keys:
      self._start()
    scores = []
    while self._running:
      scores += self._fetch()
    return scores

  def _start(self) -> None:
    scores = self._run(self._params, self._state, self._mean, self._std, self._faces)
    self._running.append((self._keys, scores))
    self._keys = []
    # A new buffer: jax may still read the old one, or alias it without a copy.
    self._faces = np.zeros_like(self._faces)

  def _fetch(self) -> list[tuple[Key, np.ndarray]]:
    keys, scores = self._running.popleft()
    # The padding of the last batch has no keys.
    return list(zip(keys, np.asarray(scores), strict=False))
