"""Weights of a hub in `load`, `predict`, `explain` and `export`."""

import csv

import numpy as np
import pytest

import jax_me
from convert import flax_to_torch
from convert.torch_files import read_torch_checkpoint
from jax_me.__main__ import main
from jax_me.faces.image_files import encode_image
from tests.helpers.file_server import serve_folder
from tests.helpers.hub_models import hub_model_folder

NAME = "hf://someone/faces"


@pytest.fixture
def photograph(local_hub, tmp_path):
  serve_folder(local_hub, "someone/faces", hub_model_folder(tmp_path / "repository"))
  path = tmp_path / "photograph.png"
  path.write_bytes(encode_image(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)))
  return path


@pytest.mark.slow
def test_commands_take_a_name(photograph, local_hub, tmp_path, monkeypatch, capsys):
  (face,) = jax_me.load(NAME).predict(photograph)
  assert face.label in ("angry", "happy", "neutral", "sad", "surprise")
  monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # So that the value of --offline is undone.
  for command, *options in (["predict"], ["explain", "--method", "rollout"]):
    output = tmp_path / command
    arguments = [command, str(photograph), "--checkpoint", NAME, "--output", str(output), *options]
    local_hub.requests.clear()
    assert main([*arguments, "--offline"]) == 0
    assert not local_hub.requests
  with open(tmp_path / "predict" / "predictions.csv", newline="") as file:
    (row,) = csv.DictReader(file)
  for label, score in face.scores.items():
    assert float(row[f"score_{label}"]) == pytest.approx(score, abs=1e-4)
  capsys.readouterr()
  assert main(["predict", str(photograph), "--checkpoint", "hf://x/y", "--output", "out"]) == 1
  assert capsys.readouterr().err.count("\n") == 1
  exported = tmp_path / "exported.pth"
  assert flax_to_torch.main(["--checkpoint", NAME, "--output", str(exported)]) == 0
  assert "head.weight" in read_torch_checkpoint(exported)
