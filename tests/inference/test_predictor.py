"""`jax_me.load`: reads photographs as the model's training data was prepared."""

import pathlib

import numpy as np
import pytest
import skimage
from flax import nnx

import jax_me
from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.models.model_folder import SavedModelError, save_model
from jax_me.models.registry import create_model

ARGUMENTS = dict(image_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=2)
PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


def saved_model(folder, *, labels=("calm", "happy"), options=None):
  save_model(
    folder,
    create_model("vit_tiny_patch16", rngs=nnx.Rngs(1), **ARGUMENTS),
    name="vit_tiny_patch16",
    arguments=ARGUMENTS,
    labels=list(labels) if labels else None,
    image_size=32,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={"options": options or {}},
  )
  return folder


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  return jax_me.load(saved_model(tmp_path_factory.mktemp("m") / "model"))


def test_reads_a_photograph(predictor):
  (face,) = predictor.predict(PORTRAIT)
  assert face.status == "ok" and face.label in ("calm", "happy")
  assert sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
  left, top, right, bottom = face.box
  assert 150 < left < right < 330 and 40 < top < bottom < 220


def test_two_faces_give_two_readings_and_no_face_says_so(predictor):
  portrait = read_image(PORTRAIT)
  both = np.concatenate([portrait, portrait], axis=1)
  two, none = predictor.predict([both, np.full((200, 200, 3), 128, np.uint8)])
  assert len(two) == 2 and abs(two[0].scores["calm"] - two[1].scores["calm"]) < 0.05
  assert [reading.status for reading in none] == ["no_face"] and none[0].label is None


def test_unaligned_training_takes_the_picture_as_it_is(tmp_path):
  predictor = jax_me.load(saved_model(tmp_path / "m", options={"align": False}))
  ((image, box),) = predictor.preprocess(np.zeros((64, 64, 3), np.uint8))
  assert image.shape == (32, 32, 3) and box is None


def test_flow_model_refuses_photographs(tmp_path):
  predictor = jax_me.load(saved_model(tmp_path / "m", options={"input": "flow"}))
  with pytest.raises(ValueError, match="optical flow"):
    predictor.predict(PORTRAIT)


def test_pretraining_model_refuses(tmp_path):
  with pytest.raises(ValueError, match="no class labels"):
    jax_me.load(saved_model(tmp_path / "m", labels=None))


def test_bad_input_is_named(predictor, tmp_path):
  (tmp_path / "x.jpg").write_bytes(b"")
  with pytest.raises(UnreadableImage, match="x.jpg"):
    predictor.predict(tmp_path / "x.jpg")
  with pytest.raises(ValueError, match="uint8"):
    predictor.predict(np.zeros((4, 4)))
  with pytest.raises(SavedModelError, match="model.json is missing"):
    jax_me.load(tmp_path)
