"""Synthetic films with moving heads: what is drawn agrees with what the script says."""

import itertools

import numpy as np
import pytest

from jax_me.datasets.synthetic import clip_rendering, long_films
from jax_me.datasets.synthetic.moving_heads import HandCover, HeadMove, MovingHeadFilm
from jax_me.faces import detector
from jax_me.faces.head_pose import HeadPose


@pytest.fixture(scope="module")
def still():
  """A film of 2 s without any motion but the drift of the camera."""
  subject = clip_rendering.DemoSubject(7, 0)
  camera = clip_rendering.demo_video(7, subject, 0, 1).camera
  return MovingHeadFilm("still", subject, 200, (), (), camera)


def with_moves(film, *moves, hands=()):
  return MovingHeadFilm(
    "moved", film.subject, film.length, (), (), film.camera, head_moves=moves, hands=tuple(hands)
  )


def pose_of(image):
  return HeadPose.of_landmarks(detector.find_faces(image)[0].landmarks)


@pytest.mark.parametrize(("yaw", "pitch"), [(20, 0), (-20, 0), (0, 12), (0, -15)])
def test_a_turned_head_is_found_with_its_pose(still, yaw, pitch):
  turned = with_moves(still, HeadMove(0, 200, 20, yaw=yaw, pitch=pitch))
  assert turned.head_pose(100) == (yaw, pitch)
  rest, pose = pose_of(turned.frame(0)), pose_of(turned.frame(100))
  assert pose.yaw - rest.yaw == pytest.approx(yaw, abs=8)
  assert pose.pitch - rest.pitch == pytest.approx(pitch, abs=8)


def test_a_ducked_head_leaves_the_image_and_a_leaning_one_grows(still):
  assert (
    detector.find_faces(with_moves(still, HeadMove(0, 200, 20, shift=(0, 260))).frame(100)) == []
  )
  near = with_moves(still, HeadMove(0, 200, 20, scale=1.3)).frame(100)
  ratio = detector.find_faces(near)[0].area / detector.find_faces(still.frame(100))[0].area
  assert ratio == pytest.approx(1.3**2, rel=0.25)


def test_a_hand_covers_the_mouth_only_while_it_is_there(still):
  covered = with_moves(still, hands=[HandCover(80, 120, 1)])
  mouth = tuple(np.round(still.control_points(100)[62]).astype(int)[::-1])
  difference = np.abs(covered.frame(100).astype(int) - still.frame(100)).max(-1)
  assert difference[mouth] > 15 and difference[:60].max() == 0
  assert np.array_equal(covered.frame(20), still.frame(20))


def test_scripts_are_reproducible_and_have_known_expressions():
  subject = clip_rendering.DemoSubject(7, 0)
  film = long_films.expression_film(7, subject, 90, (10, 60))
  assert film.events == long_films.expression_film(7, subject, 90, (10, 60)).events
  seconds = [(event.offset - event.onset) / film.fps for event in film.events]
  assert seconds and all(10 <= length <= 60 for length in seconds)
  moving = long_films.moving_film(7, subject, 60)
  assert len(moving.head_moves) + len(moving.hands) >= 5 and moving.events
  assert all(one.offset < other.onset for one, other in itertools.pairwise(moving.events))
  assert long_films.calm_film(7, subject, 60).events == ()


def test_a_held_movement():
  movement = clip_rendering.Movement(10, 20, 60, hold=30)
  assert [movement.activation(frame) for frame in (10, 20, 35, 50, 60)] == [0, 1, 1, 1, 0]
  assert 0 < movement.activation(55) < 1
