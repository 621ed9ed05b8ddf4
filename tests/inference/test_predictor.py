"""`jax_me.load` and `Predictor`: images are preprocessed as in training."""

import pathlib

import numpy as np
import pytest
import skimage

import jax_me
from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.models.model_folder import SavedModelError
from tests.helpers.inference_models import LABELS, TINY_MAE, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
  return jax_me.load(save(tmp_path_factory.mktemp("m") / "model"))


@pytest.mark.slow
def test_predict_portrait(predictor):
  (face,) = predictor.predict(PORTRAIT)
  assert face.status == "ok" and face.label in LABELS
  assert sum(face.scores.values()) == pytest.approx(1, abs=1e-5)
  left, top, right, bottom = face.box
  assert 150 < left < right < 330 and 40 < top < bottom < 220


def test_two_faces_give_two_results_and_no_face_gives_a_status(predictor):
  portrait = read_image(PORTRAIT)
  both = np.concatenate([portrait, portrait], axis=1)
  two, none = predictor.predict([both, np.full((200, 200, 3), 128, np.uint8)])
  assert len(two) == 2 and abs(two[0].scores["calm"] - two[1].scores["calm"]) < 0.05
  assert [result.status for result in none] == ["no_face"] and none[0].label is None


def test_model_trained_without_alignment_gets_the_whole_image(tmp_path):
  predictor = jax_me.load(save(tmp_path / "m", align=False))
  ((image, box),) = predictor.preprocess(np.zeros((64, 64, 3), np.uint8))
  assert image.shape == (32, 32, 3) and box is None


def test_flow_model_rejects_single_images(tmp_path):
  predictor = jax_me.load(save(tmp_path / "m", input="flow"))
  with pytest.raises(ValueError, match="optical flow"):
    predictor.predict(PORTRAIT)


def test_flag_and_stored_alignment_decide_whether_a_face_is_cropped(predictor, tmp_path):
  converted = jax_me.load(save(tmp_path / "converted", source={"format": "safetensors"}))
  portrait = read_image(PORTRAIT)
  for model, align, cropped in (
    (predictor, None, True),
    (predictor, False, False),
    (converted, None, False),
    (converted, True, True),
  ):
    (face,) = model.predict(portrait, align=align)
    assert face.status == "ok" and (face.box is not None) == cropped, (align, face)
    (explained,) = model.explain(portrait, methods=["rollout"], align=align)
    assert (explained.face.box is not None) == cropped
  aligned = converted.preprocess(portrait, align=True)[0][0]
  # A face that was cropped before is read as it is.
  (whole,) = converted.predict(aligned)
  assert whole.scores == pytest.approx(predictor.predict(aligned, align=False)[0].scores)


def test_motion_image_needs_no_alignment(tmp_path):
  flow = jax_me.load(save(tmp_path / "m", input="flow"))
  (result,) = flow.predict(np.zeros((40, 40, 3), np.uint8), align=False)
  assert result.status == "ok" and result.box is None


def test_scores_that_are_not_finite_are_a_status(tmp_path):
  predictor = jax_me.load(save(tmp_path / "m", align=False))
  bias = predictor.saved.model.head.bias
  bias.set_value(bias.get_value() * np.nan)
  image = np.zeros((40, 40, 3), np.uint8)
  (result,) = predictor.predict(image)
  assert (result.status, result.label, result.scores) == ("not_finite", None, {})
  assert "not finite" in result.reason


@pytest.mark.slow
def test_pretraining_model_only_explains(tmp_path):
  with pytest.raises(ValueError, match="no class labels"):
    jax_me.load(save(tmp_path / "m", labels=None))
  mae = jax_me.load(save(tmp_path / "mae", "mae_vit_tiny_patch16", TINY_MAE))
  assert mae.labels == []
  portrait = read_image(PORTRAIT)
  with pytest.raises(ValueError, match="no class labels.*Fine-tune"):
    mae.predict(portrait)
  with pytest.raises(ValueError, match="no class labels"):
    next(mae.predict_video("clip.mp4"))
  (face,) = mae.explain(portrait)
  ((again,),) = mae.explain([portrait])
  np.testing.assert_array_equal(face.reconstructed, again.reconstructed)
  removed = (face.masked == 128).all(-1)
  assert removed.mean() == pytest.approx(0.75, abs=0.05) and 0 < face.error < 1
  unchanged = np.abs(face.reconstructed.astype(int) - face.face.image)[~removed]
  assert unchanged.max() <= 1
  (half,) = mae.explain(portrait, mask_ratio=0.5, seed=1, align=False)
  assert half.face.box is None and (half.masked == 128).all(-1).mean() == pytest.approx(
    0.5, abs=0.05
  )
  with pytest.raises(ValueError, match="has no labels"):
    mae.explain(portrait, label="calm")
  with pytest.raises(ValueError, match="not a masked autoencoder"):
    jax_me.load(save(tmp_path / "vit")).explain(portrait, mask_ratio=0.5)


def test_invalid_input_raises(predictor, tmp_path):
  (tmp_path / "x.jpg").write_bytes(b"")
  with pytest.raises(UnreadableImage, match="x.jpg"):
    predictor.predict(tmp_path / "x.jpg")
  with pytest.raises(SavedModelError, match="model.json is missing"):
    jax_me.load(tmp_path)


def test_lists_are_read_as_single_photographs_are(predictor):
  portrait = read_image(PORTRAIT)
  images = [portrait, np.full((200, 200, 3), 128, np.uint8), portrait[:, ::-1], portrait[20:]] * 2
  for image, found in zip(images, predictor.predict(images), strict=True):
    alone = predictor.predict(image)
    assert [face.status for face in found] == [face.status for face in alone]
    for face, expected in zip(found, alone, strict=True):
      assert face.box == expected.box and face.person == expected.person
      assert face.scores == pytest.approx(expected.scores, abs=1e-5)
      if face.box is not None:
        np.testing.assert_array_equal(face.landmarks, expected.landmarks)
        left, top, right, bottom = face.box
        inside = (face.landmarks >= (left - 9, top - 9)) & (
          face.landmarks <= (right + 9, bottom + 9)
        )
        assert abs(face.pose.yaw) < 30 and abs(face.pose.roll) < 20 and face.pose == expected.pose
        assert face.landmarks.shape == (68, 2) and inside.mean() > 0.9
