"""Every frame comes out with its people and their scores, in order."""

import pathlib

import numpy as np
import pytest
import skimage
from flax import nnx

from jax_me.data.decoding import resize_image
from jax_me.faces.image_files import read_image
from jax_me.inference.video.batch_scorer import BatchScorer
from jax_me.inference.video.frame_stream import ObservationSettings, observe
from jax_me.inference.video.sources import Footage, Frame
from jax_me.models.model_folder import SavedModel
from jax_me.models.registry import create_model

ARGUMENTS = dict(image_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=2)
PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


def saved(**options):
  model = create_model("vit_tiny_patch16", rngs=nnx.Rngs(1), **ARGUMENTS)
  source = {"options": options}
  labels = ["calm", "happy"]
  return SavedModel(model, "vit_tiny_patch16", ARGUMENTS, labels, 32, [0.5] * 3, [0.25] * 3, source)


def footage(images, fps=10.0):
  def read():
    for number, image in enumerate(images):
      yield Frame(number, number / fps, image)

  return Footage("made up", "video", fps, len(images), "", read)


def noise(count):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (40, 48, 3)).astype(np.uint8) for _ in range(count)]


def direct(images, model=None):
  """Scores as the model alone gives them, one face at a time."""
  model = model or saved().model
  faces = np.stack([resize_image(image, 32) for image in images]) / 255
  logits = np.asarray(model(((faces - 0.5) / 0.25).astype(np.float32)), np.float64)
  power = np.exp(logits - logits.max(-1, keepdims=True))
  return power / power.sum(-1, keepdims=True)


def test_batches_give_each_face_its_own_scores_in_order():
  images = noise(7)
  scorer, got = BatchScorer(saved(), batch=3), []
  for number, image in enumerate(images):
    got += scorer.put(resize_image(image, 32), number)
  assert len(got) < 7
  got += scorer.flush()
  assert [owner for owner, _ in got] == list(range(7)) and scorer.flush() == []
  assert np.stack([scores for _, scores in got]) == pytest.approx(direct(images), abs=1e-5)
  with pytest.raises(ValueError, match="at least one"):
    BatchScorer(saved(), batch=0)


def test_whole_pictures_broken_and_skipped_frames():
  images = noise(8)
  images[4] = None
  settings = ObservationSettings(every=2, batch=2)
  seen = list(observe(footage(images), saved(align=False), settings))
  statuses = [one.status for one in seen]
  assert statuses == ["ok", "skipped", "ok", "skipped", "unreadable", "skipped", "ok", "skipped"]
  assert [one.frame.number for one in seen] == list(range(8))
  scores = [one.people[0].scores for one in seen if one.people]
  assert np.stack(scores) == pytest.approx(direct([images[n] for n in (0, 2, 6)]), abs=1e-5)
  assert seen[0].people[0].box is None and seen[0].people[0].motion is None


def test_smoothing_is_a_running_mean():
  images = noise(4)
  settings = ObservationSettings(smooth_seconds=0.1, batch=2)
  seen = list(observe(footage(images), saved(align=False), settings))
  expected = direct(images)
  for number in range(1, 4):
    expected[number] = expected[number - 1] + (1 - np.exp(-1)) * (
      expected[number] - expected[number - 1]
    )
  assert np.stack([one.people[0].scores for one in seen]) == pytest.approx(expected, abs=1e-5)


def test_models_of_motion_see_motion():
  images = noise(3)
  still = [images[0]] * 5
  (first, *_, last) = observe(footage(still), saved(align=False, input="flow"))
  assert last.people[0].scores == pytest.approx(first.people[0].scores, abs=1e-6)
  *_, moved = observe(footage(images), saved(align=False, input="flow"))
  assert np.abs(moved.people[0].scores - first.people[0].scores).max() > 1e-4


def test_faces_come_and_go():
  portrait = read_image(PORTRAIT)[:300, 60:400]
  empty = np.full_like(portrait, 128)
  frames = [empty, portrait, portrait, None, portrait, empty]
  seen = list(observe(footage(frames), saved(), ObservationSettings(recognise=False)))
  statuses = [one.status for one in seen]
  assert statuses[:1] + statuses[2:] == ["no_face", "ok", "unreadable", "ok", "no_face"]
  people = [one.people[0] for one in seen if one.people]
  assert {one.person for one in people} == {1}
  assert all(one.motion.shape == (12, 2) and one.face.shape[2] == 3 for one in people)


def test_a_long_stretch_without_faces_does_not_wait_for_the_batch():
  images = [noise(1)[0]] + [None] * 200
  settings = ObservationSettings(batch=16)
  read = 0

  def counted():
    nonlocal read
    for number, image in enumerate(images):
      read = number
      yield Frame(number, number / 10, image)

  stream = observe(Footage("v", "video", 10.0, 201, "", counted), saved(align=False), settings)
  assert next(stream).status == "ok" and read < 100


def test_bad_settings_are_named():
  with pytest.raises(ValueError, match="every=0"):
    ObservationSettings(every=0)
