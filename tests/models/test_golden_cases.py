"""Regenerated weights and inputs against the checksums of the recorded ones."""

import hashlib

import numpy as np
import pytest

from tests.helpers.golden_cases import (
  golden_cases,
  mask_noise,
  raw_input,
  step_input,
  step_labels,
  torch_weights,
  weights_digest,
)

# One small case per family: all cases of a family are generated alike.
SMALL = [
  ("mae", "vit_tiny_patch16_gap"),
  ("mae", "mae_vit_tiny_patch16"),
  ("t2t", "t2t_vit_7"),
  ("convnextv2", "convnextv2_atto"),
  ("units", "token_performer"),
]


def sha256(array):
  return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize(("family", "name"), SMALL)
def test_weights_and_inputs_match_their_checksums(family, name):
  case = golden_cases(family)[name]
  assert weights_digest(case, torch_weights(case)) == case["weights_sha256"]
  assert sha256(raw_input(case)) == case["input_sha256"]
  if "noise" in case:
    assert sha256(mask_noise(case)) == case["noise_sha256"]


@pytest.mark.parametrize("name", sorted(golden_cases("trajectories")))
def test_batches_of_the_trajectories_match_their_checksums(name):
  case = golden_cases("trajectories")[name]
  for step, recorded in enumerate(case["steps"]):
    channels_first = step_input(case, step).transpose(0, 3, 1, 2)
    assert sha256(channels_first) == recorded["input_sha256"]
    if "labels" in recorded:
      assert step_labels(case, step).tolist() == recorded["labels"]
