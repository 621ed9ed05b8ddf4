"""One input from frames to files: memory stays bounded, slow rates work."""

import numpy as np
import pytest

from jax_me.inference.video import run as sessions
from jax_me.inference.video.frame_stream import Observation, ObservationSettings, ObservedFrame
from jax_me.inference.video.run import SessionSettings, VideoSession
from jax_me.inference.video.sources import Footage, Frame
from jax_me.inference.video.spotting import SpottingSettings


class Model:
  """Stands for a predictor: its labels and where it comes from."""

  labels = ["neutral", "happy"]

  class saved:  # noqa: N801
    source: dict = {}
    image_size = 32


class Table:
  def __init__(self):
    self.rows = []

  def write(self, rows):
    self.rows += rows


@pytest.fixture
def run(tmp_path, monkeypatch):
  """Plays observed frames through a session: (its rows, its record, the session)."""

  def play(observed, fps):
    footage = Footage("v.mp4", "video", fps, len(observed), "", lambda: iter(()))
    settings = SessionSettings(
      ObservationSettings(), SpottingSettings(), tmp_path / "timeline.png", quiet=True
    )
    monkeypatch.setattr(sessions, "observe", lambda *_: iter(observed))
    monkeypatch.setattr(sessions, "draw_timeline", lambda _: b"png")
    one, table = VideoSession(footage, Model(), settings), Table()
    one.run(table)
    return table.rows, one.finish(), one

  return play


def person(number, happy=0.0):
  face = np.zeros((16, 16, 3), np.uint8)
  return Observation(number, (0, 0, 9, 9), np.array([1 - happy, happy]), None, face)


def frame(number, fps, people, status="ok"):
  image = None if status == "unreadable" else np.zeros((20, 20, 3), np.uint8)
  return ObservedFrame(Frame(number, number / fps, image), status, people)


def test_expressions_are_found_at_two_frames_a_second(run):
  observed = [frame(n, 2.0, [person(1, 0.9 if 10 <= n < 14 else 0.1)]) for n in range(30)]
  rows, record, _ = run(observed, 2.0)
  (event,) = record["events"]
  assert (event["onset"], event["offset"], event["label"]) == (10, 13, "happy")
  assert event["kind"] == "macro" and len(rows) == 30


def test_every_frame_has_a_row_and_statuses_are_counted(run):
  observed = [
    frame(0, 30, [person(1), person(2)]),
    frame(1, 30, [], "no_face"),
    frame(2, 30, [], "unreadable"),
    frame(3, 30, [], "skipped"),
  ]
  rows, record, _ = run(observed, 30.0)
  assert [(row.frame, row.person) for row in rows] == [
    (0, 1),
    (0, 2),
    (1, None),
    (2, None),
    (3, None),
  ]
  assert record["statuses"] == {"ok": 1, "no_face": 1, "unreadable": 1, "skipped": 1}
  assert record["people"] == 2 and record["frames"] == 4 and record["note"] == ""


def test_a_street_full_of_people_does_not_fill_the_memory(run):
  observed = [
    frame(n, 10.0, [person(1 + n // 20, 0.9 if n % 20 < 10 else 0.1)]) for n in range(4000)
  ]
  _, record, one = run(observed, 10.0)
  assert record["people"] == 200 and len(record["events"]) == 200
  assert len(one._courses) <= sessions.MOST_COURSES
  onsets = [event["onset"] for event in record["events"]]
  assert onsets == sorted(onsets)


def test_whoever_is_settled_is_forgotten_while_the_video_runs(run, monkeypatch):
  most = 0
  push = sessions.Spotter.push

  def counting(spotter, moment):
    nonlocal most
    most = max(most, len(alive))
    return push(spotter, moment)

  alive: dict = {}
  start = VideoSession.__init__

  def remembering(one, *args):
    nonlocal alive
    start(one, *args)
    alive = one._spotters

  monkeypatch.setattr(VideoSession, "__init__", remembering)
  monkeypatch.setattr(sessions.Spotter, "push", counting)
  run([frame(n, 10.0, [person(1 + n // 50)]) for n in range(4000)], 10.0)
  assert most <= sessions.FORGET_SECONDS / 5 + 2
