"""dlib's face descriptor."""

import dlib
import numpy as np
import pytest

from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces import detector
from jax_me.faces.face_descriptor import SAME_PERSON, describe_face


@pytest.fixture(scope="module")
def frames():
  clips = [clip_rendering.demo_clip(0, subject, 0) for subject in (0, 3)]
  return [clips[0].frame(0), clips[0].frame(clips[0].apex), clips[1].frame(0)]


def test_distance_is_small_within_a_person_and_large_between_persons(frames):
  same, again, other = (describe_face(frame) for frame in frames)
  assert same.shape == (128,) and same.dtype == np.float32
  assert np.linalg.norm(same - again) < 0.25
  # These subjects are warps of one portrait, so they are closer than real persons.
  assert np.linalg.norm(same - other) > 0.4
  assert SAME_PERSON == 0.6


def test_descriptor_equals_dlib_with_the_same_landmarks(frames):
  face = detector.find_faces(frames[0])[0]
  points = [dlib.point(round(x), round(y)) for x, y in face.landmarks.tolist()]
  shape = dlib.full_object_detection(dlib.rectangle(*face.box), points)
  path = detector.model_path("dlib_face_recognition_resnet_model_v1.dat", "model")
  network = dlib.face_recognition_model_v1(str(path))
  expected = np.array(network.compute_face_descriptor(frames[0], shape))
  np.testing.assert_allclose(describe_face(frames[0], face), expected, atol=1e-6)


def test_no_face_and_invalid_image():
  assert describe_face(np.full((90, 90, 3), 128, np.uint8)) is None
  with pytest.raises(ValueError, match="uint8"):
    describe_face(np.zeros((90, 90), np.uint8))
