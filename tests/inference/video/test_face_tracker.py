"""Face tracking in synthetic videos with a moving portrait (public domain)."""

import pathlib

import cv2
import numpy as np
import pytest
import skimage

from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.alignment import FaceChip
from jax_me.faces.image_files import read_image
from jax_me.inference.video.face_region import FaceRegion
from jax_me.inference.video.face_tracker import FaceTracker
from jax_me.inference.video.smoothing import OneEuroFilter

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
HEAD = (slice(20, 276), slice(90, 346))  # 256 x 256 pixels; the face takes up half


@pytest.fixture(scope="module")
def head():
  return read_image(PORTRAIT)[HEAD]


def scene(*heads, size=(300, 640)):
  """A grey image with heads at (left, top)."""
  canvas = np.full((*size, 3), 128, np.uint8)
  for image, (left, top) in heads:
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
  return canvas


def test_a_moving_person_keeps_the_number_and_the_chip_follows(head):
  tracker = FaceTracker(64, recognise=False)
  for number in range(12):
    left = 20 + 15 * number
    (tracked,) = tracker.update(scene((head, (left, 20))), number / 30)
    assert tracked.person == 1
    # Tip of the nose relative to the head.
    nose = tracked.face.landmarks[30] - (left, 20)
    assert nose == pytest.approx((137, 115), abs=8)
    middle = (tracked.chip.left + tracked.chip.right) / 2 - left
    assert middle == pytest.approx(133, abs=12)


def test_two_people_have_two_tracks_and_new_faces_are_found(head):
  mirrored = np.ascontiguousarray(head[:, ::-1])
  tracker = FaceTracker(64, recognise=False)
  people = []
  for number in range(20):
    heads = [(head, (10, 20))] + ([(mirrored, (350, 20))] if number >= 2 else [])
    people.append({tracked.person for tracked in tracker.update(scene(*heads), number / 30)})
  assert people[0] == {1} and people[-1] == {1, 2}
  assert people.index({1, 2}) / 30 <= 0.5


def test_a_returning_person_is_recognised(head):
  tracker = FaceTracker(64, recognise=True)
  numbers = []
  visible = [True] * 3 + [False] * 24 + [True] * 4
  for number, present in enumerate(visible):
    heads = [(head, (350 if number > 20 else 10, 20))] if present else []
    numbers.append([tracked.person for tracked in tracker.update(scene(*heads), number / 10)])
  assert numbers[:3] == [[1]] * 3 and numbers[3:27] == [[]] * 24
  assert numbers[-2:] == [[1]] * 2  # found within 0.2 s


def test_people_who_swap_sides_in_the_dark_keep_their_numbers():
  left, right = (clip_rendering.demo_video(7, subject, 0, 1).frame(0) for subject in (4, 5))
  scenes = [np.hstack([left, right])] * 5 + [np.zeros((336, 672, 3), np.uint8)] * 15
  scenes += [np.hstack([right, left])] * 6
  tracker, places = FaceTracker(64), []
  for number, image in enumerate(scenes):
    faces = tracker.update(image, number / 10)
    places.append({face.person: face.chip.left > 300 for face in faces})
  first, last = places[4], places[-1]
  assert len(first) == 2 and places[10] == {}
  assert last == {person: not is_right for person, is_right in first.items()}


def test_without_recognition_a_late_return_is_a_new_person(head):
  tracker = FaceTracker(64, recognise=False)
  visible = [True, True] + [False] * 15 + [True, True]
  numbers = [
    [
      tracked.person
      for tracked in tracker.update(scene((head, (10, 20))) if present else scene(), n / 10)
    ]
    for n, present in enumerate(visible)
  ]
  assert numbers[0] == [1] and numbers[-1] == [2]


def test_a_face_of_an_eighth_of_the_image_is_found(head):
  small = cv2.resize(head, (200, 200), interpolation=cv2.INTER_AREA)
  tracker = FaceTracker(64, recognise=False)
  image = scene((small, (400, 300)), size=(540, 800))
  tracked = [tracker.update(image, number / 10) for number in range(4)]
  assert len(tracked[-1]) == 1


def chip(x, y, side, angle=0.0):
  return FaceChip(x - side / 2, y - side / 2, x + side / 2, y + side / 2, angle, 64)


def test_the_filter_removes_jitter_at_rest():
  rng, chip_filter = np.random.default_rng(0), OneEuroFilter()
  raw = [chip(*(np.array([200, 150, 120]) + 0.3 * rng.standard_normal(3))) for _ in range(200)]
  smoothed = [chip_filter.update(one, number / 30) for number, one in enumerate(raw)]

  def jitter(chips):
    return np.abs(np.diff([(c.left, c.top, c.right) for c in chips], axis=0)).mean()

  assert jitter(smoothed[30:]) < 0.2 * jitter(raw[30:])


def test_the_filter_follows_motion_without_lag():
  chip_filter = OneEuroFilter()
  for number in range(60):
    x = 200 + 6 * max(0, number - 30)  # 1.5 sides per second
    smoothed = chip_filter.update(chip(x, 150, 120), number / 30)
  assert abs((smoothed.left + smoothed.right) / 2 - x) < 6


def test_angles_do_not_jump_at_pi():
  chip_filter = OneEuroFilter()
  for number in range(60):
    smoothed = chip_filter.update(
      chip(0, 0, 100, np.pi - 0.01 if number % 2 else -np.pi + 0.01), number / 30
    )
  assert abs(np.cos(smoothed.angle) + 1) < 0.01


@pytest.mark.parametrize("side", [40, 90, 300])
def test_a_region_gives_the_same_crop_as_the_frame(head, side):
  big = cv2.resize(head, (512, 512), interpolation=cv2.INTER_CUBIC)
  source_chip = FaceChip(250 - side / 2, 240 - side / 2, 250 + side / 2, 240 + side / 2, 0.2, 64)
  region = FaceRegion.around(big, source_chip)
  assert max(region.pixels.shape[:2]) <= 1.8 * max(64, side if side < 64 else 64) + 4
  left, top, right, bottom = (
    side_position + 0.05 * side
    for side_position in (source_chip.left, source_chip.top, source_chip.right, source_chip.bottom)
  )
  moved = FaceChip(left, top, right, bottom, 0.15, 64)
  difference = region.crop(moved).astype(int) - moved.extract(big)
  assert np.abs(difference).mean() < 3


def test_a_face_outside_the_image_gives_black(head):
  region = FaceRegion.around(head, chip(-900, -900, 100))
  assert not region.crop(chip(-900, -900, 100)).any()
