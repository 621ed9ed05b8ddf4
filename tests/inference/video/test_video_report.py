"""Reports of videos and their images; names of output files."""

import dataclasses
import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from jax_me.inference.training_note import is_synthetic_or_unknown, training_note
from jax_me.inference.video import thumbnails, video_report
from jax_me.inference.video.output_files import OutputFiles
from jax_me.inference.video.thumbnails import FaceThumbnails, FrameThumbnails, encode_jpeg
from jax_me.inference.video.video_report import ReportImages
from jax_me.reports.document import to_html
from jax_me.reports.figures import thumbnail


def face(level):
  return np.full((32, 32, 3), level, np.uint8)


def level_of(jpeg):
  return round(float(np.asarray(Image.open(io.BytesIO(jpeg))).mean()))


def test_face_thumbnails_are_those_of_the_frame_in_short_videos():
  faces = FaceThumbnails()
  for number in range(100):
    faces.add(1, number, face(2 * number), None)
  faces.add(2, 3, face(200), 0.5)
  assert [level_of(faces.nearest(1, number)) for number in (0, 37, 99)] == [0, 74, 198]
  assert level_of(faces.nearest(2, 90)) == 200 and faces.nearest(3, 0) is None


def test_face_thumbnails_of_long_videos_keep_the_apex(monkeypatch):
  monkeypatch.setattr(thumbnails, "MAX_FACES", 64)
  faces = FaceThumbnails()
  for number in range(1000):
    faces.add(1, number, face(250 if number == 333 else 10), 0.9 if number == 333 else 0.1)
  assert level_of(faces.nearest(1, 333)) == 250 and level_of(faces.nearest(1, 600)) == 10


def test_frame_thumbnails_are_spread_over_the_video():
  frames = FrameThumbnails()
  for number in range(5000):
    if frames.wants(number / 10):
      frames.add(number / 10, np.zeros((90, 800, 3), np.uint8))
  times = [seconds for seconds, _ in frames.frames(8)]
  assert len(times) == 8 and times[0] == 0 and times[-1] > 400
  assert np.diff(times).max() < 2.5 * np.diff(times).min()
  image = Image.open(io.BytesIO(frames.frames(1)[0][1]))
  assert image.size == (thumbnails.FRAME_SIDE, 45)


EVENT = {
  "person": 1, "onset": 3, "apex": 5, "offset": 9, "onset_seconds": 0.12, "apex_seconds": 0.2,
  "offset_seconds": 61.36, "kind": "macro", "label": "<happy> & so", "score": 0.9,
  "confidence": 0.7, "evidence": "both",
}  # fmt: skip
RECORD = {
  "video": "films/a <b>.mp4", "kind": "video", "fps": 25.0, "frames": 20, "seconds": 83.339,
  "statuses": {"ok": 18, "no_face": 2}, "people": 1, "note": "a note", "scores_at_rest": True,
  "events": [EVENT],
  "summary": [{"person": 1, "seconds_seen": 0.72, "micro": 0, "macro": 1, "changes": 2,
               "share_calm": 0.75, "share_<happy> & so": 0.25}],
}  # fmt: skip
MODEL = {
  "name": "vit_tiny_patch16", "labels": ["calm", "<happy> & so"], "trained_on": "demo_clips/x",
  "training_note": training_note("demo_clips/x"),
}  # fmt: skip


class Structure(html.parser.HTMLParser):
  """Balanced tags, and the embedded files."""

  def __init__(self, page):
    super().__init__()
    self.open, self.sources, self.text = [], [], ""
    self.feed(page)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attributes = dict(attrs)
    if "src" in attributes:
      self.sources.append((tag, attributes["src"]))
    if tag not in ("meta", "img", "source"):
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


@pytest.fixture
def images():
  faces = FaceThumbnails()
  for number in range(20):
    faces.add(1, number, face(10 * number), None)
  frames = [(0.0, encode_jpeg(face(9), 32)), (0.4, encode_jpeg(face(8), 32))]
  return ReportImages(thumbnail(face(1), 8), thumbnail(face(2), 8), frames, faces)


def test_a_page_that_needs_nothing_else(images, tmp_path):
  copy = tmp_path / "annotated.webm"
  copy.write_bytes(b"a video")
  images = dataclasses.replace(images, video=copy)
  page = Structure(to_html(video_report.video_report(RECORD, MODEL, images)))
  kinds = [(tag, source.partition(";")[0]) for tag, source in page.sources]
  assert kinds == [
    ("video", "data:video/webm"),
    *[("img", "data:image/jpeg")] * 2,
    ("img", "data:image/png"),
    *[("img", "data:image/jpeg")] * 3,
  ]
  for text in (
    "a <b>.mp4", "1:23.34", "<happy> & so, macro", "0:00.12 to 1:01.36", "75.0%", "a note",
    "nothing about real faces", "research use",
  ):  # fmt: skip
    assert text in page.text


def test_a_video_without_faces_and_a_copy_that_is_too_large(images, tmp_path, monkeypatch):
  copy = tmp_path / "annotated.mp4"
  copy.write_bytes(bytes(100))
  monkeypatch.setattr(video_report, "MAX_VIDEO_BYTES", 99)
  empty = {**RECORD, "events": [], "summary": [], "people": 0}
  images = dataclasses.replace(images, frames=[], video=copy)
  page = Structure(to_html(video_report.video_report(empty, MODEL, images)))
  assert [tag for tag, _ in page.sources] == ["img"]
  for text in ("see annotated.mp4", "No expression was found", "Nobody was found", "No frame"):
    assert text in page.text


def test_notes_on_the_training_data():
  assert training_note("casme2/flow_128/1.0.0:train") == "trained on casme2"
  assert "nothing about real faces" in training_note("demo_clips/flow/1.0.0:train")
  assert "does not say" in training_note("")
  assert [is_synthetic_or_unknown(name) for name in ("", "demo_clips/x", "casme2/x")] == [
    True,
    True,
    False,
  ]


def test_output_files_have_distinct_names(tmp_path):
  files = OutputFiles(tmp_path, ["a/x.mp4", "b/x.mp4", "camera:0"], ".webm")
  names = [files.of_video(index).report.name for index in range(3)]
  assert names == ["report_1_x.html", "report_2_x.html", "report_camera0.html"]
  assert OutputFiles(tmp_path, ["x.mp4"], ".mp4").of_video(0).annotated.name == "annotated.mp4"
  photographs = [files.next_photograph(name).name for name in ("a/x.png", "b/X.jpg", "a b?.png")]
  assert photographs == ["x.jpg", "X_2.jpg", "a_b_.jpg"]


def test_files_of_earlier_runs_are_replaced_or_named(tmp_path):
  (tmp_path / "annotated").mkdir()
  for name in (
    "report.html", "timeline_x.png", "annotated.mp4", "annotated/y.jpg", "annotated/z.jpg",
    "notes.txt",
  ):  # fmt: skip
    (tmp_path / name).write_text("earlier")
  files = OutputFiles(tmp_path, ["v.mp4"], ".webm")
  files.remove_outdated()
  assert not (tmp_path / "report.html").exists() and not (tmp_path / "annotated.mp4").exists()
  files.next_photograph("z.png")
  assert files.of_earlier_runs() == ["timeline_x.png", "annotated/y.jpg"]
  assert (tmp_path / "notes.txt").exists()
