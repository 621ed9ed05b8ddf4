"""YuNet: faces that the HOG detector loses, turned faces, images without a face."""

import concurrent.futures
import subprocess
import sys

import cv2
import numpy as np
import pytest

from benchmarks.detection import draw_without_face
from jax_me.faces import detector, yunet


def turned(image: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
  """The image turned counter-clockwise on a square canvas, and the matrix of the turn."""
  height, width = image.shape[:2]
  side = int(np.hypot(height, width)) + 1
  matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)
  matrix[:, 2] += side / 2 - np.array([width / 2, height / 2])
  return cv2.warpAffine(image, matrix, (side, side)), matrix


def eye_distance(face: detector.Face) -> float:
  return float(np.linalg.norm(face.landmarks[36:42].mean(0) - face.landmarks[42:48].mean(0)))


@pytest.mark.parametrize("angle", [30, 60, 90, 135, 180, 225, 270, 315])
def test_landmarks_of_turned_faces(portrait, angle):
  (upright,) = detector.find_faces(portrait)
  image, matrix = turned(portrait, angle)
  (found,) = detector.find_faces(image)
  expected = upright.landmarks @ matrix[:, :2].T + matrix[:, 2]
  error = np.linalg.norm(found.landmarks - expected, axis=1).mean()
  assert error < 0.05 * eye_distance(upright)


def test_landmarks_agree_with_those_in_boxes_of_the_hog_detector(portrait):
  (ours,), (theirs,) = detector.find_faces(portrait), detector.find_faces(portrait, "hog")
  error = np.linalg.norm(ours.landmarks - theirs.landmarks, axis=1).mean()
  assert error < 0.03 * eye_distance(theirs)


def test_landmarks_of_london_faces(london_faces):
  from jax_me.faces import image_files

  errors = []
  for path in sorted((london_faces / "images").glob("*_neutral.jpg"))[:10]:
    image = image_files.read_image(path)
    (ours,), (theirs,) = detector.find_faces(image), detector.find_faces(image, "hog")
    error = np.linalg.norm(ours.landmarks - theirs.landmarks, axis=1).mean()
    errors.append(error / eye_distance(theirs))
  assert np.mean(errors) < 0.015


def small(portrait):
  return cv2.resize(portrait, (96, 96), interpolation=cv2.INTER_AREA)


def dark(portrait):
  return cv2.convertScaleAbs(portrait, alpha=0.1)


def masked(portrait):
  image = portrait.copy()
  cv2.ellipse(image, (223, 150), (42, 34), 0, 0, 360, (210, 225, 235), -1)
  return image


def half_hidden(portrait):
  image = portrait.copy()
  image[:, 228:] = 0
  return image


@pytest.mark.parametrize("alter", [small, dark, masked, half_hidden])
def test_difficult_faces(portrait, alter):
  image = alter(portrait)
  (found,) = detector.find_faces(image)
  (face,) = detector.find_faces(portrait)
  scale = image.shape[0] / 512
  np.testing.assert_allclose(np.array(found.box) / scale, face.box, atol=0.25 * (2 * 45))


def test_faces_of_a_turned_group_are_all_found(portrait):
  group = np.zeros((640, 1280, 3), np.uint8)
  for column in range(5):
    group[200:456, 256 * column : 256 * column + 256] = portrait[:256, 96:352]
  assert len(detector.find_faces(group)) == 5
  assert len(detector.find_faces(np.rot90(group))) == 5


def test_a_face_in_a_large_image(portrait):
  image = np.full((4000, 6000, 3), 90, np.uint8)
  image[1000:3048, 2000:4048] = cv2.resize(portrait, (2048, 2048))
  (found,) = detector.find_faces(image)
  (alone,) = detector.find_faces(portrait)
  expected = 4 * alone.landmarks + [2000, 1000]
  error = np.linalg.norm(found.landmarks - expected, axis=1).mean()
  assert error < 0.05 * 4 * eye_distance(alone)


@pytest.mark.parametrize("number", range(8))
def test_images_without_a_face(number):
  assert detector.find_faces(draw_without_face(number)) == []


def test_hog_is_used_where_yunet_finds_nothing(portrait, monkeypatch):
  monkeypatch.setattr(yunet, "find_faces", lambda image: [])
  assert detector.find_faces(portrait, "yunet") == []
  (found,), (expected,) = detector.find_faces(portrait), detector.find_faces(portrait, "hog")
  assert found.box == expected.box


def test_threads_have_equal_results(portrait):
  images = [portrait, portrait[:300], cv2.resize(portrait, (200, 200))] * 3
  with concurrent.futures.ThreadPoolExecutor(3) as threads:
    parallel = list(threads.map(detector.find_faces, images))
  for found, image in zip(parallel, images, strict=True):
    (one,), (other,) = found, detector.find_faces(np.ascontiguousarray(image))
    np.testing.assert_array_equal(one.landmarks, other.landmarks)


def test_nothing_is_printed(repository):
  code = "import numpy as np; from jax_me.faces import detector; "
  code += "detector.find_faces(np.zeros((99, 99, 3), np.uint8)); import cv2; "
  code += "assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_WARNING"
  run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=repository)
  assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_a_damaged_network_is_refused(portrait, monkeypatch, tmp_path):
  data = bytearray(yunet.MODEL_FILE.read_bytes())
  data[1000] ^= 1
  path = tmp_path / "network.onnx"
  path.write_bytes(data)
  monkeypatch.setattr(yunet, "MODEL_FILE", path)
  # Each thread loads its own detector.
  with concurrent.futures.ThreadPoolExecutor(1) as thread:
    with pytest.raises(ValueError, match="network.onnx is damaged: install jax_me again"):
      thread.submit(detector.find_faces, portrait).result()


def test_unknown_detectors_are_refused(portrait):
  with pytest.raises(ValueError, match=r"one of yunet\+hog, hog, yunet, got 'haar'"):
    detector.find_faces(portrait, "haar")
