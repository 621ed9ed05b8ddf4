"""Expressions in synthetic films with moving heads, from pixels to events."""

import cv2
import pytest

from jax_me.datasets.synthetic import clip_rendering, long_films
from jax_me.datasets.synthetic.moving_heads import HandCover, HeadMove, MovingHeadFilm
from jax_me.evaluation.spotting_scores import score_spotting
from jax_me.inference.video.face_region import FaceRegion
from jax_me.inference.video.face_tracker import FaceTracker
from jax_me.inference.video.facial_motion import CROP_SIZE, MAX_MOTION, FacialMotionEstimator
from jax_me.inference.video.spotting import ExpressionSpotter, FrameCues


def read(film, step):
  """Events and distances of a film of which every `step`-th frame is read."""
  tracker, estimator = FaceTracker(CROP_SIZE, recognise=False), FacialMotionEstimator()
  spotter, distances = ExpressionSpotter(1), []
  for number in range(0, film.length, step):
    image, seconds = film.frame(number), number / film.fps
    for face in tracker.update(image, seconds):
      region = FaceRegion.around(image, face.chip)
      motion = estimator.update(region, face.chip, face.face.landmarks, seconds)
      cues = FrameCues(
        number, seconds, motion, None, estimator.origin, estimator.hidden, estimator.turn
      )
      distances.append(spotter.push(cues))
  return spotter.finish(), distances


@pytest.mark.slow
def test_a_smile_goes_on_while_the_head_turns_and_a_hand_alone_is_no_expression():
  cv2.setNumThreads(1)
  subject = clip_rendering.DemoSubject(101, 10)
  units = {"AU12": (0.09, 0.09), "AU6": (0.06, 0.06)}
  smile = clip_rendering.Movement(200, 230, 600, units, hold=330)
  film = MovingHeadFilm(
    "smile", subject, 1000, (), (smile,), clip_rendering.demo_video(101, subject, 0, 1).camera,
    head_moves=(HeadMove(330, 460, 30, yaw=35),), hands=(HandCover(760, 830, 1),),
  )  # fmt: skip
  events, distances = read(film, 6)
  truth = {"film": [(200, 600)]}
  score = score_spotting({"film": [(event.onset, event.offset) for event in events]}, truth)
  assert score.true_positives == 1 and score.false_positives <= 1
  defined = [distance for distance in distances if distance is not None]
  assert max(defined) <= MAX_MOTION and len(defined) < len(distances)


@pytest.mark.slow
def test_a_calm_face_that_looks_around_shows_no_expression():
  cv2.setNumThreads(1)
  events, distances = read(long_films.calm_film(101, 40, 10), 10)
  assert events == [] and max(distance or 0 for distance in distances) < 0.05
