"""Uploads to the demo page: what is refused, with which message, and what the page shows."""

import pathlib

import cv2
import numpy as np
import pytest
import skimage

import jax_me
from jax_me.demo.clip_analysis import analyse_clip
from jax_me.demo.photograph_analysis import analyse_photograph
from jax_me.demo.uploads import (
  RefusedUpload,
  UploadLimits,
  check_clip_upload,
  read_photograph_upload,
  uploaded_path,
)
from jax_me.inference import model_input
from tests.helpers.inference_models import LABELS, TINY_MAE, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
MAE = ("mae_vit_tiny_patch16", TINY_MAE)
LIMITS = UploadLimits(
  image_bytes=20_000,
  clip_bytes=200_000,
  image_pixels=10_000,
  frame_pixels=64 * 64,
  clip_seconds=1.0,
)


def write_clip(path, side=64, frames=40):
  # 20 frames per second.
  writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (side, side))
  for number in range(frames):
    writer.write(np.full((side, side, 3), 4 * number, np.uint8))
  writer.release()
  return path


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "empty"),
    (b"#EXTM3U\nfile:///etc/passwd\n", "text, not an image"),
    (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text, not an image"),
    (b"\x89PNG\r\n\x1a\n\0\0", "photo.png cannot be read"),
    (bytes(30_000), "photo.png cannot be used"),
  ],
)
def test_photographs_that_are_refused(tmp_path, content, message):
  path = tmp_path / "photo.png"
  path.write_bytes(content)
  with pytest.raises(RefusedUpload, match=message) as refused:
    read_photograph_upload(path, LIMITS)
  assert str(tmp_path) not in str(refused.value) and "\n" not in str(refused.value)


def test_pixels_of_a_photograph_are_limited(tmp_path):
  for side, fits in ((100, True), (101, False)):
    path = tmp_path / f"{side}.png"
    cv2.imwrite(str(path), np.full((side, side, 3), 99, np.uint8))
    if fits:
      assert read_photograph_upload(path, LIMITS).shape == (side, side, 3)
    else:
      with pytest.raises(RefusedUpload, match="101 x 101 pixels"):
        read_photograph_upload(path, LIMITS)


def test_without_an_upload_the_page_asks_for_one():
  with pytest.raises(RefusedUpload, match="photograph first"):
    read_photograph_upload(None, LIMITS)
  with pytest.raises(RefusedUpload, match="clip first"):
    check_clip_upload(None, LIMITS)


def test_clips_that_are_refused(tmp_path):
  def refused(name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RefusedUpload, match=name) as error:
      check_clip_upload(path, LIMITS)
    return str(error.value)

  assert "no video by its name" in refused("clip.exe", b"\0")
  # FFmpeg would open the addresses of a playlist.
  assert "damaged" in refused("list.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n")
  assert "cut it first" in refused("long.mp4", bytes(300_000))
  assert check_clip_upload(write_clip(tmp_path / "clip.avi"), LIMITS).name == "clip.avi"


def test_a_browser_names_uploads_only(tmp_path):
  folder = tmp_path / "uploads"
  folder.mkdir()
  upload = folder / "photo.png"
  upload.touch()
  outside = tmp_path / "secret.png"
  outside.touch()
  (folder / "link.png").symlink_to(outside)
  assert uploaded_path({"path": str(upload)}, folder) == str(upload)
  assert uploaded_path(None, folder) is None
  wrong = (outside, folder / "../secret.png", folder / "link.png", "", "uploads")
  for payload in (*({"path": str(path)} for path in wrong), {"path": None}, {}, str(upload)):
    with pytest.raises(RefusedUpload, match="not an uploaded file"):
      uploaded_path(payload, folder)


@pytest.mark.slow
def test_models_refuse_what_they_cannot_read(tmp_path):
  flow = jax_me.load(save(tmp_path / "flow", input="flow"))
  with pytest.raises(RefusedUpload, match="trained on motion"):
    analyse_photograph(flow, None, LIMITS)
  mae = jax_me.load(save(tmp_path / "mae", *MAE))
  with pytest.raises(RefusedUpload, match="masked autoencoder"):
    analyse_clip(mae, None, LIMITS, tmp_path / "out")


@pytest.mark.slow
def test_clips_that_cannot_be_opened_or_are_too_wide(tmp_path):
  model = jax_me.load(save(tmp_path / "model"))
  (tmp_path / "clip.mp4").write_bytes(bytes(1000))
  for path, words in (
    (tmp_path / "clip.mp4", "clip.mp4: not a video, or damaged"),
    (write_clip(tmp_path / "wide.avi", side=96), "wide.avi: a frame of 96 x 96 pixels"),
  ):
    with pytest.raises(RefusedUpload, match=words) as error:
      analyse_clip(model, path, LIMITS, tmp_path / "out")
    assert str(tmp_path) not in str(error.value)


@pytest.mark.slow
def test_a_photograph_without_a_face_says_so(tmp_path):
  cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 90, 3), 128, np.uint8))
  model = jax_me.load(save(tmp_path / "model"))
  analysis = analyse_photograph(model, tmp_path / "grey.png", LIMITS)
  assert analysis.annotated.shape == (90, 90, 3)
  (text,) = analysis.blocks
  assert text.warning and "No face" in text.text


@pytest.mark.slow
def test_scores_and_heat_maps_of_a_photograph(tmp_path):
  cv2.imwrite(str(tmp_path / "whole.png"), np.full((90, 90, 3), 128, np.uint8))
  model = jax_me.load(save(tmp_path / "model", align=False))
  figures, table, maps, note = analyse_photograph(model, tmp_path / "whole.png", LIMITS).blocks
  ((_, label, _),) = figures.values
  assert label in LABELS and [row[0] for row in table.rows] == LABELS
  assert sum(float(row[1]) for row in table.rows) == pytest.approx(1, abs=0.002)
  assert [tile.heading.partition(" of")[0] for tile in maps.tiles] == [
    "model input", "attention rollout", "Grad-CAM",
  ]  # fmt: skip
  assert "does not say why" in note.text


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), [("model", ()), ("mae", MAE)])
def test_the_faces_of_a_photograph_are_found_once(tmp_path, monkeypatch, name, arguments):
  model = jax_me.load(save(tmp_path / name, *arguments))
  searched = []
  find_faces = model_input.find_faces
  monkeypatch.setattr(
    model_input, "find_faces", lambda *given: searched.append(given) or find_faces(*given)
  )
  analysis = analyse_photograph(model, PORTRAIT, UploadLimits())
  assert len(searched) == 1
  assert (analysis.annotated != skimage.data.astronaut()).any()
  if model.labels:
    (face,) = model.predict(PORTRAIT)
    ((_, label, score),) = analysis.blocks[0].values
    assert label == face.label and score == f"score {face.scores[label]:.2f}"


@pytest.mark.slow
def test_a_clip_has_the_report_of_predict_up_to_the_limit(tmp_path):
  clip = write_clip(tmp_path / "my clip & film.avi")
  model = jax_me.load(save(tmp_path / "model"))
  analysis = analyse_clip(model, clip, LIMITS, tmp_path / "out")
  assert "first 1 seconds" in analysis.content and "<video" in analysis.content
  assert "Timeline" in analysis.content and "<body" not in analysis.content
  assert "my clip &amp; film.avi" in analysis.content and str(tmp_path) not in analysis.content
  names = [file.name for file in analysis.files]
  assert names == ["report.html", "predictions.csv", "events.csv", "summary.csv", "timeline.png"]
  table = analysis.files[1].read_text().splitlines()
  assert len(table) == 1 + 20 and str(tmp_path) not in table[1]
