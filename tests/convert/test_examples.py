"""Example checkpoints of T2T-ViT: release, training save, DataParallel prefix."""

import time

import numpy as np
import pytest

from convert.torch_to_flax import convert_checkpoint, read_checkpoint, read_torch_checkpoint
from tests.helpers.checkpoint_files import save_torch, state_dict
from tests.helpers.golden_cases import GOLDEN, golden_cases, torch_weights

TINY = dict(embed_dim=32, depth=1, num_heads=4, mlp_ratio=2.0)


def test_training_save_with_ema_and_prefixed_file():
  training = read_checkpoint(GOLDEN / "examples" / "t2t_tiny_training_style.pth.tar")
  assert (training.container, training.weights) == ("state_dict_ema", "ema")
  assert training.metadata["arch"] == "t2t_vit_tiny_example"
  prefixed = read_checkpoint(GOLDEN / "examples" / "t2t_tiny_module_prefix.pth.tar")
  assert (prefixed.container, prefixed.weights) == ("state_dict", "raw")
  reports = [convert_checkpoint(c, "t2t_vit_7", **TINY).report for c in (training, prefixed)]
  for checkpoint, report in zip((training, prefixed), reports, strict=True):
    assert len(report.loaded) == len(checkpoint.arrays) == 45
    assert not report.dropped and not report.fresh
  assert reports[0].source["sha256"] != reports[1].source["sha256"]


def test_examples_are_read_like_torch_reads_them():
  torch = pytest.importorskip("torch", reason="compares with torch's own reader")
  import argparse

  for path in sorted((GOLDEN / "examples").iterdir()):
    with torch.serialization.safe_globals([argparse.Namespace]):
      content = torch.load(path, weights_only=True)
    wanted = content.get("state_dict_ema", content["state_dict"])
    arrays = read_torch_checkpoint(path)
    assert set(arrays) == {key.removeprefix("module.") for key in wanted}
    for key, value in wanted.items():
      np.testing.assert_array_equal(arrays[key.removeprefix("module.")], value.numpy())


def check_released(path):
  start = time.process_time()
  conversion = convert_checkpoint(read_checkpoint(path))
  assert time.process_time() - start < 5
  assert conversion.name == "t2t_vit_7"
  report = conversion.report
  assert report.source["format"] == "torch legacy" and report.source["weights"] == "ema"
  assert report.parameters == golden_cases("t2t")["t2t_vit_7"]["n_params_total"]
  assert len(report.loaded) == 111 and not report.dropped and not report.fresh


def test_a_large_legacy_file_converts_within_seconds(tmp_path):
  arrays = torch_weights(golden_cases("t2t")["t2t_vit_7"])
  path = save_torch({"state_dict_ema": state_dict(arrays)}, tmp_path / "r.pth.tar", legacy=True)
  assert path.stat().st_size > 17e6
  check_released(path)


def test_the_released_style_example(repository):
  path = repository.parent / "shared/golden/examples/t2t_vit_7_released_style.pth.tar"
  if not path.is_file():
    pytest.skip(f"optional local test data is missing: {path}")
  check_released(path)
