"""Decimated series, timeline figures and drawn detections."""

import io

import numpy as np
import pytest
from PIL import Image

from jax_me.inference.video import decimated_series
from jax_me.inference.video.annotation import draw_detections, draw_photograph
from jax_me.inference.video.decimated_series import DecimatedSeries
from jax_me.inference.video.frame_stream import Detection, FrameDetections
from jax_me.inference.video.sources import Frame
from jax_me.inference.video.spotting import ExpressionEvent
from jax_me.inference.video.timeline import Timeline, draw_timeline

FACE = np.full((32, 32, 3), 90, np.uint8)


def filled_series(count, classes=2, step=1 / 30, skip=()):
  series = DecimatedSeries(classes)
  for number in range(count):
    if number not in skip:
      scores = np.array([number / count, 1 - number / count])
      series.add(number, number * step, scores, number / count, FACE)
  return series


def test_a_short_series_is_not_decimated():
  points = filled_series(50).points()
  assert points.seconds == pytest.approx(np.arange(50) / 30)
  assert points.scores[:, 0] == pytest.approx(np.arange(50) / 50)
  assert points.motion == pytest.approx(np.arange(50) / 50)


def test_a_long_series_is_decimated_without_distortion():
  series = filled_series(20_000)
  points = series.points()
  assert decimated_series.MAX_POINTS / 4 <= len(points.seconds) <= decimated_series.MAX_POINTS + 1
  assert np.diff(points.seconds).min() > 0
  assert points.scores[:, 0] == pytest.approx(points.seconds * 30 / 20_000, abs=0.002)
  assert points.motion.max() > 0.999
  assert len(series.faces(1_000_000, 20_000 / 30)) <= decimated_series.MAX_FACES + 1


def test_an_absence_gives_a_nan_point():
  points = filled_series(100, skip=range(40, 60)).points()
  (gap,) = np.flatnonzero(np.isnan(points.motion))
  assert 39 / 30 < points.seconds[gap] < 60 / 30


def test_faces_are_spread_over_the_video():
  times = [time for time, _ in filled_series(3000).faces(10, 100.0)]
  assert len(times) == 10 and np.diff(times) == pytest.approx(np.full(9, 10.0), abs=2.5)


def event(onset, apex, offset, label="positive", person=1):
  times = [frame / 30 for frame in (onset, apex, offset)]
  return ExpressionEvent(person, onset, apex, offset, *times, "micro", label, 0.9, 0.8, "motion")


@pytest.mark.parametrize("people", [0, 1, 3, 9])
def test_timeline_with_any_number_of_people(people):
  png = draw_timeline(
    Timeline(
      title="a $strange$ name.mp4",
      seconds=10.0,
      labels=["$x_1$", "<b>"],
      people={number: filled_series(300, skip=range(90, 120)) for number in range(1, people + 1)},
      events=[event(30, 36, 45), event(50, 55, 60)] if people else [],
      no_face=[(3.0, 4.0)],
      unreadable=[(7.0, 7.1)],
      scores_at_rest=people != 1,
      omitted=people // 2,
    )
  )
  width, height = Image.open(io.BytesIO(png)).size
  assert width == 1800 and 200 < height < 5000


def test_timeline_of_a_dark_page_differs_in_all_but_the_faces():
  timeline = Timeline("v.mp4", 10.0, ["a", "b"], {1: filled_series(300)}, [event(30, 36, 45)])
  light, dark = (
    np.asarray(Image.open(io.BytesIO(draw_timeline(timeline, dark=dark))).convert("RGB"))
    for dark in (False, True)
  )
  assert light.shape == dark.shape
  assert (light[0] == 255).all() and (dark[0] == (0x14, 0x19, 0x1F)).all()
  assert (light < 200).any() and not (dark == 255).all(axis=-1).mean() > 0.2
  strip = slice(140, 220), slice(160, 1500)
  assert (light[strip] == dark[strip]).mean() > 0.5


def test_timeline_without_motion_or_length():
  series = DecimatedSeries(2)
  series.add(0, 0.0, np.array([0.2, 0.8]), None, None)
  assert draw_timeline(Timeline("one frame", 0.0, ["a", "b"], {1: series}, []))


def frame_detections(number, image, detections=(), status="ok"):
  return FrameDetections(Frame(number, number / 30, image), status, list(detections))


def test_boxes_and_labels_are_drawn_at_the_face():
  image = np.zeros((200, 300, 3), np.uint8)
  detection = Detection(2, (100, 40, 180, 120), np.array([0.1, 0.9], np.float32))
  drawn = draw_detections(frame_detections(3, image, [detection]), ["calm", "happy"], (300, 200))
  changed = drawn.any(-1)
  assert changed[40, 100:180].mean() > 0.9 and not changed[60:100, 115:165].any()
  assert changed[122:150, 100:180].mean() > 0.5


def test_boxes_are_drawn_into_photographs():
  image = np.zeros((200, 300, 3), np.uint8)
  faces = [
    Detection(1, (100, 40, 180, 120), np.array([0.1, 0.9], np.float32)),
    Detection(2, (10, 40, 60, 90), np.array([0.8, 0.2], np.float32)),
  ]
  drawn = draw_photograph(frame_detections(0, image, faces), ["calm", "happy"])
  assert drawn.shape == image.shape and not image.any()
  assert drawn[40, 100:180].any(-1).mean() > 0.9 and drawn[40, 10:60].any(-1).mean() > 0.9
  assert not drawn[:12].any()  # no clock
  assert draw_photograph(frame_detections(0, None, status="unreadable"), ["calm"]) is None
