"""Courses that stay small, and pictures that can be drawn from anything."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from jax_me.inference.video import decimated_series
from jax_me.inference.video.annotation import AnnotatedVideo, draw_frame
from jax_me.inference.video.decimated_series import Course
from jax_me.inference.video.frame_stream import Observation, ObservedFrame
from jax_me.inference.video.sources import Frame
from jax_me.inference.video.spotting import Event
from jax_me.inference.video.timeline import Timeline, draw_timeline

FACE = np.full((32, 32, 3), 90, np.uint8)


def filled(count, classes=2, step=1 / 30, skip=()):
  one = Course(classes)
  for number in range(count):
    if number not in skip:
      scores = np.array([number / count, 1 - number / count])
      one.add(number, number * step, scores, number / count, FACE)
  return one


def test_a_short_course_is_kept_as_it_is():
  points = filled(50).points()
  assert points.seconds == pytest.approx(np.arange(50) / 30)
  assert points.scores[:, 0] == pytest.approx(np.arange(50) / 50)
  assert points.motion == pytest.approx(np.arange(50) / 50)


def test_a_long_course_is_thinned_and_stays_true():
  one = filled(20_000)
  points = one.points()
  assert decimated_series.MOST_POINTS / 4 <= len(points.seconds) <= decimated_series.MOST_POINTS + 1
  assert np.diff(points.seconds).min() > 0
  assert points.scores[:, 0] == pytest.approx(points.seconds * 30 / 20_000, abs=0.002)
  assert points.motion.max() > 0.999
  assert len(one._faces) <= decimated_series.MOST_FACES + 1


def test_an_absence_breaks_the_line():
  points = filled(100, skip=range(40, 60)).points()
  (gap,) = np.flatnonzero(np.isnan(points.motion))
  assert 39 / 30 < points.seconds[gap] < 60 / 30


def test_faces_are_spread_over_the_axis():
  times = [at for at, _ in filled(3000).faces(10, 100.0)]
  assert len(times) == 10 and np.diff(times) == pytest.approx(np.full(9, 10.0), abs=2.5)


def event(onset, apex, offset, label="positive", person=1):
  times = [frame / 30 for frame in (onset, apex, offset)]
  return Event(person, onset, apex, offset, *times, "micro", label, 0.9, 0.8, "motion")


@pytest.mark.parametrize("people", [0, 1, 3, 9])
def test_a_timeline_of_any_number_of_people(people):
  png = draw_timeline(
    Timeline(
      title="a $strange$ name.mp4",
      seconds=10.0,
      labels=["$x_1$", "<b>"],
      people={number: filled(300, skip=range(90, 120)) for number in range(1, people + 1)},
      events=[event(30, 36, 45), event(50, 55, 60)] if people else [],
      lost=[(3.0, 4.0)],
      unreadable=[(7.0, 7.1)],
      scores_at_rest=people != 1,
      left_out=people // 2,
    )
  )
  width, height = Image.open(io.BytesIO(png)).size
  assert width == 1800 and 200 < height < 5000


def test_a_timeline_without_motion_or_length():
  one = Course(2)
  one.add(0, 0.0, np.array([0.2, 0.8]), None, None)
  assert draw_timeline(Timeline("one frame", 0.0, ["a", "b"], {1: one}, []))


def observed(number, image, people=(), status="ok"):
  return ObservedFrame(Frame(number, number / 30, image), status, list(people))


def test_boxes_and_labels_lie_on_the_face():
  image = np.zeros((200, 300, 3), np.uint8)
  one = Observation(2, (100, 40, 180, 120), np.array([0.1, 0.9], np.float32))
  drawn = draw_frame(observed(3, image, [one]), ["calm", "happy"], (300, 200))
  changed = drawn.any(-1)
  assert changed[40, 100:180].mean() > 0.9 and not changed[60:100, 115:165].any()
  assert changed[122:150, 100:180].mean() > 0.5


def test_the_copy_has_every_frame_and_appears_when_it_is_whole(tmp_path):
  path = tmp_path / "annotated.mp4"
  copy = AnnotatedVideo(path, 30.0, ["calm", "happy"])
  copy.write(observed(0, None, status="unreadable"))
  for number in range(1, 9):
    copy.write(observed(number, np.full((101, 151, 3), 60, np.uint8), status="no_face"))
  assert not path.exists()
  copy.close()
  capture = cv2.VideoCapture(str(path))
  frames = 0
  while capture.read()[0]:
    frames += 1
  assert frames == 9 and list(tmp_path.iterdir()) == [path]
