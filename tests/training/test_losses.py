"""Losses: hard and soft targets, class weights, masked means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.data.augment.augmentation import Augmentation, make_augmentation
from jax_me.evaluation.affect import concordance
from jax_me.models import model_folder
from jax_me.training.losses import (
  as_distributions,
  balanced_class_weights,
  concordance_loss,
  masked_mean,
  softmax_cross_entropy,
)
from jax_me.training.steps import classification_loss
from tests.helpers.tiny_training import CLASSES, RUN_PARAMETERS, SIZE, make_batch, make_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOGITS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 1, 1])
SHARES = np.random.default_rng(1).dirichlet(np.ones(4), 6).astype(np.float32)


def reference_cross_entropy(logits, targets, weights=(1, 1, 1, 1)):
  probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
  return -(targets * np.log(probabilities) * np.asarray(weights)).sum(-1)


def test_integer_labels_and_distributions():
  hard = softmax_cross_entropy(LOGITS, jnp.asarray(LABELS))
  np.testing.assert_allclose(hard, reference_cross_entropy(LOGITS, np.eye(4)[LABELS]), rtol=1e-5)
  soft = softmax_cross_entropy(LOGITS, jnp.asarray(SHARES))
  np.testing.assert_allclose(soft, reference_cross_entropy(LOGITS, SHARES), rtol=1e-5)


def test_smoothing_mixed_targets_equals_mixing_smoothed_ones():
  got = softmax_cross_entropy(LOGITS, jnp.asarray(SHARES), label_smoothing=0.1)
  want = reference_cross_entropy(LOGITS, 0.9 * SHARES + 0.1 / 4)
  np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("targets", [LABELS, SHARES], ids=["classes", "distributions"])
def test_class_weights_multiply_each_class(targets):
  torch = pytest.importorskip("torch")
  weights = np.array([0.5, 1.0, 3.0, 0.0], np.float32)
  got = softmax_cross_entropy(
    LOGITS, jnp.asarray(targets), label_smoothing=0.2, class_weights=jnp.asarray(weights)
  )
  want = torch.nn.functional.cross_entropy(
    *map(torch.as_tensor, (LOGITS, targets, weights)), reduction="none", label_smoothing=0.2
  )
  np.testing.assert_allclose(got, want, rtol=1e-5)


def test_balanced_weights_give_every_class_the_same_total():
  labels = np.array([0] * 6 + [1] * 3 + [3])
  weights = balanced_class_weights(labels, 4)
  np.testing.assert_allclose(
    weights * np.bincount(labels, minlength=4), [10 / 3, 10 / 3, 0, 10 / 3]
  )
  assert weights[labels].mean() == pytest.approx(1)


def test_conservative_weights_are_at_most_three_times_that_of_the_most_frequent_class():
  labels = np.array([0] * 12 + [1] * 6 + [3])
  weights = balanced_class_weights(labels, 4, limit=3.0)
  np.testing.assert_allclose(weights / weights[0], [1, 2, 0, 3])
  assert weights[labels].mean() == pytest.approx(1)
  few = labels[:18]
  np.testing.assert_array_equal(
    balanced_class_weights(few, 4, limit=3.0), balanced_class_weights(few, 4)
  )


def test_targets_of_another_shape_raise():
  with pytest.raises(ValueError, match=r"distributions \[B, 4\], got \[6, 3\]"):
    as_distributions(jnp.zeros((6, 3)), 4)


def test_masked_mean_ignores_padding():
  assert masked_mean(jnp.array([1.0, 3.0, np.nan]), jnp.array([True, True, False])) == 2
  assert masked_mean(jnp.ones(2), jnp.array([False, False])) == 0


@pytest.mark.slow
def test_loss_uses_targets_of_the_batch_and_weights_of_the_run():
  loss, logits, batch = tiny_loss()
  votes = np.random.default_rng(2).dirichlet(np.ones(CLASSES), len(logits)).astype(np.float32)
  run_parameters = RUN_PARAMETERS.arrays()
  value, (metrics, _) = loss({**batch, "targets": votes}, run_parameters)
  assert float(value) == pytest.approx(
    reference_cross_entropy(logits, votes, [1] * 3).mean(), rel=1e-5
  )
  correct = logits.argmax(-1) == votes.argmax(-1)
  assert float(metrics["accuracy"]) == pytest.approx(correct.mean())
  weights = np.array([2.0, 1.0, 0.5])
  value, _ = loss(batch, {**run_parameters, "class_weights": jnp.asarray(weights)})
  want = reference_cross_entropy(logits, np.eye(3)[batch["label"]], weights).mean()
  assert float(value) == pytest.approx(want, rel=1e-5)


def tiny_loss():
  """Loss function of a tiny model without augmentation, its logits, and the batch."""
  batch = make_batch(0)
  network = make_model(nnx.Rngs(0), drop_path_rate=0.0)
  graphdef, params, model_state = model_folder.split_model(network)
  loss = classification_loss(graphdef, make_augmentation(Augmentation(), SIZE))
  images = (batch["image"] / 255.0 - 0.5) / 0.25
  logits = np.asarray(network(jnp.asarray(images, jnp.float32), deterministic=True))
  run = jax.jit(lambda b, c: loss(params, model_state, c, b, jax.random.key(0)))
  return run, logits, batch


def test_concordance_loss_counts_known_values_only():
  rng = np.random.default_rng(2)
  prediction, truth = rng.uniform(-1, 1, (2, 40, 2)).astype(np.float32)
  truth[3:6], mask = np.nan, np.arange(40) < 30
  kept = mask & ~np.isnan(truth[:, 0])
  ccc = [concordance(truth[kept, c], prediction[kept, c]) for c in range(2)]
  loss, gradient = jax.value_and_grad(concordance_loss)(prediction, truth, mask)
  np.testing.assert_allclose(loss, 1 - np.mean(ccc), atol=1e-5)
  assert np.isfinite(gradient).all() and not gradient[~kept].any() and gradient[kept].all()
  assert concordance_loss(truth[kept], truth[kept], mask[kept]) < 1e-5
  assert concordance_loss(prediction, np.full_like(truth, np.nan), mask) == 1
