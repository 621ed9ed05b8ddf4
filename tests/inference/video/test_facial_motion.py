"""Motion of facial regions, on a random texture with synthetic landmarks."""

import cv2
import numpy as np
import pytest

from jax_me.faces.alignment import FaceChip
from jax_me.inference.video.face_region import FaceRegion
from jax_me.inference.video.facial_motion import REGIONS, FacialMotionEstimator

CHIP = FaceChip(100, 100, 300, 300, 0.0, 128)
EYES = 70.0  # pixels between the eyes


def landmarks():
  """68 landmarks of a schematic face inside the chip, eyes EYES apart."""
  points = np.zeros((68, 2))
  jaw = np.linspace(np.pi, 0, 17)
  points[:17] = np.stack([200 + 85 * np.cos(jaw), 190 + 95 * np.sin(jaw)], -1)
  points[17:22] = np.stack([np.linspace(140, 185, 5), np.full(5, 155)], -1)
  points[22:27] = np.stack([np.linspace(215, 260, 5), np.full(5, 155)], -1)
  points[27:31] = np.stack([np.full(4, 200), np.linspace(175, 210, 4)], -1)
  points[31:36] = np.stack([np.linspace(185, 215, 5), np.full(5, 215)], -1)
  for first, x in ((36, 165), (42, 235)):
    turn = np.linspace(np.pi, -np.pi, 6, endpoint=False)
    points[first : first + 6] = np.stack([x + 12 * np.cos(turn), 175 + 5 * np.sin(turn)], -1)
  turn = np.linspace(np.pi, -np.pi, 12, endpoint=False)
  points[48:60] = np.stack([200 + 32 * np.cos(turn), 245 - 10 * np.sin(turn)], -1)
  points[60:68] = points[48:56]
  return points


def texture():
  rng = np.random.default_rng(0)
  noise = sum(
    cv2.resize(rng.standard_normal((400 // s, 400 // s)), (400, 400), interpolation=cv2.INTER_CUBIC)
    * s
    for s in (4, 8, 16)
  )
  grey = np.clip(128 + 5 * noise, 0, 255).astype(np.uint8)
  return np.repeat(grey[..., None], 3, -1)


def warped(image, shift=(0.0, 0.0), region=None, by=(0.0, 0.0)):
  """Shifts the image by `shift`, and the area around `region` additionally by `by`."""
  y, x = np.mgrid[0:400, 0:400].astype(np.float32)
  dx, dy = np.full_like(x, shift[0]), np.full_like(x, shift[1])
  if region is not None:
    near = np.exp(-((x - region[0]) ** 2 + (y - region[1]) ** 2) / (2 * 18.0**2))
    dx, dy = dx + near * by[0], dy + near * by[1]
  x, y = (x - dx).astype(np.float32), (y - dy).astype(np.float32)
  return cv2.remap(image, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def estimate(frames, step=1 / 30):
  estimator = FacialMotionEstimator()
  return [
    estimator.update(FaceRegion.around(frame, CHIP), CHIP, landmarks(), number * step)
    for number, frame in enumerate(frames)
  ]


def test_a_raised_mouth_corner_moves_its_region():
  face = texture()
  corner = landmarks()[54]
  _, now = estimate([face, warped(face, region=corner, by=(0, -4))])
  strength = np.linalg.norm(now, axis=-1)
  assert REGIONS[int(strength.argmax())] == "right corner of the mouth"
  assert now[6, 1] == pytest.approx(-4 / EYES, rel=0.5)
  assert strength[0] < 0.2 * strength.max()


def test_head_motion_is_subtracted():
  face = texture()
  _, shifted = estimate([face, warped(face, shift=(5, -3))])
  turned = cv2.warpAffine(face, cv2.getRotationMatrix2D((200, 200), 2.0, 1.02), (400, 400))
  _, rolled = estimate([face, turned])
  assert np.linalg.norm(shifted, axis=-1).max() < 0.3 / EYES
  assert np.linalg.norm(rolled, axis=-1).max() < 0.6 / EYES


def test_reference_frames_are_chained():
  face = texture()
  corner = landmarks()[48]
  raised = warped(face, region=corner, by=(-4, 0))
  # The reference is replaced while the corner is displaced; then the corner moves back.
  series = estimate([face, raised, raised, raised, face], step=0.6)
  assert series[3][5, 0] == pytest.approx(series[1][5, 0], abs=0.5 / EYES)
  assert abs(series[4][5, 0]) < 0.8 / EYES < abs(series[3][5, 0])


def test_a_new_series_starts_at_zero():
  face, estimator = texture(), FacialMotionEstimator()
  face_region = FaceRegion.around(face, CHIP)
  estimator.update(face_region, CHIP, landmarks(), 0.0)
  moved = FaceRegion.around(warped(face, region=(200, 250), by=(0, 5)), CHIP)
  assert np.abs(estimator.update(moved, CHIP, landmarks(), 0.1)).max() > 0
  assert not FacialMotionEstimator().update(moved, CHIP, landmarks(), 0.2).any()


def turned_landmarks(yaw):
  """Landmarks whose nose is moved towards one side, as when the head turns."""
  points = landmarks()
  points[27:36, 0] += EYES * 0.5 * np.sin(np.radians(yaw))
  return points


def test_motion_is_undefined_while_the_head_is_turned_away_and_goes_on_afterwards():
  face = texture()
  raised = warped(face, region=landmarks()[54], by=(0, -4))
  estimator, series = FacialMotionEstimator(), []
  for number in range(20):
    away = 5 <= number < 12
    image = raised if number >= 3 else face
    points = turned_landmarks(60) if away else landmarks()
    series.append(estimator.update(FaceRegion.around(image, CHIP), CHIP, points, number / 25))
  assert all(np.isnan(motion).all() for motion in series[5:12])
  assert series[19] == pytest.approx(series[4], abs=0.5 / EYES) and estimator.origin == 0


def test_motion_is_undefined_while_a_hand_covers_the_mouth():
  face, hand = texture(), np.random.default_rng(1).integers(60, 190, (400, 400, 3)).astype(np.uint8)
  covered = face.copy()
  covered[195:] = cv2.blur(hand, (5, 5))[195:]
  estimator = FacialMotionEstimator()
  series = []
  for number in range(12):
    image = covered if 3 <= number < 8 else face
    series.append(estimator.update(FaceRegion.around(image, CHIP), CHIP, landmarks(), number / 25))
    assert estimator.hidden == (3 <= number < 8)
  assert all(np.isnan(motion).all() for motion in series[3:8])
  assert series[11] == pytest.approx(series[2], abs=0.3 / EYES)


def test_a_face_that_stays_different_gets_a_new_origin():
  other = np.ascontiguousarray(texture()[::-1])
  estimator = FacialMotionEstimator()
  for number in range(40):
    image = texture() if number < 5 else other
    motion = estimator.update(FaceRegion.around(image, CHIP), CHIP, landmarks(), number / 25)
  assert estimator.origin == 1 and np.abs(motion).max() < 0.3 / EYES
