"""Video sessions: streamed detections to result files; bounded memory, low frame rates."""

import csv
import weakref

import numpy as np
import pytest

from jax_me.faces.head_pose import HeadPose
from jax_me.inference.video import run as sessions
from jax_me.inference.video.facial_motion import REGIONS
from jax_me.inference.video.frame_stream import Detection, FrameDetections, FrameStreamSettings
from jax_me.inference.video.result_files import PredictionsFile
from jax_me.inference.video.run import VideoSession, VideoSessionSettings
from jax_me.inference.video.sources import Frame, VideoSource
from jax_me.inference.video.spotting import ExpressionSpotter, SpottingSettings
from jax_me.models.model_metadata import ALIGNMENT_DEFAULTS


class FakePredictor:
  """Labels and source of a predictor."""

  labels = ["neutral", "happy"]

  class saved:  # noqa: N801
    source: dict = {}
    image_size = 32
    input = ""
    alignment = {**ALIGNMENT_DEFAULTS, "align": True, "size": 32, "detector": "hog"}


class FakePredictionsFile:
  def __init__(self):
    self.rows = []

  def write(self, video, result):
    people = [detection.person for detection in result.detections] or [None]
    self.rows += [(result.frame.number, person) for person in people]


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Runs a session on given detections: (its rows, its record, the drawn timeline)."""

  def run_session(results, fps):
    source = VideoSource("v.mp4", "video", fps, len(results), "", lambda: iter(()))
    settings = VideoSessionSettings(
      FrameStreamSettings(), SpottingSettings(), tmp_path / "timeline.png", quiet=True
    )
    timelines = []
    monkeypatch.setattr(sessions, "stream_detections", lambda *_: iter(results))
    monkeypatch.setattr(
      sessions, "draw_timeline", lambda t, dark=False: timelines.append(t) or b"png"
    )
    session, predictions = VideoSession(source, FakePredictor(), settings), FakePredictionsFile()
    session.run(predictions)
    return predictions.rows, session.finish(), timelines[-1]

  return run_session


def detection(person, happy=0.0):
  face = np.zeros((16, 16, 3), np.uint8)
  return Detection(person, (0, 0, 9, 9), np.array([1 - happy, happy]), None, face)


def frame(number, fps, detections, status="ok"):
  image = None if status == "unreadable" else np.zeros((20, 20, 3), np.uint8)
  return FrameDetections(Frame(number, number / fps, image), status, detections)


def test_expressions_are_found_at_two_frames_per_second(run):
  results = [frame(n, 2.0, [detection(1, 0.9 if 10 <= n < 14 else 0.1)]) for n in range(30)]
  rows, record, _ = run(results, 2.0)
  (event,) = record["events"]
  assert (event["onset"], event["offset"], event["label"]) == (10, 13, "happy")
  assert event["kind"] == "macro" and len(rows) == 30


def test_every_frame_has_a_row_and_statuses_are_counted(run):
  results = [
    frame(0, 30, [detection(1), detection(2)]),
    frame(1, 30, [], "no_face"),
    frame(2, 30, [], "unreadable"),
    frame(3, 30, [], "skipped"),
  ]
  rows, record, _ = run(results, 30.0)
  assert rows == [(0, 1), (0, 2), (1, None), (2, None), (3, None)]
  assert record["statuses"] == {"ok": 1, "no_face": 1, "unreadable": 1, "skipped": 1}
  assert record["people"] == 2 and record["frames"] == 4 and record["note"] == ""


def test_memory_is_bounded_with_many_people(run):
  results = [
    frame(n, 10.0, [detection(1 + n // 20, 0.9 if n % 20 < 10 else 0.1)]) for n in range(4000)
  ]
  _, record, timeline = run(results, 10.0)
  assert record["people"] == 200 and len(record["events"]) == 200
  assert 0 < len(timeline.people) <= sessions.MAX_SERIES
  assert timeline.omitted == 200 - len(timeline.people)
  onsets = [event["onset"] for event in record["events"]]
  assert onsets == sorted(onsets)


def test_spotters_of_absent_people_are_released_during_the_video(run, monkeypatch):
  alive, most = weakref.WeakSet(), 0

  class CountedSpotter(ExpressionSpotter):
    def __init__(self, *arguments):
      super().__init__(*arguments)
      alive.add(self)

    def push(self, cues):
      nonlocal most
      most = max(most, len(alive))
      return super().push(cues)

  monkeypatch.setattr(sessions, "ExpressionSpotter", CountedSpotter)
  run([frame(n, 10.0, [detection(1 + n // 50)]) for n in range(4000)], 10.0)
  assert 0 < most <= sessions.FORGET_SECONDS / 5 + 2


def test_regions_have_columns_of_their_own(tmp_path):
  file = PredictionsFile(tmp_path, ["neutral", "happy"], regions=True)
  two = frame(0, 10, [detection(1), detection(2)])
  two.detections[0].displacement = np.full((len(REGIONS), 2), np.nan)
  two.detections[0].displacement[0] = 0.01, -0.02
  file.write("v.mp4", two)
  file.write("v.mp4", FrameDetections(Frame(1, 0.1, None), "unreadable", []))
  file.close()
  with open(tmp_path / "predictions.csv", newline="") as table:
    rows = list(csv.DictReader(table, strict=True))
  assert [len(row) for row in rows] == [len(rows[0])] * 3
  assert not any(None in row or None in row.values() for row in rows)
  assert rows[0]["left_brow_right"] == "0.01000" and rows[0]["left_brow_down"] == "-0.02000"
  assert rows[0]["right_cheek_down"] == "" == rows[1]["left_brow_down"]


def test_predictions_file_has_a_row_for_each_person_and_for_each_frame_without_faces(tmp_path):
  file = PredictionsFile(tmp_path, ["neutral", "happy, or so"])
  two = frame(0, 10, [detection(1), detection(2, 0.75)])
  two.detections[1].distance = 0.0123456
  two.detections[1].pose = HeadPose(-12.34, 5.0, 0.06)
  file.write("v.mp4", two)
  file.write("v.mp4", FrameDetections(Frame(1, 0.1, None, "a\udcff.png"), "unreadable", []))
  file.close()
  assert (tmp_path / "predictions.csv").read_bytes().split(b"\n") == [
    b"video,frame,file,seconds,person,status,left,top,right,bottom,label,motion,yaw,pitch,roll,"
    b'score_neutral,"score_happy, or so"',
    b"v.mp4,0,,0.0000,1,ok,0,0,9,9,neutral,,,,,1.00000,0.00000",
    b'v.mp4,0,,0.0000,2,ok,0,0,9,9,"happy, or so",0.01235,-12.3,5.0,0.1,0.25000,0.75000',
    b"v.mp4,1,a\xff.png,0.1000,,unreadable,,,,,,,,,,,",
    b"",
  ]
