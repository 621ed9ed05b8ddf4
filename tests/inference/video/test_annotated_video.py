"""Annotated copies: formats that browsers play, sizes, rotation, times and sound."""

import cv2
import numpy as np
import pytest

from jax_me.inference.video.annotated_video import MAX_SIDE, AnnotatedVideoWriter, annotated_suffix
from jax_me.inference.video.frame_stream import Detection, FrameDetections
from jax_me.inference.video.sources import Frame, find_sources


def frame(number, image, seconds=None, status="no_face"):
  return FrameDetections(
    Frame(number, number / 25 if seconds is None else seconds, image), status, []
  )


def write_copy(path, images, **options):
  copy = AnnotatedVideoWriter(path, 25.0, ["calm"], **options)
  for number, image in enumerate(images):
    copy.write(frame(number, image, status="unreadable" if image is None else "no_face"))
  copy.close()


def decoded(path):
  capture, images = cv2.VideoCapture(str(path)), []
  while (result := capture.read())[0]:
    images.append(result[1])
  return images


@pytest.fixture(params=[".webm", ".mp4"])
def suffix(request):
  if request.param == ".mp4":
    pytest.importorskip("av", reason="H.264 is written by PyAV (extra video)")
  return request.param


def test_the_copy_has_every_frame_and_appears_when_closed(tmp_path, suffix, capfd):
  path = tmp_path / f"annotated{suffix}"
  copy = AnnotatedVideoWriter(path, 25.0, ["calm"])
  copy.write(frame(0, None, status="unreadable"))
  for number in range(1, 9):
    copy.write(frame(number, np.full((101, 151, 3), 160, np.uint8)))
  assert not path.exists()
  copy.close()
  images = decoded(path)
  assert len(images) == 9 and list(tmp_path.iterdir()) == [path]
  assert images[0].shape == (100, 150, 3)  # even sides
  assert images[0][40:].max() < 20 and abs(float(images[8][60:, 60:].mean()) - 160) < 8
  assert capfd.readouterr().err == ""


def test_the_codec_is_one_that_browsers_play(tmp_path, suffix):
  path = tmp_path / f"annotated{suffix}"
  write_copy(path, [np.full((64, 64, 3), 99, np.uint8)] * 5)
  capture = cv2.VideoCapture(str(path))
  code = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1")
  data = path.read_bytes()
  if suffix == ".webm":
    assert code.upper() in ("VP90", "VP09")
    # Matroska codec name, and the document type of WebM.
    assert b"V_VP9" in data and b"webm" in data[:64]
  else:
    # The index is in front of the frames, so that playing starts at once.
    assert code.lower() in ("avc1", "h264") and b"avc1" in data
    assert data.index(b"moov") < data.index(b"mdat")


def test_large_frames_are_downscaled(tmp_path, suffix):
  path = tmp_path / f"annotated{suffix}"
  write_copy(path, [np.zeros((60, 1601, 3), np.uint8)] * 2)
  assert decoded(path)[0].shape[1] == MAX_SIDE[suffix]


def write_rotated(path, quarter_turns):
  """An MP4 of 240 x 160 pixels whose header demands a rotation, as phones write it."""
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (240, 160))
  image = np.zeros((160, 240, 3), np.uint8)
  image[:, :120] = 250
  for _ in range(4):
    writer.write(image)
  writer.release()
  data = bytearray(path.read_bytes())
  at = data.index(b"tkhd") + 4 + 40  # the matrix of version 0
  cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
  matrix = (cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
  data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
  path.write_bytes(data)


def test_a_rotated_video_is_written_upright(tmp_path, suffix):
  write_rotated(tmp_path / "phone.mp4", 1)
  (source,) = find_sources([tmp_path / "phone.mp4"])
  path = tmp_path / f"annotated{suffix}"
  copy = AnnotatedVideoWriter(path, source.fps, ["calm"])
  for image in source.frames():
    copy.write(FrameDetections(image, "ok", [Detection(1, (20, 130, 90, 190))]))
  copy.close()
  images = decoded(path)
  assert len(images) == 4 and images[0].shape == (240, 160, 3)
  # The bright half, on the left before the quarter turn, is above; text covers its corner.
  assert images[0][40:110].mean() > 200 and images[0][200:].mean() < 60


def test_times_and_sound_of_the_source(tmp_path):
  av = pytest.importorskip("av", reason="sound is copied by PyAV (extra video)")
  with av.open(str(tmp_path / "source.mp4"), "w") as file:
    video = file.add_stream("libx264", rate=25)
    video.width = video.height = 64
    video.pix_fmt = "yuv420p"
    audio = file.add_stream("mp3", rate=22_050, layout="mono")
    for _ in range(25):
      image = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
      file.mux(video.encode(image))
    tone = (0.5 * np.sin(np.arange(22_050) / 10)).astype(np.float32)
    sound = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
    sound.sample_rate, sound.pts = 22_050, 0
    file.mux(audio.encode(sound))
    file.mux(audio.encode(None))
    file.mux(video.encode(None))
  path, seconds = tmp_path / "annotated.mp4", [0, 0.04, 0.2, 0.5, 0.9]
  copy = AnnotatedVideoWriter(path, 25.0, ["calm"], tmp_path / "source.mp4")
  for number, at in enumerate(seconds):
    copy.write(frame(number, np.zeros((64, 64, 3), np.uint8), at))
  copy.close()
  with av.open(str(path)) as file:
    assert file.streams.video[0].codec_context.name == "h264"
    assert file.streams.audio[0].codec_context.name == "aac"
    assert [image.time for image in file.decode(video=0)] == pytest.approx(seconds, abs=1e-3)
  with av.open(str(path)) as file:
    frames = [sound.to_ndarray() for sound in file.decode(audio=0)]
    samples = np.concatenate(frames, axis=1)
    assert 0.8 < samples.shape[1] / 22_050 < 1.1 and samples[0].std() > 0.2
  # A source without sound gives a copy without sound.
  silent = AnnotatedVideoWriter(tmp_path / "silent.mp4", 25.0, ["calm"], tmp_path / "nothing.mp4")
  silent.write(frame(0, np.zeros((64, 64, 3), np.uint8)))
  silent.close()
  with av.open(str(tmp_path / "silent.mp4")) as file:
    assert not file.streams.audio


def test_the_format_depends_on_the_installed_packages():
  try:
    import av  # noqa: F401
  except ImportError:
    assert annotated_suffix() == ".webm"
  else:
    assert annotated_suffix() == ".mp4"
