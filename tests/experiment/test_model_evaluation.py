"""Evaluation of given models by a recipe, and training from checkpoint files."""

import csv
import json

import jax
import numpy as np
import pytest
from flax import nnx

import jax_me
from configs.common import common
from convert.flax_to_torch import write_torch_checkpoint
from convert.torch_to_flax import convert_checkpoint, read_checkpoint
from jax_me.experiment.initial_weights import initialise_state
from jax_me.experiment.model_evaluation import label_order
from jax_me.experiment.run import run_experiment
from jax_me.image_preparation import ImagePreparation
from jax_me.models.model_folder import save_model, split_model
from jax_me.models.registry import create_model
from tests.helpers.drawn_folder import write_light_and_dark
from tests.helpers.file_server import serve_folder
from tests.helpers.hub_models import hub_model_folder
from tests.helpers.small_models import random_model

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]
ARGUMENTS = {"image_size": 16, "patch_size": 8, "embed_dim": 24, "num_heads": 2, "depth": 1}
SAVED = {"name": "vit_tiny_patch16", "image_size": 16, "mean": [0.4] * 3, "std": [0.3] * 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  """Twelve images of six subjects, dark and light."""
  return write_light_and_dark(tmp_path_factory.mktemp("images"), 40)


@pytest.fixture(scope="module")
def config(images, tmp_path_factory):
  """A recipe whose own model, size and normalisation differ from those of the evaluated model."""
  c = common()
  c.unlock()
  c.update(steps=1, batch_size=4, trackers=())
  c.data.update(name="labeled_images", manual_dir=str(images), split="kfold", folds=3)
  c.data.options.update(align=False, size=16)
  c.data.data_dir = str(tmp_path_factory.mktemp("built"))
  c.model.image_size = 32
  return c.lock()


def evaluate(config, source, workdir, labels=None):
  config = config.copy_and_resolve_references()
  config.init_from = str(source)
  return run_experiment(config, workdir=str(workdir), mode="eval", labels=labels)


def saved_model(folder, labels=("light", "dark"), seed=0, **fields):
  arguments = {**ARGUMENTS, "num_classes": len(labels)}
  model = random_model(lambda: create_model(SAVED["name"], rngs=nnx.Rngs(0), **arguments), seed)
  source = {"options": {"align": False, "size": 16}}
  save_model(
    folder,
    model,
    **{**SAVED, "arguments": arguments, "labels": list(labels), "source": source, **fields},
  )
  return folder


def read_predictions(workdir):
  return {row["file"]: row for row in csv.DictReader((workdir / "predictions.csv").open())}


@pytest.mark.parametrize(
  "preparation",
  [ImagePreparation(16), ImagePreparation(16, "shortest_edge", 20, 0.8, "bicubic")],
  ids=["stretched", "cropped"],
)
def test_predictions_are_those_of_the_model_by_label(config, images, tmp_path, preparation):
  folder = saved_model(tmp_path / "model", preparation=preparation)
  assert evaluate(config, folder, tmp_path / "run") == 0
  rows = read_predictions(tmp_path / "run")
  assert len(rows) == 12
  model = jax_me.load(folder)
  for file, row in rows.items():
    (expected,) = model.predict(images / file)
    assert row["prediction"] == expected.label
    for label in ("dark", "light"):
      assert float(row[f"score_{label}"]) == pytest.approx(expected.scores[label], abs=2e-6)
  report = (tmp_path / "run/report.html").read_text()
  assert "UF1" in report and str(folder) in report
  assert json.loads((tmp_path / "run/run.json").read_text())["config"]["init_from"] == str(folder)
  # The same command again gives the same result.
  before = (tmp_path / "run/predictions.csv").read_bytes()
  assert evaluate(config, folder, tmp_path / "run") == 0
  assert (tmp_path / "run/predictions.csv").read_bytes() == before


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (("light", "grey"), "only in the model: grey; only in the dataset: dark"),
    (("light", "dark", "grey"), "only in the model: grey; only in the dataset: none"),
  ],
)
def test_other_labels_are_refused(config, tmp_path, capsys, labels, message):
  folder = saved_model(tmp_path / "model", labels=labels)
  assert evaluate(config, folder, tmp_path / "run") == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / "run").exists()


def test_labels_are_compared_in_one_spelling():
  assert label_order(["half smile", "neutral"], ["Neutral", "Half_Smile"]) == [1, 0]


def test_sources_that_cannot_be_evaluated(config, tmp_path, capsys):
  assert evaluate(config, tmp_path / "none", tmp_path / "run") == 2
  assert "holds no model" in capsys.readouterr().err
  assert evaluate(config, "", tmp_path / "run") == 2
  assert "--checkpoint" in capsys.readouterr().err
  (tmp_path / "page.pth").write_text("<html>")
  assert evaluate(config, tmp_path / "page.pth", tmp_path / "run") == 2
  assert "page.pth" in capsys.readouterr().err


def test_a_folder_with_a_run_of_its_own_is_refused(config, tmp_path, capsys):
  run = config.copy_and_resolve_references()
  run.model.image_size = 16
  with run.unlocked():
    run.model.arguments.update(ARGUMENTS)
  run.data.fold = 0
  assert run_experiment(run, workdir=str(tmp_path / "run")) == 0
  assert evaluate(config, saved_model(tmp_path / "model"), tmp_path / "run") == 2
  assert "Use another --workdir" in capsys.readouterr().err
  # The run itself is a model that can be evaluated elsewhere.
  assert evaluate(config, tmp_path / "run" / "fold1", tmp_path / "evaluated") == 0
  assert "the model was trained on this dataset" in capsys.readouterr().out
  assert len(read_predictions(tmp_path / "evaluated")) == 12


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  """A torch file of ConvNeXt V2 atto with two classes."""
  path = tmp_path_factory.mktemp("checkpoint") / "atto.pth"
  model = random_model(
    lambda: create_model("convnextv2_atto", rngs=nnx.Rngs(0), num_classes=2), fan_in_scaling=True
  )
  write_torch_checkpoint(model, "convnextv2_atto", path)
  return path


def test_a_torch_file_is_evaluated_like_its_converted_folder(config, checkpoint, tmp_path):
  from convert.conversion import save_conversion

  labels = ["light", "dark"]  # in another order than the dataset's
  save_conversion(convert_checkpoint(read_checkpoint(checkpoint)), tmp_path / "m", labels=labels)
  assert evaluate(config, checkpoint, tmp_path / "file", labels=labels) == 0
  assert evaluate(config, tmp_path / "m", tmp_path / "folder") == 0
  files = [tmp_path / name / "predictions.csv" for name in ("file", "folder")]
  assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
  ("labels", "words"),
  [
    (["light"], "1 labels are given; vit_tiny_patch16 has 2 classes"),
    (["light", "Light"], "a label is given twice"),
    (["light", "grey"], "only in the dataset: dark"),
  ],
)
def test_wrong_labels_of_a_model(config, tmp_path, capsys, labels, words):
  folder = saved_model(tmp_path / "model", labels=("0", "1"))
  assert evaluate(config, folder, tmp_path / "run", labels=labels) == 2
  assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_an_untrained_head_is_not_evaluated(config, tmp_path, capsys):
  folder = saved_model(tmp_path / "model", source={"fresh": ["head.bias", "head.kernel"]})
  assert evaluate(config, folder, tmp_path / "run") == 2
  assert "is untrained" in capsys.readouterr().err
  with pytest.raises(ValueError, match="is untrained"):
    jax_me.load(folder)


def test_weights_by_name(config, local_hub, tmp_path, capsys):
  """An evaluation takes them, up to the number of labels, and a training starts from them."""
  serve_folder(local_hub, "someone/faces", hub_model_folder(tmp_path / "repository"))
  assert evaluate(config, "hf://someone/faces", tmp_path / "run", labels=["a"]) == 2
  assert "vit_tiny_patch16 has 5 classes" in capsys.readouterr().err
  arguments = {"image_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
  arguments |= {"global_pool": False, "num_classes": 2}
  _, params, model_state = split_model(create_model(SAVED["name"], rngs=nnx.Rngs(0), **arguments))
  state, report = initialise_state(
    {"params": params, "model_state": model_state},
    "hf://someone/faces",
    target_name=SAVED["name"],
    labels=["dark", "light"],
  )
  assert {row["path"] for row in report["fresh"]} == {"head.kernel", "head.bias"}
  expected = split_model(jax_me.load("hf://someone/faces").model)[1]
  jax.tree.map(np.testing.assert_array_equal, state["params"]["blocks"], expected["blocks"])


def test_training_starts_from_a_torch_file(checkpoint):
  _, params, model_state = split_model(
    random_model(lambda: create_model("convnextv2_atto", rngs=nnx.Rngs(0), num_classes=3), 1)
  )
  fresh = {"params": params, "model_state": model_state}
  state, report = initialise_state(
    fresh, checkpoint, target_name="convnextv2_atto", labels=["a", "b", "c"]
  )
  converted = convert_checkpoint(read_checkpoint(checkpoint)).model
  expected = split_model(converted)[1]
  assert {row["path"] for row in report["fresh"]} == {"head.kernel", "head.bias"}
  for part in ("downsample_layers", "stages", "norm"):
    jax.tree.map(np.testing.assert_array_equal, state["params"][part], expected[part])
