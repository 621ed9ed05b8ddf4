"""Face detection at any size, with boxes and landmarks in pixels of the full image."""

import sys

import cv2
import numpy as np
import pytest

from jax_me.faces import detector


def eye_centres(face: detector.Face) -> np.ndarray:
  return np.stack([face.landmarks[36:42].mean(0), face.landmarks[42:48].mean(0)])


@pytest.mark.parametrize("name", detector.DETECTORS)
def test_portrait_has_one_face_with_correct_eye_positions(portrait, name):
  (face,) = detector.find_faces(portrait, name)
  assert face.score > (1 if name == "hog" else 0.9)
  assert face.landmarks.shape == (68, 2) and face.landmarks.dtype == np.float32
  # Eye positions in the photograph, measured by hand.
  np.testing.assert_allclose(eye_centres(face), [[203, 102], [245, 104]], atol=3)
  left, top, right, bottom = face.box
  assert 150 < left < 190 and 60 < top < 95 and 255 < right < 290 and 155 < bottom < 195


@pytest.mark.parametrize("scale", [0.6, 2, 4])
def test_landmarks_follow_the_scale(portrait, scale):
  (face,) = detector.find_faces(portrait)
  (scaled,) = detector.find_faces(
    cv2.resize(portrait, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
  )
  distance = np.linalg.norm(np.subtract(*eye_centres(face)))
  error = np.linalg.norm(scaled.landmarks / scale - face.landmarks, axis=1).mean()
  assert error < 0.06 * distance


def test_a_face_too_small_for_the_first_pass_is_found_at_full_size(portrait):
  canvas = np.full((1024, 1024, 3), 127, np.uint8)
  canvas[512:, 512:] = portrait
  (face,) = detector.find_faces(canvas)
  (alone,) = detector.find_faces(portrait)
  np.testing.assert_allclose(face.landmarks - 512, alone.landmarks, atol=4)


def test_a_face_smaller_than_the_window_is_found_by_upsampling(face):
  canvas = np.full((600, 600, 3), 127, np.uint8)
  canvas[200:400, 200:400] = cv2.resize(face, (200, 200), interpolation=cv2.INTER_AREA)
  canvas = cv2.resize(canvas, (420, 420), interpolation=cv2.INTER_AREA)
  (found,) = detector.find_faces(canvas)
  assert found.box[2] - found.box[0] < 80


def test_several_faces_are_sorted_largest_first(portrait):
  canvas = np.zeros((768, 1280, 3), np.uint8)
  canvas[:512, :512] = portrait
  canvas[:768, 512:] = cv2.resize(portrait, (768, 768), interpolation=cv2.INTER_CUBIC)
  large, small = detector.find_faces(canvas)
  assert large.area > small.area
  assert large.box[0] > 512 > small.box[2]


def test_no_face(scenery):
  assert detector.find_faces(scenery) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5)])
def test_tiny_images_have_no_face(shape):
  assert detector.find_faces(np.full((*shape, 3), 90, np.uint8)) == []


def test_detection_passes_stay_below_the_pixel_limit(monkeypatch, portrait):
  monkeypatch.setattr(detector, "MAX_DETECTION_PIXELS", 400 * 400)
  monkeypatch.setattr(detector, "MAX_SECOND_DETECTOR_PIXELS", 400 * 400)
  scales = []
  find_boxes = detector.find_boxes
  monkeypatch.setattr(
    detector, "find_boxes", lambda image, scale: scales.append(scale) or find_boxes(image, scale)
  )
  detector.find_faces(portrait // 8 * 8, "hog")
  detector.find_faces(np.zeros((2000, 500, 3), np.uint8))
  assert scales and max(2000 * 500 * scale**2 for scale in scales[-2:]) < 400 * 400 * 1.01


def test_array_views_are_accepted(portrait):
  mirrored = detector.find_faces(portrait[:, ::-1])
  np.testing.assert_array_equal(
    mirrored[0].landmarks, detector.find_faces(portrait[:, ::-1].copy())[0].landmarks
  )


@pytest.mark.parametrize(
  "image",
  [
    np.zeros((4, 4), np.uint8),
    np.zeros((4, 4, 4), np.uint8),
    np.zeros((4, 4, 3)),
    np.zeros((0, 4, 3), np.uint8),
  ],
)
def test_invalid_arrays_are_rejected(image):
  with pytest.raises(ValueError, match=r"expected a uint8 \[H, W, 3\] image, got"):
    detector.find_faces(image)


def test_models_are_loaded_once_and_the_package_is_not_imported(face, monkeypatch):
  assert detector.find_faces(face)
  monkeypatch.setattr(
    detector, "landmark_model_path", lambda: pytest.fail("the model was loaded again")
  )
  assert detector.find_faces(face)
  assert "face_recognition_models" not in sys.modules


def test_missing_model_names_the_package_to_install(monkeypatch):
  monkeypatch.setattr(detector.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(FileNotFoundError, match="pip install face_recognition_models"):
    detector.landmark_model_path()


def test_all_london_faces_are_found(london_faces):
  from jax_me.faces import image_files

  paths = sorted((london_faces / "images").glob("*.jpg"))
  assert len(paths) == 124
  counts = [len(detector.find_faces(image_files.read_image(path))) for path in paths]
  assert counts == [1] * 124
