"""Models with valence and arousal: prediction, explanation, ensemble, model folder."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jax_me
from jax_me.__main__ import main
from jax_me.faces.image_files import encode_image
from jax_me.models.classifier import activate, deactivate
from jax_me.models.ensemble import make_ensemble
from jax_me.models.layers import normalise
from jax_me.models.model_folder import load_model, save_model
from jax_me.models.model_metadata import SavedModelError, read_model_metadata
from jax_me.models.registry import create_model
from tests.helpers.inference_models import LABELS, SAVED, save

pytestmark = pytest.mark.usefixtures("quick_compilation")
IMAGE = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)


def save_with_affect(folder, seed=1, labels=LABELS):
  """A model of two classes, valence and arousal."""
  arguments = {**SAVED, "num_classes": len(labels) + 2}
  save_model(
    folder,
    create_model("vit_tiny_patch16", rngs=nnx.Rngs(seed), **arguments),
    name="vit_tiny_patch16",
    arguments=arguments,
    labels=labels,
    image_size=32,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={"options": {"align": False}, "fold": f"fold{seed}"},
    affect=True,
  )
  return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return save_with_affect(tmp_path_factory.mktemp("m") / "model")


def outputs_of(saved):
  normalisation = {"mean": jnp.asarray(saved.mean), "std": jnp.asarray(saved.std)}
  images = normalise(jnp.asarray(IMAGE[None], jnp.float32) / 255, normalisation)
  return np.asarray(saved.model(images)[0])


@pytest.mark.slow
def test_valence_and_arousal_are_those_of_the_model(model, tmp_path):
  predictor = jax_me.load(model, verify=True)
  (face,) = predictor.predict(IMAGE)
  outputs = outputs_of(predictor.saved)
  np.testing.assert_allclose([face.valence, face.arousal], np.tanh(outputs[2:]), atol=1e-5)
  assert list(face.scores) == LABELS and sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
  assert f"valence {face.valence:+.2f}" in str(face)
  record = predictor.predict(IMAGE).to_records()[0]
  assert (record["valence"], record["arousal"]) == (face.valence, face.arousal)
  (explanation,) = predictor.explain(IMAGE)
  assert list(explanation.scores) == LABELS
  assert explanation.affect == pytest.approx([face.valence, face.arousal], abs=1e-5)


def test_predict_writes_two_more_columns(model, tmp_path):
  (tmp_path / "photo.png").write_bytes(encode_image(IMAGE))
  (face,) = jax_me.load(model).predict(tmp_path / "photo.png")
  command = ["predict", str(tmp_path / "photo.png"), "--checkpoint", str(model)]
  assert main([*command, "--output", str(tmp_path / "out")]) in (0, None)
  with (tmp_path / "out/predictions.csv").open() as file:
    (row,) = csv.DictReader(file)
  assert list(row)[-2:] == ["valence", "arousal"]
  assert float(row["valence"]) == pytest.approx(face.valence, abs=1e-5)
  assert float(row["arousal"]) == pytest.approx(face.arousal, abs=1e-5)


def test_other_models_do_not_change(tmp_path):
  folder = save(tmp_path / "plain", align=False)
  assert "affect" not in json.loads((folder / "model.json").read_text())
  (face,) = jax_me.load(folder).predict(IMAGE)
  assert face.valence is None and face.arousal is None
  assert "valence" not in jax_me.load(folder).predict(IMAGE).to_records()[0]


@pytest.mark.slow
def test_an_ensemble_has_the_mean_of_the_values(model, tmp_path):
  members = [load_model(model), load_model(save_with_affect(tmp_path / "second", seed=2))]
  (face,) = jax_me.inference.predictor.Predictor(make_ensemble(members)).predict(IMAGE)
  activated = [np.asarray(activate(jnp.asarray(outputs_of(one)), True)) for one in members]
  got = [*face.scores.values(), face.valence, face.arousal]
  np.testing.assert_allclose(got, np.mean(activated, axis=0), atol=1e-5)
  np.testing.assert_allclose(
    activate(deactivate(activated[0], True), True), activated[0], atol=1e-6
  )


def test_a_wrong_number_of_outputs_is_refused(model, tmp_path):
  document = json.loads((model / "model.json").read_text())
  (tmp_path / "model.json").write_text(json.dumps({**document, "affect": False}))
  with pytest.raises(SavedModelError, match="2 labels for 4 classes"):
    read_model_metadata(tmp_path)
