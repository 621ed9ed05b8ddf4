"""A model's scores for faces that come one at a time, computed in batches of one fixed shape."""

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_me.models.model_folder import SavedModel, merge_model, split_model


class BatchScorer:
  """Collects faces, and runs the model when a batch is full; compiles once.

  While a batch is computed the caller goes on: its scores are fetched when the next one is full.

  Args:
    saved: the model with its mean and standard deviation.
    batch: faces in a batch.
  """

  def __init__(self, saved: SavedModel, batch: int):
    if batch < 1:
      raise ValueError(f"a batch holds at least one face, got {batch}")
    graph, self._params, self._state = split_model(saved.model)
    self._mean = jnp.asarray(saved.mean, jnp.float32)
    self._std = jnp.asarray(saved.std, jnp.float32)
    side = saved.image_size
    self._faces = np.zeros((batch, side, side, 3), np.uint8)
    self._waiting: list[Any] = []
    self._running: collections.deque[tuple[list[Any], jax.Array]] = collections.deque()

    def probabilities(params: Any, state: Any, mean: jax.Array, std: jax.Array, faces: jax.Array):
      logits = merge_model(graph, params, state)((faces.astype(jnp.float32) / 255 - mean) / std)
      return jax.nn.softmax(logits.astype(jnp.float32), axis=-1)

    self._run = jax.jit(probabilities)

  def put(self, face: np.ndarray, owner: Any) -> list[tuple[Any, np.ndarray]]:
    """Adds a face.

    Args:
      face: uint8 [S, S, 3] RGB.
      owner: what its scores are handed back with.

    Returns:
      (owner, float32 [classes]) of the faces whose scores are there now, in their order.
    """
    self._faces[len(self._waiting)] = face
    self._waiting.append(owner)
    if len(self._waiting) < len(self._faces):
      return []
    self._start()
    return self._fetch() if len(self._running) > 1 else []

  def flush(self) -> list[tuple[Any, np.ndarray]]:
    """The scores of all faces that are still waiting."""
    if self._waiting:
      self._start()
    scores = []
    while self._running:
      scores += self._fetch()
    return scores

  def _start(self) -> None:
    scores = self._run(self._params, self._state, self._mean, self._std, self._faces)
    self._running.append((self._waiting, scores))
    self._waiting = []
    # A new array: jax may still read the old one, or even compute on it in place.
    self._faces = np.zeros_like(self._faces)

  def _fetch(self) -> list[tuple[Any, np.ndarray]]:
    owners, scores = self._running.popleft()
    # The padding of the last batch has no owner.
    return list(zip(owners, np.asarray(scores), strict=False))
