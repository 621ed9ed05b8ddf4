"""Exported programs compute the class probabilities of the model, for batches of any size."""

import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from convert.flax_to_torch import main
from jax_me.models.classifier import classify
from jax_me.models.exported_program import write_program
from jax_me.models.model_folder import SavedModelError, save_model
from jax_me.models.program_loader import ProgramError, load
from jax_me.models.registry import create_model
from jax_me.models.saved_model import SavedModel

pytestmark = pytest.mark.usefixtures("quick_compilation")
TINY = {"image_size": 32, "depth": 1, "embed_dim": 32, "num_heads": 2}
MODELS = {
  "vit_tiny_patch16": TINY,
  "t2t_vit_7": TINY,
  "t2t_vit_t_14": TINY,
  "t2t_vit_14_se": TINY,
  "t2t_vit_16_ghost": TINY,
  "convnextv2_atto": {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)},
  "shallow_cnn": {"image_size": 32},
  "shallow_ststnet": {"image_size": 32},
  "shallow_resnet": dict(widths=(8, 16), depths=(1, 1), mirrored=True, zoom=1.1, image_size=32),
}
LABELS = ["negative", "positive", "surprise"]


def saved_model(name):
  arguments = {**MODELS[name], "num_classes": 3}
  model = create_model(name, rngs=nnx.Rngs(0), **arguments)
  return SavedModel(model, name, arguments, LABELS, 32, [0.5, 0.4, 0.3], [0.2, 0.3, 0.25], {})


def images(count):
  return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


def expected(saved, batch):
  """Probabilities of the model, compiled as the loader does: by jax's default options."""
  _, _, normalisation = saved.split()
  return np.asarray(jax.jit(lambda x: classify(saved.model, x, normalisation))(batch))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_stablehlo(name, tmp_path):
  saved = saved_model(name)
  write_program(saved, tmp_path / "program", "stablehlo")
  program = load(tmp_path / "program")
  assert program.labels == LABELS and program.check() < 1e-6
  batch = images(3)
  np.testing.assert_allclose(program(batch), expected(saved, batch), atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(
  not all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnxruntime")),
  reason="jax2onnx and onnxruntime (extra onnx) are not installed",
)
@pytest.mark.parametrize("name", MODELS)
def test_onnx(name, tmp_path):
  import onnxruntime

  saved = saved_model(name)
  # What was traced before must not be found in a cache of jax.
  batch = images(3)
  probabilities = expected(saved, batch)
  path = write_program(saved, tmp_path / "program", "onnx")
  session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
  for count in (1, 3):
    (found,) = session.run(None, {"images": batch[:count].astype(np.float32)})
    np.testing.assert_allclose(found, probabilities[:count], atol=1e-5)


def test_a_program_runs_without_jax_me(tmp_path):
  saved = saved_model("shallow_ststnet")
  write_program(saved, tmp_path / "program", "stablehlo")
  code = (
    "import sys, numpy as np; from load_program import load; program = load('.');"
    "print(program.check() < 1e-3, program(np.zeros((2, 32, 32, 3), np.uint8)).shape,"
    "any(name.startswith(('jax_me', 'flax')) for name in sys.modules))"
  )
  done = subprocess.run(
    [sys.executable, "-c", code], cwd=tmp_path / "program", capture_output=True, text=True
  )
  assert done.stdout.split("\n")[0] == "True (2, 3) False", done.stderr


def test_damage_is_found(tmp_path):
  folder = tmp_path / "program"
  path = write_program(saved_model("shallow_ststnet"), folder, "stablehlo")
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(ProgramError, match=r"program\.stablehlo is damaged"):
    load(folder)
  path.unlink()
  with pytest.raises(ProgramError, match="No such file"):
    load(folder)


def test_images_of_another_shape_are_refused(tmp_path):
  write_program(saved_model("shallow_ststnet"), tmp_path / "program", "stablehlo")
  program = load(tmp_path / "program")
  with pytest.raises(ValueError, match=r"uint8 \[B, 32, 32, 3\], got float32 \[1, 32, 32, 3\]"):
    program(np.zeros((1, 32, 32, 3), np.float32))


def test_command(tmp_path, capsys):
  saved = saved_model("shallow_ststnet")
  save_model(
    tmp_path / "model", saved.model, name=saved.name, arguments=saved.arguments, labels=LABELS,
    image_size=32, mean=saved.mean, std=saved.std, source={"dataset": "made"},
  )  # fmt: skip
  command = ["--checkpoint", str(tmp_path / "model"), "--output", str(tmp_path / "program")]
  assert main([*command, "--format", "stablehlo"]) == 0
  description = json.loads((tmp_path / "program" / "program.json").read_text())
  assert description["labels"] == LABELS and description["source"] == {"dataset": "made"}
  assert main([*command, "--format", "stablehlo"]) == 1
  assert "exists; choose another --output" in capsys.readouterr().err


def test_a_model_without_labels_is_refused(tmp_path):
  saved = saved_model("shallow_ststnet")
  saved.labels = None
  with pytest.raises(SavedModelError, match="no class labels"):
    write_program(saved, tmp_path / "program", "stablehlo")
  assert jax.tree.leaves(saved.split()[1]) and not list(tmp_path.iterdir())
