"""Video sources: every frame in order with its time, including broken ones."""

import os

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from jax_me.faces.image_files import encode_image
from jax_me.inference.video import sources
from jax_me.inference.video.sources import VideoError, find_sources
from jax_me.inference.video.video_limits import VideoLimits


def grey_image(level, side=32):
  return np.full((side, side, 3), level, np.uint8)


def write_avi(path, count, fps=25, broken=()):
  """Writes a Motion JPEG file with increasing brightness; broken frames are zeroed."""
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
  for number in range(count):
    writer.write(np.full((48, 64, 3), 5 * number, np.uint8))
  writer.release()
  data, at, chunks = bytearray(path.read_bytes()), 0, []
  while (at := data.find(b"00dc", at)) >= 0:
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    if data[at + 8 : at + 10] == b"\xff\xd8":
      chunks.append((at + 8, length))
    at += 4
  for number in broken:
    start, length = chunks[number]
    data[start : start + length] = bytes(length)
  path.write_bytes(data)


def test_folder_frames_are_sorted_by_number(tmp_path):
  for number in (10, 9, 1, 2):
    (tmp_path / f"img{number}.png").write_bytes(encode_image(grey_image(number)))
  (tmp_path / "img3.png").write_bytes(b"broken")
  (tmp_path / "notes.txt").write_text("not an image")
  (source,) = find_sources([tmp_path], fps=50)
  frames = list(source.frames())
  assert [frame.file for frame in frames] == [f"img{n}.png" for n in (1, 2, 3, 9, 10)]
  assert [frame.seconds for frame in frames] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
  assert [frame.image is None for frame in frames] == [False, False, True, False, False]
  assert frames[2].reason and source.length == 5 and source.kind == "frames"
  assert frames[4].image[0, 0, 0] == 10


def test_a_folder_without_frame_rate_has_a_note(tmp_path):
  (tmp_path / "1.png").write_bytes(encode_image(grey_image(1)))
  (source,) = find_sources([tmp_path], read_as="frames")
  assert source.fps == sources.DEFAULT_FPS and "--fps" in source.note


def write_images(folder, names, levels=(0,) * 9, sides=(32,) * 9):
  folder.mkdir()
  for name, level, side in zip(names, levels, sides, strict=False):
    (folder / name).write_bytes(encode_image(grey_image(level, side)))
  return folder


def test_folders_of_photographs_and_of_frames_are_distinguished(tmp_path):
  numbered = [f"img_{number}.png" for number in range(8, 12)]
  folders = {
    "clip": ("frames", write_images(tmp_path / "clip", numbered, (10, 12, 14, 16))),
    "names": ("photos", write_images(tmp_path / "names", ["anna.png", "ben.png"])),
    "two": ("photos", write_images(tmp_path / "two", ["a1_1.png", "a2_2.png"])),
    "content": ("photos", write_images(tmp_path / "content", numbered, (10, 200, 60, 130))),
    "sizes": ("photos", write_images(tmp_path / "sizes", numbered, sides=(32, 48, 32, 32))),
    "one": ("photos", write_images(tmp_path / "one", ["1.png"])),
  }
  camera = tmp_path / "camera"
  camera.mkdir()
  for number in range(3):
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "a camera"
    Image.fromarray(grey_image(9)).save(camera / f"IMG_{number}.jpg", exif=exif)
  folders["camera"] = ("photos", camera)
  for name, (expected, folder) in folders.items():
    assert sources.reads_as(folder) == expected, name
  (photographs,) = find_sources([folders["names"][1]])
  assert photographs.kind == "photographs" and photographs.length == 2
  assert "--as frames" in photographs.note
  frames = list(photographs.frames())
  assert [(frame.number, frame.file) for frame in frames] == [(0, "anna.png"), (1, "ben.png")]
  # A given choice, and a frame rate, decide.
  assert find_sources([folders["names"][1]], read_as="frames")[0].kind == "frames"
  assert find_sources([folders["names"][1]], fps=25)[0].kind == "frames"
  (given,) = find_sources([folders["clip"][1]], read_as="photos")
  assert given.kind == "photographs" and "--as" not in given.note


def test_image_files_of_one_folder_are_a_clip_if_read_as_frames(tmp_path):
  first = write_images(tmp_path / "a", [f"{number}.png" for number in (2, 10, 1)], (20, 100, 10))
  other = write_images(tmp_path / "b", ["x.png"])
  files = [first / "10.png", other / "x.png", first / "2.png", first / "1.png"]
  clip, photograph = find_sources(files, 25, "frames")
  assert (clip.kind, clip.name, clip.length) == ("frames", str(first), 3)
  assert [frame.file for frame in clip.frames()] == ["1.png", "2.png", "10.png"]
  assert photograph.kind == "photograph"
  assert [source.kind for source in find_sources(files)] == ["photograph"] * 4


def test_a_folder_of_clips_gives_one_source_per_clip(tmp_path):
  for clip in ("b", "a"):
    (tmp_path / clip).mkdir()
    (tmp_path / clip / "1.png").write_bytes(encode_image(grey_image(1)))
  write_avi(tmp_path / "c.avi", 2)
  names = [source.name for source in find_sources([tmp_path], 30)]
  assert names == [str(tmp_path / name) for name in ("a", "b", "c.avi")]


def test_a_video_file(tmp_path):
  write_avi(tmp_path / "v.avi", 12)
  (source,) = find_sources([tmp_path / "v.avi"])
  frames = list(source.frames())
  assert source.fps == 25 and source.length == len(frames) == 12 and source.kind == "video"
  assert [frame.number for frame in frames] == list(range(12))
  assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(12)])
  assert [round(frame.image.mean() / 5) for frame in frames] == list(range(12))
  (slow,) = find_sources([tmp_path / "v.avi"], fps=200)
  assert [frame.seconds for frame in slow.frames()][-1] == pytest.approx(11 / 200)


def test_broken_frames_keep_their_index(tmp_path, capfd):
  write_avi(tmp_path / "v.avi", 14, broken=(3, 7, 8, 12, 13))
  (source,) = find_sources([tmp_path / "v.avi"])
  frames = list(source.frames())
  assert [frame.number for frame in frames] == list(range(14))
  assert [frame.number for frame in frames if frame.image is None] == [3, 7, 8, 12, 13]
  assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(14)])
  assert round(frames[9].image.mean() / 5) == 9 and frames[3].reason == "broken frame"


def test_unreadable_sources_raise(tmp_path):
  (tmp_path / "empty").mkdir()
  (tmp_path / "text.mp4").write_text("not a video")
  cases = {
    tmp_path / "missing.mp4": "missing.mp4 does not exist",
    tmp_path / "empty": "no images",
    tmp_path / "text.mp4": "cannot open .*text.mp4",
    "camera:x": "camera:0",
  }
  for path, message in cases.items():
    with pytest.raises(VideoError, match=message):
      find_sources([path])
  with pytest.raises(VideoError, match="frames per second"):
    find_sources([tmp_path], fps=0)


def test_a_video_file_beyond_the_limits(tmp_path):
  write_avi(tmp_path / "v.avi", 6)
  with pytest.raises(VideoError, match=r"v.avi: a frame of 64 x 48 pixels .* --max-pixels"):
    find_sources([tmp_path / "v.avi"], limits=VideoLimits(pixels=64 * 48 - 1))
  (source,) = find_sources([tmp_path / "v.avi"], limits=VideoLimits(64 * 48, 4))
  with pytest.raises(VideoError, match=r"v.avi: it has more than the 4 frames .*--max-frames"):
    source.check_length(None)
  source.check_length(0.1)  # A part is read.
  # A file may have more frames than it declares, or a frame of another size.
  frames = list(source.frames())
  assert [frame.image is not None for frame in frames] == [True] * 4 + [False]
  assert "more than the 4 frames" in frames[-1].reason
  with pytest.raises(ValueError, match="--max-frames must be at least 1"):
    VideoLimits(frames=0)


def test_a_large_frame_is_not_read(tmp_path):
  write_avi(tmp_path / "v.avi", 3)
  data = bytearray((tmp_path / "v.avi").read_bytes())
  at = data.index(b"strf") + 12  # Width and height of the stream, in its header and each frame.
  data[at : at + 8] = (9000).to_bytes(4, "little") * 2
  while (at := data.find(b"\xff\xc0", at + 1)) >= 0:
    data[at + 5 : at + 9] = (9000).to_bytes(2, "big") * 2
  (tmp_path / "bomb.avi").write_bytes(data)
  with pytest.raises(VideoError, match="bomb.avi: a frame of 9000 x 9000 pixels has more than"):
    find_sources([tmp_path / "bomb.avi"])


def test_a_pipe_among_videos_does_not_block(tmp_path):
  os.mkfifo(tmp_path / "pipe.mp4")
  for path in (tmp_path, tmp_path / "pipe.mp4"):
    with pytest.raises(VideoError, match=r"pipe\.mp4"):
      find_sources([path])


def test_a_camera_is_read_until_it_fails(monkeypatch):
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
      return (True, grey_image(9)) if self.left >= 0 else (False, None)

    def release(self):
      pass

  monkeypatch.setattr(sources.cv2, "VideoCapture", Camera)
  (source,) = find_sources(["camera:1"])
  frames = list(source.frames())
  assert source.kind == "camera" and source.fps == sources.DEFAULT_FPS and source.length is None
  assert sum(frame.image is not None for frame in frames) == 3
  assert len(frames) == 3 + sources.MAX_FAILURES
