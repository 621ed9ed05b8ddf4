"""Clip tasks: choice of onset, apex and offset, what is stored, and the options."""

import numpy as np
import pytest
from PIL import Image

from jax_me.data.clip_inputs.inputs import INPUTS
from jax_me.datasets.micro import process_clips
from jax_me.datasets.micro.clip_layout import clip_key, format_subject, read_tree
from jax_me.datasets.micro.clip_options import ClipOptions
from jax_me.datasets.micro.process_clips import Clip, ClipProcessor
from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.alignment import align_image
from jax_me.faces.image_files import read_image
from jax_me.faces.input_files import frame_number
from jax_me.inference.model_input import clip_face, face_inputs, required_clip_frames
from jax_me.models.model_folder import load_model
from tests.helpers.clip_files import draw_clip, encode_frame
from tests.helpers.inference_models import save


def run(folder, onset=5, apex=9, offset=14, **options):
  """Returns the examples and the report row of the frames in folder/clip."""
  paths = sorted((folder / "clip").iterdir()) if (folder / "clip").is_dir() else []
  frames = sorted((frame_number(path.name) or 0, f"clip/{path.name}") for path in paths)
  clip = Clip("s/clip", "fear", "s", "clip", onset, apex, offset, tuple(frames), "db", "a note")
  result = ClipProcessor(str(folder), ClipOptions(**{"align": False, **options}))(clip)
  assert set(result.found) == {"fear"}
  (row,) = result.rows
  assert row.file == "s/clip" and row.details["note"] == "a note"
  return result.examples, row


def numbers(folder, **options):
  examples, row = run(folder, **options)
  return [example.frame for example in examples], row.status


@pytest.fixture
def drawn(tmp_path):
  draw_clip(tmp_path / "clip", range(5, 15), "reg_img{}.jpg")
  return tmp_path


def test_examples_of_each_input(drawn):
  made = {input: run(drawn, input=input)[0] for input in INPUTS}
  assert {input: [example.frame for example in examples] for input, examples in made.items()} == {
    "apex": [9],
    "key_frames": [5, 9, 14],
    "pair": [9],
    "dynamic": [9],
    "flow": [9],
    "frames": [5, 6, 8, 9, 10, 11, 13, 14],
  }
  for input, examples in made.items():
    for example in examples:
      data = (drawn / "clip" / f"reg_img{example.frame}.jpg").read_bytes()
      # Single frames keep their bytes; the motion is a new image, 224 pixels wide.
      assert (example.image == data) == (input in ("apex", "key_frames", "frames"))
      assert example.file == f"s/clip/{example.frame}" and example.database == "db"
      assert (example.onset, example.apex, example.offset) == (5, 9, 14)
  assert read_image(made["flow"][0].image).shape == (224, 224, 3)
  assert numbers(drawn, input="frames", frames=0) == (list(range(5, 15)), "ok")


def test_squares_and_other_formats(drawn):
  (example,), _ = run(drawn, size=32)
  assert example.image.startswith(b"\x89PNG") and read_image(example.image).shape == (32, 32, 3)
  (example,), _ = run(drawn, size=32, encoding="jpg")
  assert example.image.startswith(b"\xff\xd8")
  (drawn / "clip" / "reg_img9.jpg").unlink()
  draw_clip(drawn / "clip", [9], "reg_img{}.bmp")
  (example,), row = run(drawn)  # BMP is decoded, and kept without loss.
  assert row.status == "ok" and example.image.startswith(b"\x89PNG")
  np.testing.assert_array_equal(
    read_image(example.image), read_image(encode_frame(9, (28, 34), ".bmp"))
  )


@pytest.mark.slow
@pytest.mark.parametrize("side", [20, 40, 56])  # smaller, slightly larger, much larger than 32
@pytest.mark.parametrize("input", ["apex", "pair", "dynamic"])
def test_stored_images_are_those_of_inference(tmp_path, input, side):
  """Unaligned frames are resized by the same function in a build and at inference."""
  random = np.random.default_rng(0)
  frames = {n: random.integers(0, 256, (side, side, 3), np.uint8) for n in range(5, 15)}
  (tmp_path / "clip").mkdir()
  for number, frame in frames.items():
    Image.fromarray(frame).save(tmp_path / "clip" / f"img{number}.png")
  (example,), _ = run(tmp_path, input=input, size=32)
  saved = load_model(save(tmp_path / "model", input=input, align=False, size=32))
  if input == "apex":
    (face,) = face_inputs(frames[9], saved)
  else:
    needed = required_clip_frames(saved, apex=4, count=10)
    face = clip_face({n: frames[n + 5] for n in needed}, saved, apex=4, count=10)
  np.testing.assert_array_equal(read_image(example.image), face.image)


@pytest.mark.parametrize(
  ("annotation", "frames", "status"),
  [
    ({}, [9], "ok"),
    ({"apex": -1}, [9], "ok"),
    ({"apex": 20}, [9], "apex_out_of_range"),
    ({"apex": 0}, [9], "apex_out_of_range"),
    ({"onset": -1, "apex": -1, "offset": -1}, [9], "ok"),
    ({"onset": 7, "apex": -1}, [10], "ok"),
    ({"apex": -1, "apex_policy": "skip"}, [], "no_apex"),
    ({"apex": 20, "apex_policy": "skip"}, [], "apex_out_of_range"),
    ({"apex": 20, "apex_policy": "skip", "input": "frames", "frames": 2}, [5, 14], "ok"),
    ({"offset": 3}, [], "bad_annotation"),
    ({"onset": 1, "apex": 2}, [5], "nearest_frame"),
    ({"onset": 0, "apex": 1}, [], "missing_frames"),
    ({"offset": 99}, [9], "ok"),  # The offset is not needed.
    ({"offset": 99, "input": "dynamic"}, [], "missing_frames"),
    ({"onset": 60, "apex": -1, "offset": 99}, [], "missing_frames"),
    ({"onset": 13, "apex": -1, "offset": 99}, [14], "ok"),
    ({"apex": 5, "input": "flow"}, [5], "apex_at_onset"),
    ({"apex": 5, "input": "key_frames"}, [5, 14], "ok"),
  ],
)
def test_unusual_annotations(drawn, annotation, frames, status):
  assert numbers(drawn, **annotation) == (frames, status)


def test_unknown_apex_is_not_stored(drawn):
  (example,), row = run(drawn, apex=-1)
  assert (example.frame, example.apex) == (9, -1)
  assert row.details["apex"] == "middle" and row.details["apex_frame"] == 9
  (example,), row = run(drawn, apex=-1, onset=-1, input="dynamic")
  assert example.apex == -1 and "apex" not in row.details


def test_unreadable_frames(drawn):
  clip = drawn / "clip"
  (clip / "reg_img9.jpg").write_bytes(b"\xff\xd8\xff and no more")
  (clip / "reg_img10.jpg").write_bytes(b"")
  examples, row = run(drawn)
  assert [example.frame for example in examples] == [8] and row.status == "nearest_frame"
  assert row.details["detail"] == "apex 9: 8" and "reg_img9.jpg" in row.details["replaced_frames"]
  assert numbers(drawn, input="frames", frames=0) == (
    [5, 6, 7, 8, *range(11, 15)],
    "replaced_frames",
  )
  for number in range(5, 15):
    (clip / f"reg_img{number}.jpg").write_bytes(b"not an image")
  examples, row = run(drawn)
  assert not examples and row.status == "unreadable" and row.details["detail"].endswith("6 more")
  for path in clip.iterdir():
    path.unlink()
  assert numbers(drawn) == ([], "missing_frames")


def test_only_the_frames_needed_are_read(drawn, monkeypatch):
  read = []
  original = process_clips.read_file
  monkeypatch.setattr(
    process_clips, "read_file", lambda path: read.append(path.stem) or original(path)
  )
  run(drawn)
  assert read == ["reg_img9"]
  read.clear()
  run(drawn, input="flow")
  assert read == ["reg_img5", "reg_img9"]


def test_frames_of_several_sizes(drawn):
  draw_clip(drawn / "clip", [9], "reg_img{}.jpg", size=(30, 30))
  assert numbers(drawn, input="flow") == ([], "size_mismatch")
  assert numbers(drawn, input="key_frames") == ([5, 9, 14], "ok")
  assert numbers(drawn, align=True, on_no_face="center", size=32) == ([], "size_mismatch")


def test_clips_without_a_face(drawn):
  assert numbers(drawn, align=True, size=32) == ([], "no_face")
  assert numbers(drawn, align=True, size=32, on_no_face="center") == ([9], "centered")
  with pytest.raises(ValueError, match="clip s/clip: no face found in the 28 x 34 image"):
    run(drawn, align=True, size=32, on_no_face="error")


def test_one_transform_per_clip(tmp_path):
  """All frames share the transform of the onset, or of the first frame with a face."""
  video = clip_rendering.demo_clip(0, clip_rendering.DemoSubject(0, 0), 0)
  (tmp_path / "clip").mkdir()
  onset = video.onset
  made = {5: np.zeros_like(video.frame(onset)), 6: video.frame(onset), 9: video.frame(video.apex)}
  made[14] = np.roll(made[9], 8, axis=1)  # The head moves: the crop stays.
  for number, frame in made.items():
    Image.fromarray(frame).save(tmp_path / "clip" / f"{number}.png")
  examples, row = run(tmp_path, align=True, size=64, input="key_frames")
  assert row.status == "ok" and row.details["reference"] == 6
  faces = [read_image(example.image) for example in examples]
  assert not faces[0].any()
  assert np.abs(faces[1].astype(int) - align_image(made[6], 64).image).mean() < 6
  assert np.abs(faces[2].astype(int) - faces[1]).mean() > 6


def test_unused_options_are_reset():
  assert ClipOptions() == ClipOptions(size=224, frames=3)
  assert ClipOptions(align=False).size == 0
  assert ClipOptions(align=False, input="pair") == ClipOptions(align=False, size=224, input="pair")
  left = ClipOptions(align=False, encoding="jpg", on_no_face="center")
  assert left == ClipOptions(align=False)
  assert ClipOptions(input="dynamic", apex_policy="skip") == ClipOptions(input="dynamic")
  assert ClipOptions(apex_policy="skip") != ClipOptions()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"input": "video"}, "'video'"),
    ({"input": "frames", "frames": 1}, "at least 2"),
    ({"encoding": "gif"}, "png, jpg"),
    ({"apex_policy": "first"}, "middle, skip"),
    ({"size": 8}, "16, 4096"),
    ({"on_no_face": "keep"}, "skip, center, error"),
  ],
)
def test_invalid_options_are_rejected(options, message):
  with pytest.raises(ValueError, match=message):
    ClipOptions(**options)


def test_frames_are_sorted_by_their_last_number(tmp_path):
  draw_clip(tmp_path / "sub1" / "clip_7", [100, 9, 10], "cam2_{}.jpg")
  draw_clip(tmp_path / "sub1" / "clip_7", [9], "cam2_{} (1).jpg")  # a second copy
  draw_clip(tmp_path / "sub1" / "clip_7", [3], "cam.jpg")
  (tmp_path / "sub1" / "clip_7" / "Thumbs1.db").touch()
  (folder,) = read_tree(tmp_path).folders
  assert [number for number, _ in folder.frames] == [9, 10, 100]
  assert folder.parts == ("sub1", "clip_7")
  assert not folder.cropped


def test_spellings_of_one_name():
  assert clip_key("s01_ne_01") == clip_key("S1_ne_1 ") != clip_key("s10_ne_1")
  assert clip_key("006_1_2") == clip_key("6_1_2")
  assert (
    format_subject(1, "sub", 2)
    == format_subject("01", "sub", 2)
    == format_subject("sub1", "sub", 2)
    == "sub01"
  )
  assert format_subject("a note", "sub", 2) is format_subject(None, "sub", 2) is None
  assert frame_number("006_05562.jpg") == 5562 and frame_number("cover.jpg") is None
