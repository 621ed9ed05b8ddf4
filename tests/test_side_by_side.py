"""Comparison with other implementations: timing in turns, our programs, masked dense FCMAE."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from benchmarks.side_by_side import measurement, ours
from benchmarks.side_by_side.measurement import OURS, Turn, measure, summarize
from benchmarks.side_by_side.rows import ROWS, Row
from jax_me.models.model_summary import summarize_model
from jax_me.models.registry import MODELS
from tests.helpers.small_models import random_model


def test_programs_run_in_turns(monkeypatch):
  monkeypatch.setattr(measurement, "PAUSE", 0.0)
  visits = []
  runs = {name: lambda calls, name=name: visits.append(name) for name in (OURS, "a", "b")}
  turns = measure(runs, seconds=0.0)
  assert len(turns) == measurement.FEWEST_TURNS
  visits = visits[len(runs) :]  # Without the first calls.
  for number in range(len(turns)):
    assert sorted(visits[3 * number : 3 * number + 3]) == ["a", "b", OURS]
  assert len({visits[0], visits[3], visits[6]}) == 3, "another program begins each turn"


def test_ratios_compare_the_times_of_one_turn():
  turns = [
    Turn({OURS: s, "a": 2 * s}, {OURS: 1.0, "a": 3.0}, load)
    for s, load in ((1.0, 0.0), (8.0, 0.6), (2.0, 0.3))
  ]
  result = summarize(turns, 4, on_cpu=True)
  assert result["ratios"] == {"a": {"low": 2.0, "median": 2.0, "high": 2.0}}
  assert result["images_per_second"] == {OURS: 2.0, "a": 1.0}
  assert result["processor_time_ratios"] == {"a": 3.0}
  assert result["other_load"] == 0.3 and result["turns"] == 3
  assert "processor_time_ratios" not in summarize(turns, 4, on_cpu=False)


def test_rows_name_models():
  assert {row.model for row in ROWS.values()} <= set(MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("work", ["inference", "step"])
def test_our_programs_run_and_are_described(work):
  row = Row(name="small", title="small", work=work, model="shallow_cnn", peer="")
  side = ours.build(row, 4, "float32")
  side.run(2)
  assert side.parameters == summarize_model("shallow_cnn").parameters
  assert side.program["product_flops"] > 0
  assert side.program["peak_bytes"] >= side.program["argument_bytes"] > 0


@pytest.mark.slow
def test_masked_dense_fcmae_has_the_loss_of_ours(monkeypatch):
  pytest.importorskip("timm", reason="the layers of the peer are timm's, which is not installed")
  import torch

  from benchmarks.side_by_side.masked_dense import MaskedDenseFCMAE

  mine = random_model(lambda: MODELS["fcmae_convnextv2_atto"](image_size=64, rngs=nnx.Rngs(0)))
  theirs = MaskedDenseFCMAE("convnextv2_atto", mask_ratio=0.6)
  with torch.no_grad():
    copy_weights(mine, theirs)
  rng = np.random.default_rng(0)
  images = rng.standard_normal((2, 64, 64, 3)).astype(np.float32)
  noise = rng.random((2, 4), np.float32)
  monkeypatch.setattr(torch, "rand", lambda *shape, device: torch.from_numpy(noise))
  loss = theirs(torch.from_numpy(images).permute(0, 3, 1, 2)).item()
  np.testing.assert_allclose(mine(jnp.asarray(images), noise=jnp.asarray(noise)).loss, loss, 1e-5)


def copy_weights(mine, theirs):
  import torch

  def conv(layer, peer):
    peer.weight.copy_(tensor(layer.kernel).permute(3, 2, 0, 1))
    peer.bias.copy_(tensor(layer.bias))

  def norm(layer, peer):
    peer.weight.copy_(tensor(layer.scale))
    peer.bias.copy_(tensor(layer.bias))

  def block(layer, peer):
    conv(layer.dwconv, peer.conv_dw)
    norm(layer.norm, peer.norm)
    for linear, other in ((layer.pwconv1, peer.mlp.fc1), (layer.pwconv2, peer.mlp.fc2)):
      other.weight.copy_(tensor(linear.kernel).T)
      other.bias.copy_(tensor(linear.bias))
    peer.mlp.grn.weight.copy_(tensor(layer.grn.gamma).flatten())
    peer.mlp.grn.bias.copy_(tensor(layer.grn.beta).flatten())

  def tensor(value):
    return torch.from_numpy(np.array(value[...]))

  (kernel, scale), *downsamplings = mine.encoder.downsample_layers
  conv(kernel, theirs.stem[0])
  norm(scale, theirs.stem[1])
  for (scale, kernel), peer in zip(downsamplings, theirs.stages[1:], strict=True):
    norm(scale, peer.downsample[0])
    conv(kernel, peer.downsample[1])
  for blocks, peer in zip(mine.encoder.stages, theirs.stages, strict=True):
    for layer, other in zip(blocks, peer.blocks, strict=True):
      block(layer, other)
  conv(mine.proj, theirs.proj)
  conv(mine.pred, theirs.pred)
  block(mine.decoder[0], theirs.decoder)
  theirs.mask_token.copy_(tensor(mine.mask_token).permute(0, 3, 1, 2))
