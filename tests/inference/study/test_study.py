"""`python -m jax_me study`: all videos of a folder, interruptions, bad files, joined tables."""

import csv
import json
import os
import pathlib
import subprocess
import sys
import time

import cv2
import jax.numpy as jnp
import numpy as np
import pytest
import skimage
from flax import nnx

from jax_me.__main__ import main
from jax_me.faces.image_files import encode_image, read_image
from jax_me.inference.study import study as studies
from jax_me.inference.video.sources import VideoSource
from jax_me.models.model_folder import save_model
from jax_me.models.registry import create_model
from tests.helpers.inference_models import SAVED, save
from tests.helpers.killed_write import kill_at_write
from tests.helpers.quick_compilation import QUICK_ENVIRONMENT
from tests.helpers.video_files import write_video

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
TABLES = ("videos.csv", "events.csv", "summary.csv")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  """A model for which every face is happy, so that each video has an expression."""
  classifier = create_model("vit_tiny_patch16", rngs=nnx.Rngs(1), **SAVED)
  classifier.head.bias[...] = jnp.array([-9.0, 9.0])
  folder = tmp_path_factory.mktemp("model") / "m"
  save_model(
    folder,
    classifier,
    name="vit_tiny_patch16",
    arguments=SAVED,
    labels=["neutral", "happy"],
    image_size=32,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={"options": {}},
  )
  return folder


@pytest.fixture(scope="module")
def portrait():
  return cv2.resize(read_image(PORTRAIT)[:300, 60:400], (226, 200))


@pytest.fixture
def folder(tmp_path, portrait):
  """Three videos, one of them without a face and one in a subfolder, and a broken one."""
  root = tmp_path / "films"
  write_video(root / "b.avi", [portrait] * 5)
  write_video(root / "a" / "b.avi", [np.full_like(portrait, 99)] * 3)
  write_video(root / "c10.avi", [portrait] * 4)
  (root / "c9.mp4").write_text("not a video")
  (root / "notes.txt").write_text("not a video either")
  return root


def study(model, folder, output, *options):
  arguments = [folder, "--checkpoint", model, "--output", output, "--no-motion", *options]
  return main(["study", *map(str, arguments)])


def rows(path):
  with open(path, newline="", encoding="utf-8") as file:
    return list(csv.DictReader(file))


def tables(output):
  return {name: (output / name).read_bytes() for name in TABLES}


@pytest.mark.slow
def test_tables_are_joined_with_the_participants(model, folder, tmp_path, capsys):
  participants = tmp_path / "participants.csv"
  participants.write_text("file;participant;age\nb.avi;p1;31\nc10.avi;p2;\ngone.mp4;p3;40\n")
  output = tmp_path / "out"
  assert study(model, folder, output, "--participants", participants) == 1
  videos = rows(output / "videos.csv")
  assert [(row["file"], row["participant"], row["status"]) for row in videos] == [
    ("a/b.avi", "", "ok"),
    ("b.avi", "p1", "ok"),
    ("c9.mp4", "", "failed"),
    ("c10.avi", "p2", "ok"),
    ("gone.mp4", "p3", "missing"),
  ]
  assert "not a video" in videos[2]["reason"] and videos[2]["frames"] == ""
  assert videos[1]["age"] == "31" and videos[1]["frames"] == "5" and videos[1]["people"] == "1"
  summary = rows(output / "summary.csv")
  assert [(row["file"], row["participant"], row["person"]) for row in summary] == [
    ("b.avi", "p1", "1"),
    ("c10.avi", "p2", "1"),
  ]
  assert float(summary[0]["seconds_seen"]) == pytest.approx(1)
  event = rows(output / "events.csv")[0]
  assert list(event)[:4] == ["file", "participant", "age", "person"]
  assert (event["file"], event["participant"], event["label"]) == ("b.avi", "p1", "happy")
  assert (output / "elan" / "b.avi.txt").read_text().splitlines() == [
    "tier\tbegin\tend\tannotation",
    "person 1 macro\t00:00:00.000\t00:00:00.800\thappy",
  ]
  assert (output / "videos" / "a_b.avi" / "report.html").exists()
  captured = capsys.readouterr()
  assert "2 videos not in" in captured.err and "2 videos failed or missing" in captured.err
  # Finished videos are not read again; the failed one is, and may be good by now.
  before = tables(output)
  read = {path: path.stat().st_mtime_ns for path in (output / "videos").rglob("*.*")}
  assert study(model, folder, output, "--participants", participants) == 1
  assert tables(output) == before
  assert {path: path.stat().st_mtime_ns for path in (output / "videos").rglob("*.*")} == read
  assert "3 videos finished by an earlier run" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_study_continues_to_the_same_tables(model, portrait, tmp_path):
  folder = tmp_path / "films"
  for number in range(20):
    image = portrait if number % 4 == 0 else np.full_like(portrait, 10 * number)
    write_video(folder / f"film{number}.avi", [image] * (3 + number % 3))
  undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
  assert study(model, folder, undisturbed) == 0
  command = ["-m", "jax_me", "study", folder, "--checkpoint", model, "--output", killed]
  process = subprocess.Popen(
    [sys.executable, *map(str, command), "--no-motion"],
    env={**os.environ, **QUICK_ENVIRONMENT, "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  finished = killed / "videos"
  deadline = time.monotonic() + 120
  while len(list(finished.glob("film*"))) < 7 and time.monotonic() < deadline:
    assert process.poll() is None
    time.sleep(0.005)
  process.kill()
  process.wait()
  complete = {path.name: path.stat().st_mtime_ns for path in finished.glob("film*")}
  assert 7 <= len(complete) < 20 and not (killed / "videos.csv").exists()
  (finished / ".film3.avi.partial").mkdir(exist_ok=True)  # as if one was being written
  assert study(model, folder, killed) == 0
  assert tables(killed) == tables(undisturbed) and rows(killed / "events.csv")
  after = {path.name: path.stat().st_mtime_ns for path in finished.iterdir()}
  assert len(after) == 20 and complete.items() <= after.items()


@pytest.mark.slow
def test_damaged_results_are_read_again(model, portrait, tmp_path, caplog):
  folder, output = tmp_path / "films", tmp_path / "out"
  write_video(folder / "a.avi", [portrait] * 2)
  assert study(model, folder, output) == 0
  table = output / "videos/a.avi/predictions.csv"
  good = table.read_bytes()
  table.write_bytes(good[: good.rindex(b"\n", 0, -1) + 1])
  assert study(model, folder, output) == 0
  assert table.read_bytes() == good and "predictions.csv has 1 rows instead of 2" in caplog.text


def test_tables_that_were_changed_are_not_replaced(model, portrait, tmp_path, capsys):
  folder, output = tmp_path / "films", tmp_path / "out"
  write_video(folder / "a.avi", [portrait] * 5)
  assert study(model, folder, output) == 0
  good = tables(output)
  for name in ("summary.csv", "elan/a.avi.eaf"):
    content = (output / name).read_bytes()
    (output / name).write_bytes(content[:-1] if name.endswith("eaf") else content + content[-9:])
    capsys.readouterr()
    assert study(model, folder, output) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{output / name} has " in line and "move it to another folder" in line
    (output / name).unlink()
    assert study(model, folder, output) == 0 and tables(output) == good
  (output / "results.json").write_text("{")
  assert study(model, folder, output) == 1
  assert "results.json cannot be read" in capsys.readouterr().err
  # Tables that are not listed, of a study that was stopped or of an earlier version, are replaced.
  (output / "results.json").unlink()
  (output / "summary.csv").write_text("half")
  assert study(model, folder, output) == 0 and tables(output) == good


def test_files_that_only_the_table_names(model, portrait, tmp_path):
  folder, output = tmp_path / "films", tmp_path / "out"
  write_video(folder / "a.avi", [portrait] * 2)
  (folder / "clip").mkdir()
  for name in ("x.png", "y.png"):  # not numbered: photographs by their names
    (folder / "clip" / name).write_bytes(encode_image(portrait))
  (folder / "portrait.png").write_bytes(encode_image(portrait))
  participants = tmp_path / "participants.csv"
  participants.write_text("file;id\nclip;1\nportrait.png;2\n")
  assert study(model, folder, output, "--participants", participants) == 1
  assert [(row["file"], row["id"], row["status"]) for row in rows(output / "videos.csv")] == [
    ("a.avi", "", "ok"),
    ("clip", "1", "ok"),
    ("portrait.png", "2", "failed"),
  ]


@pytest.mark.slow
def test_other_settings_and_changed_videos(model, portrait, tmp_path, capsys):
  folder, output = tmp_path / "films", tmp_path / "out"
  write_video(folder / "a.avi", [portrait] * 2)
  assert study(model, folder, output) == 0
  assert study(model, folder, output, "--every", "2") == 1
  message = capsys.readouterr().err
  assert "other settings (every 1 -> 2)" in message and "another output folder" in message
  assert study(save(tmp_path / "other", labels=["a", "b"]), folder, output) == 1
  assert "other settings (model" in capsys.readouterr().err
  write_video(folder / "a.avi", [portrait] * 3)
  assert study(model, folder, output) == 0
  assert rows(output / "videos.csv")[0]["frames"] == "3"
  # A record that is not one is read again.
  (output / "videos" / "a.avi" / "video.json").write_text("{")
  assert study(model, folder, output) == 0
  assert json.loads((output / "videos" / "a.avi" / "video.json").read_text())["record"]


def test_an_interrupted_study_has_pending_videos(model, portrait, tmp_path, monkeypatch, capsys):
  folder, output = tmp_path / "films", tmp_path / "out"
  for name in ("a.avi", "b.avi"):
    write_video(folder / name, [portrait] * 2)
  run = studies.VideoSession.run

  def interrupted(session, predictions):
    if session._source.name == "b.avi":
      raise KeyboardInterrupt
    run(session, predictions)

  monkeypatch.setattr(studies.VideoSession, "run", interrupted)
  assert study(model, folder, output) == 130
  assert "goes on" in capsys.readouterr().err
  assert [row["status"] for row in rows(output / "videos.csv")] == ["ok", "pending"]
  assert [path.name for path in (output / "videos").iterdir()] == ["a.avi"]


def test_folders_of_frames_are_videos_too(tmp_path, portrait):
  folder = tmp_path / "films"
  (folder / "clip").mkdir(parents=True)
  (folder / "photos").mkdir()
  for number in range(3):
    (folder / "clip" / f"f{number}.png").write_bytes(encode_image(portrait))
    (folder / "photos" / f"{'abc'[number]}.png").write_bytes(encode_image(portrait))
  write_video(folder / "x.avi", [portrait])
  assert studies.find_videos(folder, folder / "out") == ["clip", "x.avi"]


def test_invalid_input_fails_before_anything_is_read(model, folder, tmp_path, capsys):
  def with_table(text):
    table = tmp_path / f"participants{len(list(tmp_path.iterdir()))}.csv"
    table.write_text(text)
    return folder, "--participants", table

  (tmp_path / "empty").mkdir()
  cases = [
    ((tmp_path / "empty",), "no video files"),
    ((tmp_path / "missing",), "is not a folder"),
    (with_table("name,participant\nb.avi,1\n"), "has no column file"),
    (with_table("file,label\nb.avi,1\n"), "names of result columns: label"),
    (with_table("file,participant\nc10.avi,1\nc10.avi,2\n"), "line 3: a second row for c10.avi"),
    (with_table("file,participant\n,1\n"), "line 2: the cell 'file' is empty"),
  ]
  for (path, *options), message in cases:
    assert study(model, path, tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
  (tmp_path / "other").mkdir()
  (tmp_path / "other" / "notes.txt").write_text("mine")
  assert study(model, folder, tmp_path / "other") == 1
  assert "contains other files" in capsys.readouterr().err


def test_killed_at_its_first_write_it_starts_again(model, folder, tmp_path, monkeypatch):
  with monkeypatch.context() as patch:
    kill_at_write(patch, 0)
    assert study(model, folder, tmp_path / "out") == 130
  assert study(model, folder, tmp_path / "out") == 1  # The folder has a broken video.
  assert (tmp_path / "out" / "videos.csv").exists()


def test_videos_beyond_the_limits_are_failed_until_they_are_allowed(
  model, portrait, tmp_path, monkeypatch, capsys
):
  folder, output = tmp_path / "films", tmp_path / "out"
  write_video(folder / "a.avi", [portrait] * 3)

  def outcome(*options):
    code = study(model, folder, output, *options)
    (row,) = rows(output / "videos.csv")
    return code, row["status"], row["reason"]

  code, status, reason = outcome("--max-frames", "2")
  assert (code, status) == (1, "failed") and "more than the 2 frames allowed" in reason
  code, status, reason = outcome("--max-pixels", "99")
  assert (code, status) == (1, "failed") and "a frame of 226 x 200 pixels" in reason
  with monkeypatch.context() as patch:  # A file that does not declare its frames.
    patch.setattr(VideoSource, "check_length", lambda *_: None)
    code, status, reason = outcome("--max-frames", "2")
  assert (code, status) == (1, "failed") and "more than the 2 frames allowed" in reason
  assert outcome() == (0, "ok", "")
  assert study(model, folder, tmp_path / "none", "--max-frames", "0") == 1
  assert "--max-frames must be at least 1" in capsys.readouterr().err
  assert not (tmp_path / "none").exists()
