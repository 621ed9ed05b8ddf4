"""Reading frames: every one comes out, in order, with its time, broken or not."""

import cv2
import numpy as np
import pytest

from jax_me.faces.image_files import encode_image
from jax_me.inference.video import sources
from jax_me.inference.video.sources import VideoError, find_footage


def picture(level, side=32):
  return np.full((side, side, 3), level, np.uint8)


def write_avi(path, count, fps=25, broken=()):
  """A Motion JPEG file whose frames grow brighter; broken ones are zeroed."""
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
  for number in range(count):
    writer.write(np.full((48, 64, 3), 5 * number, np.uint8))
  writer.release()
  data, at, places = bytearray(path.read_bytes()), 0, []
  while (at := data.find(b"00dc", at)) >= 0:
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    if data[at + 8 : at + 10] == b"\xff\xd8":
      places.append((at + 8, length))
    at += 4
  for number in broken:
    start, length = places[number]
    data[start : start + length] = bytes(length)
  path.write_bytes(data)


def test_a_folder_is_read_by_number(tmp_path):
  for number in (10, 9, 1, 2):
    (tmp_path / f"img{number}.png").write_bytes(encode_image(picture(number)))
  (tmp_path / "img3.png").write_bytes(b"broken")
  (tmp_path / "notes.txt").write_text("no picture")
  (footage,) = find_footage([tmp_path], fps=50)
  frames = list(footage.frames())
  assert [frame.file for frame in frames] == [f"img{n}.png" for n in (1, 2, 3, 9, 10)]
  assert [frame.seconds for frame in frames] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
  assert [frame.image is None for frame in frames] == [False, False, True, False, False]
  assert frames[2].reason and footage.length == 5 and footage.kind == "frames"
  assert frames[4].image[0, 0, 0] == 10


def test_a_folder_without_a_rate_says_so(tmp_path):
  (tmp_path / "1.png").write_bytes(encode_image(picture(1)))
  (footage,) = find_footage([tmp_path])
  assert footage.fps == sources.DEFAULT_FPS and "--fps" in footage.note


def test_a_folder_of_clips_gives_each(tmp_path):
  for clip in ("b", "a"):
    (tmp_path / clip).mkdir()
    (tmp_path / clip / "1.png").write_bytes(encode_image(picture(1)))
  write_avi(tmp_path / "c.avi", 2)
  names = [footage.name for footage in find_footage([tmp_path], 30)]
  assert names == [str(tmp_path / name) for name in ("a", "b", "c.avi")]


def test_a_video_file(tmp_path):
  write_avi(tmp_path / "v.avi", 12)
  (footage,) = find_footage([tmp_path / "v.avi"])
  frames = list(footage.frames())
  assert footage.fps == 25 and footage.length == len(frames) == 12 and footage.kind == "video"
  assert [frame.number for frame in frames] == list(range(12))
  assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(12)])
  assert [round(frame.image.mean() / 5) for frame in frames] == list(range(12))
  (slow,) = find_footage([tmp_path / "v.avi"], fps=200)
  assert [frame.seconds for frame in slow.frames()][-1] == pytest.approx(11 / 200)


def test_broken_frames_keep_their_place(tmp_path, capfd):
  write_avi(tmp_path / "v.avi", 14, broken=(3, 7, 8, 12, 13))
  (footage,) = find_footage([tmp_path / "v.avi"])
  frames = list(footage.frames())
  assert [frame.number for frame in frames] == list(range(14))
  assert [frame.number for frame in frames if frame.image is None] == [3, 7, 8, 12, 13]
  assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(14)])
  assert round(frames[9].image.mean() / 5) == 9 and frames[3].reason == "broken frame"


def test_what_cannot_be_opened_is_named(tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "text.mp4").write_text("no video")
  cases = {
    tmp_path / "missing.mp4": "missing.mp4 does not exist",
    tmp_path / "empty": "no pictures",
    tmp_path / "text.mp4": "cannot open .*text.mp4",
    "camera:x": "camera:0",
  }
  for given, message in cases.items():
    with pytest.raises(VideoError, match=message):
      find_footage([given])
  with pytest.raises(VideoError, match="frames a second"):
    find_footage([tmp_path], fps=0)


def test_a_camera_runs_until_it_gives_nothing_more(monkeypatch):
  class Camera:
    def __init__(self, source):
      assert source == 1
      self.left = 3

    def isOpened(self):  # noqa: N802 (OpenCV's name)
      return True

    def get(self, key):
      return 0.0

    def read(self):
      self.left -= 1
      return (True, picture(9)) if self.left >= 0 else (False, None)

    def release(self):
      pass

  monkeypatch.setattr(sources.cv2, "VideoCapture", Camera)
  (footage,) = find_footage(["camera:1"])
  frames = list(footage.frames())
  assert footage.kind == "camera" and footage.fps == sources.DEFAULT_FPS and footage.length is None
  assert sum(frame.image is not None for frame in frames) == 3
  assert len(frames) == 3 + sources.FAILURES_AT_END
