"""Damaged files: each one is rejected or has another checksum."""

import time

import numpy as np
import pytest

from convert.errors import ConversionError
from convert.torch_files import read_checkpoint
from convert.torch_to_flax import convert_checkpoint
from tests.helpers.checkpoint_files import (
  TINY_VIT,
  random_arrays,
  save_safetensors,
  save_torch,
  state_dict,
  training_arguments,
  vit_arrays,
)

FLIPS = 500
KINDS = ["zip", "legacy", "safetensors"]


def good_file(kind, path):
  if kind == "safetensors":
    return save_safetensors(vit_arrays(), path)
  content = {
    "model": state_dict(vit_arrays()),
    "optimizer": {"state": {0: state_dict(random_arrays({"m": (3,)}, 0))}},
    "args": training_arguments(),
  }
  return save_torch(content, path, legacy=kind == "legacy")


def outcome(path):
  """Checksums of file and weights, or None when the file is rejected."""
  start = time.process_time()
  try:
    report = convert_checkpoint(read_checkpoint(path), "vit_tiny_patch16", **TINY_VIT).report
    result = report.source["sha256"], report.weights_sha256
  except ConversionError as error:
    assert path.name in str(error)
    result = None
  assert time.process_time() - start < 5
  return result


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes(tmp_path, kind):
  path = good_file(kind, tmp_path / "good.pth")
  good = path.read_bytes()
  file_sum, weights_sum = outcome(path)
  rng = np.random.default_rng(7)
  # Half of the flips at the ends of the file, which contain its structure.
  ends = np.concatenate([np.arange(2000), np.arange(len(good) - 2000, len(good))])
  offsets = np.concatenate([rng.integers(0, len(good), FLIPS // 2), rng.choice(ends, FLIPS // 2)])
  rejected = changed = unchanged = 0
  for offset in offsets:
    damaged = bytearray(good)
    damaged[offset] ^= int(rng.integers(1, 256))
    path.write_bytes(damaged)
    result = outcome(path)
    if result is None:
      rejected += 1
      continue
    assert result[0] != file_sum
    changed += result[1] != weights_sum
    unchanged += result[1] == weights_sum
  assert rejected + changed + unchanged == FLIPS
  assert rejected > 0
  assert unchanged > 0 or kind == "safetensors"  # safetensors has no redundant bytes
  if kind == "zip":  # every stored array has a checksum
    assert changed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_and_missing_ranges(tmp_path, kind):
  path = good_file(kind, tmp_path / "good.pth")
  good = path.read_bytes()
  file_sum, _ = outcome(path)
  rng = np.random.default_rng(8)
  for _ in range(60):
    start, length = int(rng.integers(0, len(good))), int(rng.integers(1, 3000))
    for middle in (b"", bytes(rng.integers(0, 256, length, np.uint8)), b"\xff" * length):
      path.write_bytes(good[:start] + middle + good[start + length :])
      result = outcome(path)
      assert result is None or result[0] != file_sum
