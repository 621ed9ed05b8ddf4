"""Frame stream: every frame with its detections and scores, in order."""

import pathlib

import numpy as np
import pytest
import skimage
from flax import nnx

from jax_me.faces.image_files import read_image
from jax_me.image_preparation import ImagePreparation, resize_image
from jax_me.inference.batched_inference import BatchedInference
from jax_me.inference.model_input import face_inputs
from jax_me.inference.video.frame_stream import FrameStreamSettings, stream_detections
from jax_me.inference.video.sources import Frame, VideoSource
from jax_me.models.model_folder import SavedModel
from jax_me.models.registry import create_model

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARGUMENTS = dict(image_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=2)
PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


def saved(**options):
  model = create_model("vit_tiny_patch16", rngs=nnx.Rngs(1), **ARGUMENTS)
  source = {"options": options}
  labels = ["calm", "happy"]
  return SavedModel(model, "vit_tiny_patch16", ARGUMENTS, labels, 32, [0.5] * 3, [0.25] * 3, source)


def video_source(images, fps=10.0):
  def read():
    for number, image in enumerate(images):
      yield Frame(number, number / fps, image)

  return VideoSource("test", "video", fps, len(images), "", read)


def noise(count):
  rng = np.random.default_rng(0)
  return [rng.integers(0, 256, (40, 48, 3)).astype(np.uint8) for _ in range(count)]


def reference_scores(images, model=None):
  """Scores of the model without batching or tracking."""
  model = model or saved().model
  faces = np.stack([resize_image(image, 32) for image in images]) / 255
  logits = np.asarray(model(((faces - 0.5) / 0.25).astype(np.float32)), np.float64)
  power = np.exp(logits - logits.max(-1, keepdims=True))
  return power / power.sum(-1, keepdims=True)


@pytest.mark.slow
def test_batched_inference_returns_the_scores_of_each_face_in_order():
  images = noise(7)
  inference, got = BatchedInference(saved(), batch=3), []
  for number, image in enumerate(images):
    got += inference.submit(resize_image(image, 32), number)
  assert len(got) < 7
  got += inference.flush()
  assert [key for key, _ in got] == list(range(7)) and inference.flush() == []
  assert np.stack([scores for _, scores in got]) == pytest.approx(
    reference_scores(images), abs=1e-5
  )
  with pytest.raises(ValueError, match="at least one"):
    BatchedInference(saved(), batch=0)


@pytest.mark.slow
def test_whole_images_unreadable_and_skipped_frames():
  images = noise(8)
  images[4] = None
  settings = FrameStreamSettings(every=2, batch=2)
  results = list(stream_detections(video_source(images), saved(align=False), settings))
  statuses = [one.status for one in results]
  assert statuses == ["ok", "skipped", "ok", "skipped", "unreadable", "skipped", "ok", "skipped"]
  assert [one.frame.number for one in results] == list(range(8))
  scores = [one.detections[0].scores for one in results if one.detections]
  assert np.stack(scores) == pytest.approx(
    reference_scores([images[n] for n in (0, 2, 6)]), abs=1e-5
  )
  assert results[0].detections[0].box is None and results[0].detections[0].motion is None


@pytest.mark.slow
def test_whole_frames_are_prepared_as_the_model_says():
  images = noise(2)
  model = saved(align=False)
  model.preparation = ImagePreparation(32, "shortest_edge", 36, 32 / 36, "bicubic")
  results = list(stream_detections(video_source(images), model, FrameStreamSettings(batch=2)))
  scores = np.stack([one.detections[0].scores for one in results])
  prepared = [face_inputs(image, model)[0].image for image in images]
  np.testing.assert_array_equal(prepared[0], model.preparation.apply(images[0]))
  assert scores == pytest.approx(reference_scores(prepared), abs=1e-5)
  assert abs(scores - reference_scores(images)).max() > 1e-3


@pytest.mark.slow
def test_smoothing_is_an_exponential_moving_average():
  images = noise(4)
  settings = FrameStreamSettings(smooth_seconds=0.1, batch=2)
  results = list(stream_detections(video_source(images), saved(align=False), settings))
  expected = reference_scores(images)
  for number in range(1, 4):
    expected[number] = expected[number - 1] + (1 - np.exp(-1)) * (
      expected[number] - expected[number - 1]
    )
  assert np.stack([one.detections[0].scores for one in results]) == pytest.approx(
    expected, abs=1e-5
  )


def test_motion_models_respond_to_motion():
  images = noise(3)
  still = [images[0]] * 5
  (first, *_, last) = stream_detections(video_source(still), saved(align=False, input="flow"))
  assert last.detections[0].scores == pytest.approx(first.detections[0].scores, abs=1e-6)
  *_, moved = stream_detections(video_source(images), saved(align=False, input="flow"))
  assert np.abs(moved.detections[0].scores - first.detections[0].scores).max() > 1e-4


def test_faces_appear_and_disappear():
  portrait = read_image(PORTRAIT)[:300, 60:400]
  empty = np.full_like(portrait, 128)
  frames = [empty, portrait, portrait, None, portrait, empty]
  results = list(
    stream_detections(video_source(frames), saved(), FrameStreamSettings(recognise=False))
  )
  statuses = [one.status for one in results]
  assert statuses[:1] + statuses[2:] == ["no_face", "ok", "unreadable", "ok", "no_face"]
  detections = [one.detections[0] for one in results if one.detections]
  assert {one.person for one in detections} == {1}
  assert all(one.motion.shape == (12, 2) and one.face.shape[2] == 3 for one in detections)


def test_newcomers_are_found_from_their_first_frame():
  portrait = read_image(PORTRAIT)[:256, 90:346]
  frames = []
  for number in range(16):
    frame = np.full((256, 560, 3), 128, np.uint8)
    frame[:, :256] = portrait
    if number >= 4:
      frame[:, 300:556] = portrait[:, ::-1]
    frames.append(frame)
  settings = FrameStreamSettings(recognise=False)
  results = list(stream_detections(video_source(frames, fps=30.0), saved(), settings))
  assert [one.frame.number for one in results] == list(range(16))
  people = [[detection.person for detection in one.detections] for one in results]
  assert people[:4] == [[1]] * 4 and people[5:] == [[1, 2]] * 11
  (left, _, right, _) = results[6].detections[1].box
  assert 380 < (left + right) / 2 < 480


def test_frames_that_were_not_searched_have_their_own_status():
  frames = [np.full((200, 300, 3), 90, np.uint8)] * 10
  results = list(stream_detections(video_source(frames, fps=30.0), saved()))
  assert [one.status for one in results] == (["no_face"] + ["not_searched"] * 2) * 3 + ["no_face"]


def test_a_long_interval_without_faces_does_not_wait_for_a_full_batch():
  images = [noise(1)[0]] + [None] * 200
  settings = FrameStreamSettings(batch=16)
  read = 0

  def counted():
    nonlocal read
    for number, image in enumerate(images):
      read = number
      yield Frame(number, number / 10, image)

  stream = stream_detections(
    VideoSource("v", "video", 10.0, 201, "", counted), saved(align=False), settings
  )
  assert next(stream).status == "ok" and read < 100


def test_invalid_settings_raise():
  with pytest.raises(ValueError, match="every=0"):
    FrameStreamSettings(every=0)
