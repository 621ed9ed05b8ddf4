"""Learning-rate schedules and parameter groups equal those of the originals."""

import numpy as np
import pytest

from jax_me.training.param_groups import decays, learning_rate_scales
from jax_me.training.schedule import make_schedule, peak_learning_rate, warmup_cosine
from tests.helpers.golden_cases import misc
from tests.helpers.precision import float64


def our_path(key: str) -> str:
  """Path of a torch key among our parameters; only names matter here."""
  module, _, leaf = key.rpartition(".")
  if leaf == "kernel":
    leaf = "kernel"
  elif leaf == "weight":
    norm = "norm" in module or module.endswith(".ln") or is_downsampling_norm(module)
    leaf = "scale" if norm else "kernel"
  return f"{module}.{leaf}" if module else leaf


def is_downsampling_norm(module: str) -> bool:
  """Stem: (conv, norm); later downsamplings: (norm, conv)."""
  parts = module.removeprefix("encoder.").split(".")
  if parts[0] != "downsample_layers" or len(parts) != 3:
    return False
  return (parts[1] == "0") == (parts[2] == "1")


def nested(paths) -> dict:
  tree: dict = {}
  for path in paths:
    node = tree
    *parents, leaf = path.split(".")
    for parent in parents:
      node = node.setdefault(parent, {})
    node[leaf] = np.zeros(1)
  return tree


def test_schedule_equals_the_originals():
  record = misc()["lr_schedule"]
  peak = peak_learning_rate(0.0, record["blr"], record["eff_batch_size"])
  assert peak == record["base_lr"]
  with float64():
    rates = [
      float(
        warmup_cosine(
          np.float64(epoch),
          peak=peak,
          minimum=record["min_lr"],
          warmup_steps=record["warmup_epochs"],
          total_steps=record["epochs"],
        )
      )
      for epoch in record["at_epoch"]
    ]
  np.testing.assert_allclose(rates, record["lr"], rtol=1e-9, atol=1e-18)


def test_multistep_schedule_decreases_at_milestones():
  run_parameters = {
    "peak": 1e-2,
    "minimum": 0.0,
    "warmup_steps": 4,
    "total_steps": 100,
    "milestones": np.array([10.0, 20.0]),
  }
  rate = make_schedule("step", gamma=0.1)
  wanted = {0: 0.0, 2: 5e-3, 4: 1e-2, 9: 1e-2, 10: 1e-3, 19: 1e-3, 20: 1e-4, 99: 1e-4}
  for step, value in wanted.items():
    assert float(rate(step, run_parameters)) == pytest.approx(value, rel=1e-5)
  constant = make_schedule("constant")
  assert float(constant(99, run_parameters)) == pytest.approx(1e-2)
  with pytest.raises(ValueError, match="optimizer.schedule"):
    make_schedule("zigzag")


@pytest.mark.parametrize("rates", [(0.0, 0.0), (1e-3, 1e-3)])
def test_exactly_one_rate_must_be_set(rates):
  with pytest.raises(ValueError, match="exactly one"):
    peak_learning_rate(*rates, 64)


@pytest.mark.parametrize("family", ["layer_decay_mae_vit_base", "layer_decay_convnextv2"])
def test_layer_decay_and_weight_decay_equal_the_originals(family):
  for name, record in misc()[family].items():
    factor = float(name.split("layer_decay_")[1].split("_")[0])
    kind = "vit" if "vit" in family else name.split("_")[1]
    paths = {key: our_path(key) for key in record}
    scales = learning_rate_scales(nested(paths.values()), factor, kind)
    for key, groups in record.items():
      assert scales[paths[key]] == pytest.approx(groups["lr_scale"], rel=1e-9), (name, key)
      assert decays(paths[key], "finetune") == (groups["weight_decay"] > 0), (name, key)


@pytest.mark.parametrize("family", ["mae_vit_base", "fcmae_base"])
def test_pretraining_weight_decay_equals_the_originals(family):
  for key, decay in misc()[f"pretrain_weight_decay_{family}"].items():
    assert decays(our_path(key), "pretrain") == (decay > 0), key


def test_invalid_layer_decay_raises():
  with pytest.raises(ValueError, match="in \\(0, 1\\]"):
    learning_rate_scales({"a": np.zeros(1)}, 0.0, "vit")
  with pytest.raises(ValueError, match="layer_decay_type"):
    learning_rate_scales({"a": np.zeros(1)}, 0.5, "vgg")
