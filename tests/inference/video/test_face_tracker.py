"""People followed through a video made by moving one portrait (public domain) about."""

import pathlib

import cv2
import numpy as np
import pytest
import skimage

from jax_me.faces.alignment import FaceChip
from jax_me.faces.image_files import read_image
from jax_me.inference.video.face_region import Patch
from jax_me.inference.video.face_tracker import Tracker
from jax_me.inference.video.smoothing import SteadyChip

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
HEAD = (slice(20, 276), slice(90, 346))  # 256 x 256 pixels; the face takes up half


@pytest.fixture(scope="module")
def head():
  return read_image(PORTRAIT)[HEAD]


def scene(*pictures, size=(300, 640)):
  """A grey picture with heads at (left, top)."""
  canvas = np.full((*size, 3), 128, np.uint8)
  for image, (left, top) in pictures:
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
  return canvas


def test_a_moving_person_keeps_the_number_and_the_cut_follows(head):
  tracker = Tracker(64, recognise=False)
  for number in range(12):
    left = 20 + 15 * number
    (seen,) = tracker.update(scene((head, (left, 20))), number / 30)
    assert seen.person == 1
    # The nose's tip, wherever the head is.
    nose = seen.face.landmarks[30] - (left, 20)
    assert nose == pytest.approx((137, 115), abs=8)
    middle = (seen.chip.left + seen.chip.right) / 2 - left
    assert middle == pytest.approx(133, abs=12)


def test_two_people_keep_apart_and_newcomers_are_seen(head):
  mirrored = np.ascontiguousarray(head[:, ::-1])
  tracker = Tracker(64, recognise=False)
  people = []
  for number in range(20):
    heads = [(head, (10, 20))] + ([(mirrored, (350, 20))] if number >= 2 else [])
    people.append({seen.person for seen in tracker.update(scene(*heads), number / 30)})
  assert people[0] == {1} and people[-1] == {1, 2}
  assert people.index({1, 2}) / 30 <= 0.5


def test_absence_is_absence_and_who_returns_is_known(head):
  tracker = Tracker(64, recognise=True)
  numbers = []
  shown = [True] * 3 + [False] * 24 + [True] * 4
  for number, present in enumerate(shown):
    heads = [(head, (350 if number > 20 else 10, 20))] if present else []
    numbers.append([seen.person for seen in tracker.update(scene(*heads), number / 10)])
  assert numbers[:3] == [[1]] * 3 and numbers[3:27] == [[]] * 24
  assert numbers[-2:] == [[1]] * 2  # seen within 0.2 s


def test_without_recognition_a_late_return_is_a_new_person(head):
  tracker = Tracker(64, recognise=False)
  shown = [True, True] + [False] * 15 + [True, True]
  numbers = [
    [seen.person for seen in tracker.update(scene((head, (10, 20))) if here else scene(), n / 10)]
    for n, here in enumerate(shown)
  ]
  assert numbers[0] == [1] and numbers[-1] == [2]


def test_a_face_of_an_eighth_of_the_picture_is_found(head):
  small = cv2.resize(head, (200, 200), interpolation=cv2.INTER_AREA)
  tracker = Tracker(64, recognise=False)
  picture = scene((small, (400, 300)), size=(540, 800))
  seen = [tracker.update(picture, number / 10) for number in range(4)]
  assert len(seen[-1]) == 1


def chip(x, y, side, angle=0.0):
  return FaceChip(x - side / 2, y - side / 2, x + side / 2, y + side / 2, angle, 64)


def test_a_resting_face_keeps_its_cut():
  rng, steady = np.random.default_rng(0), SteadyChip()
  raw = [chip(*(np.array([200, 150, 120]) + 0.3 * rng.standard_normal(3))) for _ in range(200)]
  kept = [steady.update(one, number / 30) for number, one in enumerate(raw)]

  def tremble(chips):
    return np.abs(np.diff([(c.left, c.top, c.right) for c in chips], axis=0)).mean()

  assert tremble(kept[30:]) < 0.2 * tremble(raw[30:])


def test_a_moving_face_is_followed_at_once():
  steady = SteadyChip()
  for number in range(60):
    x = 200 + 6 * max(0, number - 30)  # 1.5 sides a second
    kept = steady.update(chip(x, 150, 120), number / 30)
  assert abs((kept.left + kept.right) / 2 - x) < 6


def test_angles_do_not_jump_at_half_a_turn():
  steady = SteadyChip()
  for number in range(60):
    kept = steady.update(
      chip(0, 0, 100, np.pi - 0.01 if number % 2 else -np.pi + 0.01), number / 30
    )
  assert abs(np.cos(kept.angle) + 1) < 0.01


@pytest.mark.parametrize("side", [40, 90, 300])
def test_a_patch_cuts_as_the_frame_does(head, side):
  big = cv2.resize(head, (512, 512), interpolation=cv2.INTER_CUBIC)
  where = FaceChip(250 - side / 2, 240 - side / 2, 250 + side / 2, 240 + side / 2, 0.2, 64)
  patch = Patch.around(big, where)
  assert max(patch.pixels.shape[:2]) <= 1.8 * max(64, side if side < 64 else 64) + 4
  moved = FaceChip(*(v + 0.05 * side for v in (where.left, where.top, where.right, where.bottom)),
                   0.15, 64)  # fmt: skip
  difference = patch.cut(moved).astype(int) - moved.extract(big)
  assert np.abs(difference).mean() < 3


def test_a_face_outside_the_picture_gives_black(head):
  patch = Patch.around(head, chip(-900, -900, 100))
  assert not patch.cut(chip(-900, -900, 100)).any()
