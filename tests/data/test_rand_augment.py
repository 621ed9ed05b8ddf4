"""RandAugment against recorded outputs of timm 1.0.31 (Pillow 13), operation by operation."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_me.data.augment.augmentation import Augmentation, make_augmentation, row_keys
from jax_me.data.augment.rand_augment import (
  OPERATIONS,
  RandAugmentSettings,
  apply_operation,
  operation_arguments,
  parse_rand_augment,
  rand_augment,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

RECORD = dict(np.load(pathlib.Path(__file__).resolve().parents[1] / "golden" / "rand_augment.npz"))
LEVELS = list(RECORD["levels"])
CASES = [key for key in RECORD if "/" in key]
WARPS = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
IMAGE = RECORD["image"].astype(np.float32)
FILL = RECORD["fill"].astype(np.float32)


@pytest.fixture(scope="module")
def run():
  return jax.jit(apply_operation)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_equals_timm(run, name):
  cases = [case for case in CASES if case.startswith(f"{name}/")]
  assert len(cases) == (4 if name in WARPS else 2)
  for case in cases:
    _, level, negate, interpolation = case.split("/")
    operation = OPERATIONS.index(name)
    argument = RECORD["arguments"][operation, LEVELS.index(float(level)), int(negate)]
    got = run(
      IMAGE, operation, jnp.float32(argument), FILL, jnp.asarray(interpolation == "bicubic")
    )
    difference = np.abs(np.asarray(got) - RECORD[case].astype(int))
    if name in WARPS:  # Pillow computes in float64 and rounds down: a level less in a few pixels.
      assert difference.max() <= 1 and np.mean(difference > 0) < 0.015, case
    else:
      assert difference.max() == 0, case


def test_arguments_equal_timms():
  for row, level in enumerate(LEVELS):
    for negate in (False, True):
      got = operation_arguments(jnp.float32(level), jnp.asarray(negate))
      np.testing.assert_allclose(got, RECORD["arguments"][:, row, int(negate)], rtol=1e-6)


def test_operations_are_drawn_uniformly_and_applied_half_of_the_time():
  settings = parse_rand_augment("rand-m9-mstd0.5-n1-inc1")
  run = jax.jit(jax.vmap(lambda key: rand_augment(IMAGE[:8, :8], key, settings, FILL)))
  images = run(jax.random.split(jax.random.key(0), 2000))
  unchanged = np.mean(np.all(np.asarray(images) == IMAGE[:8, :8], axis=(1, 2, 3)))
  assert unchanged == pytest.approx(0.5, abs=0.05)
  inverted = np.mean(np.all(np.asarray(images) == 255 - IMAGE[:8, :8], axis=(1, 2, 3)))
  # "SolarizeIncreasing" does the same, since no pixel is below its threshold.
  assert inverted == pytest.approx(2 * 0.5 / 15, abs=0.02)


def test_description_is_read():
  assert parse_rand_augment("rand-m9-mstd0.5-inc1") == RandAugmentSettings(9.0, 0.5, 2, 0.5)
  assert parse_rand_augment("rand-m7-n3-p1-inc1") == RandAugmentSettings(7.0, 0.0, 3, 1.0)


@pytest.mark.parametrize(
  "text", ["rand-m9", "augmix-m3", "rand-m9-inc0", "rand-m11-inc1", "rand-m9-w0-inc1", "m9-inc1"]
)
def test_other_descriptions_are_refused(text):
  with pytest.raises(ValueError, match="rand-m9-mstd0.5-inc1"):
    Augmentation(rand_augment=text)


def test_augmentation_applies_it_after_the_flip():
  images = np.stack([RECORD["image"][:24, :24]] * 4)
  keys = row_keys(jax.random.key(3), 4)
  settings = Augmentation(rand_augment="rand-m9-mstd0.5-p1-inc1")
  augment = jax.jit(make_augmentation(settings, 24, mean=(0.485, 0.456, 0.406)))
  out = np.asarray(augment(images, keys))
  assert out.min() >= 0 and out.max() <= 1
  np.testing.assert_allclose(out * 255, np.rint(out * 255), atol=1e-3)
  assert len(np.unique(out.reshape(4, -1), axis=0)) > 1


def test_optical_flow_has_none():
  with pytest.raises(ValueError, match="flow"):
    Augmentation(rand_augment="rand-m9-inc1", flow=True)
