"""`python -m jax_me predict`: input files to result files."""

import csv
import json
import pathlib
import shutil

import cv2
import numpy as np
import pytest
import skimage

import jax_me
from jax_me.__main__ import main
from jax_me.faces import license_notice
from jax_me.faces.image_files import encode_image, read_image
from jax_me.inference.video import sources
from jax_me.inference.video.annotated_video import annotated_suffix
from jax_me.manifest import read_manifest
from jax_me.run_folder import RESULTS_FILE, RunFolderError, verify_result, verify_results
from tests.helpers.inference_models import TINY_MAE, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  return save(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def frames(tmp_path):
  """Six frames: four with a face, one without, one broken."""
  folder = tmp_path / "clip"
  folder.mkdir()
  portrait = read_image(PORTRAIT)[:300, 60:400]
  for number in range(1, 7):
    image = np.full_like(portrait, 99) if number == 6 else portrait
    (folder / f"f{number}.png").write_bytes(encode_image(image))
  (folder / "f3.png").write_bytes(b"\x89PNG broken")
  return folder


def predict(model, output, *inputs):
  return main(["predict", *map(str, inputs), "--checkpoint", str(model), "--output", str(output)])


def table(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


def csv_rows(output):
  return table(output / "predictions.csv")


def test_photographs_need_no_output_folder(model, tmp_path, capsys):
  (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
  arguments = ["predict", str(PORTRAIT), str(tmp_path / "broken.png"), "--checkpoint", str(model)]
  assert main(arguments) == 0
  first, second = capsys.readouterr().out.splitlines()[-2:]
  (face,) = jax_me.load(model).predict(PORTRAIT)
  assert first == f"{PORTRAIT}: {face}"
  assert second.startswith(f"{tmp_path / 'broken.png'}: unreadable: ")
  assert [path.name for path in tmp_path.iterdir()] == ["broken.png"]
  assert main([*arguments, "--json"]) == 0
  printed = json.loads(capsys.readouterr().out)
  assert printed["model"]["labels"] == list(face.scores)
  expected = face.to_record(str(PORTRAIT))
  assert printed["faces"][0] == pytest.approx(expected, abs=1e-5)  # in batches of another size
  assert [row["status"] for row in printed["faces"]] == ["ok", "unreadable"]
  assert main([*arguments, "--json", "--output", str(tmp_path / "out")]) == 1
  assert main([*arguments, "--annotate"]) == 1
  assert "give --output FOLDER" in capsys.readouterr().err


@pytest.mark.slow
def test_folder_and_photograph(model, frames, tmp_path, capsys):
  output = tmp_path / "out"
  assert predict(model, output, frames, PORTRAIT, "--fps", "25", "--video") == 0
  rows = [row for row in csv_rows(output) if row["video"] == str(frames)]
  assert [row["file"] for row in rows] == [f"f{number}.png" for number in range(1, 7)]
  assert [row["status"] for row in rows] == ["ok", "ok", "unreadable", "ok", "ok", "no_face"]
  assert [float(row["seconds"]) for row in rows] == pytest.approx([n / 25 for n in range(6)])
  (photograph,) = (row for row in csv_rows(output) if row["video"] == str(PORTRAIT))
  for row in (rows[0], photograph):
    scores = [float(row["score_calm"]), float(row["score_happy, or so"])]
    assert sum(scores) == pytest.approx(1, abs=1e-4) and row["person"] == "1"
    assert row["label"] == ["calm", "happy, or so"][int(np.argmax(scores))]
    assert int(row["left"]) < int(row["right"]) and int(row["top"]) < int(row["bottom"])
  record = json.loads((output / "events.json").read_text())
  (clip,) = record["videos"]
  assert clip["frames"] == 6 and clip["fps"] == 25 and clip["events"] == []
  assert clip["statuses"] == {"ok": 4, "unreadable": 1, "no_face": 1}
  assert record["model"]["labels"] == ["calm", "happy, or so"]
  assert read_image(output / "timeline.png").shape[1] == 1800
  capture = cv2.VideoCapture(str(output / f"annotated{annotated_suffix()}"))
  assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 6
  captured = capsys.readouterr()
  assert "6 frames (4 ok, 1 unreadable, 1 no_face)" in captured.out
  assert "does not say what it was trained on" in captured.out
  assert "read as the frames of one clip" not in captured.out
  # Tables beside the JSON.
  with open(output / "events.csv", newline="") as file:
    assert next(csv.reader(file))[:4] == ["video", "person", "onset", "apex"]
  photograph, person = table(output / "summary.csv")
  assert photograph["kind"] == "photographs" and photograph["frames"] == "1"
  assert person["video"] == str(frames) and float(person["seconds_seen"]) == pytest.approx(0.2)
  assert float(person["share_calm"]) + float(person["share_happy, or so"]) == pytest.approx(1)
  report = (output / "report.html").read_text(encoding="utf-8")
  assert report.count("<video") == 1 and "http://" not in report and "https://" not in report
  assert read_image(output / "annotated" / "astronaut.jpg").shape == read_image(PORTRAIT).shape


@pytest.mark.slow
def test_a_folder_of_photographs_is_not_a_clip(model, frames, tmp_path, capsys):
  output = tmp_path / "out"
  (output / "annotated").mkdir(parents=True)
  (output / "annotated" / "old.jpg").write_text("earlier")
  assert predict(model, output, frames, "--as", "photos", "--annotate") == 0
  captured = capsys.readouterr()
  assert "6 photographs (4 ok, 1 unreadable, 1 no_face), 4 faces" in captured.out
  assert "6 photographs, each read on its own" in captured.err
  assert "files of an earlier run: annotated/old.jpg" in captured.err
  rows = csv_rows(output)
  assert [row["status"] for row in rows] == ["ok", "ok", "unreadable", "ok", "ok", "no_face"]
  assert {row["video"] for row in rows} == {str(frames)} and {row["seconds"] for row in rows} == {
    "0.0000"
  }
  # Nothing is smoothed or tracked: equal photographs have equal boxes and scores.
  same = [{key: row[key] for key in row if key not in ("file", "frame")} for row in rows]
  assert same[0] == same[1] == same[3]
  record = json.loads((output / "events.json").read_text())
  assert record["videos"] == [] and record["photographs"][0]["faces"] == 4
  assert not (output / "report.html").exists() and not (output / "timeline.png").exists()
  names = sorted(path.name for path in (output / "annotated").iterdir())
  assert names == ["f1.jpg", "f2.jpg", "f4.jpg", "f5.jpg", "f6.jpg", "old.jpg"]


def test_the_license_notice_is_printed_once(model, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(license_notice, "notice_record", lambda: tmp_path / "cache" / "shown")
  for expected in (1, 0):
    assert predict(model, tmp_path / "out", PORTRAIT) == 0
    assert capsys.readouterr().err.count("research use") == expected


def test_several_videos_have_separate_timelines(model, frames, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(frames, other)
  output = tmp_path / "out"
  assert predict(model, output, frames, other, "--every", "5", "--no-motion") == 0
  assert len(csv_rows(output)) == 12
  assert (output / "timeline_clip.png").exists() and (output / "timeline_other.png").exists()
  assert {row["motion"] for row in csv_rows(output)} == {""}


def test_partial_results_after_an_interrupt(model, frames, tmp_path, monkeypatch):
  def interrupting(path):
    if path.name == "f5.png":
      raise KeyboardInterrupt
    return read_image(path)

  monkeypatch.setattr(sources, "read_image", interrupting)
  output = tmp_path / "out"
  assert predict(model, output, frames, "--batch", "1", "--video") == 130
  rows = csv_rows(output)
  assert rows and len(rows) < 6 and all(row["status"] for row in rows)
  (clip,) = json.loads((output / "events.json").read_text())["videos"]
  assert clip["frames"] == len(rows)
  assert (output / "timeline.png").exists() and (output / f"annotated{annotated_suffix()}").exists()
  assert not list(output.glob(".*"))
  with pytest.raises(RunFolderError, match="is not finished: repeat the command"):
    verify_result(output / "predictions.csv", required=True)


def test_invalid_arguments_fail_before_anything_is_written(model, frames, tmp_path, capsys):
  flow = save(tmp_path / "flow", input="flow")
  cases = [
    ((model, tmp_path / "missing.mp4"), "missing.mp4 does not exist"),
    ((tmp_path / "nothing", frames), "model.json is missing"),
    ((flow, PORTRAIT), "astronaut.png is a single image"),
    ((model, frames, "--every", "0"), "every"),
    ((model, frames, "--fps", "-3"), "frames per second"),
  ]
  for (checkpoint, *inputs), message in cases:
    assert predict(checkpoint, tmp_path / "out", *inputs) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_predict_video_yields_frame_results(model, frames):
  results = list(jax_me.load(model).predict_video(frames, fps=10))
  assert [result.frame for result in results] == list(range(6))
  assert [result.status for result in results][2:] == ["unreadable", "ok", "ok", "no_face"]
  assert results[0].person == 1 and sum(results[0].scores.values()) == pytest.approx(1, abs=1e-5)
  assert results[2].label is None and results[2].scores == {} and results[1].seconds == 0.1


@pytest.mark.slow
def test_no_align_reads_whole_images(model, frames, tmp_path, capsys):
  output = tmp_path / "out"
  assert predict(model, output, frames, PORTRAIT, "--no-align") == 0
  assert "landmark model" not in capsys.readouterr().err
  rows = csv_rows(output)
  assert [row["status"] for row in rows].count("ok") == 6  # the frame without a face too
  assert {row["left"] for row in rows} == {""}
  listed = read_manifest(output, RESULTS_FILE)
  written = {path.name for path in output.iterdir()} - {RESULTS_FILE}
  assert listed.keys() == written and listed["predictions.csv"]["rows"] == len(rows)
  verify_results(output)
  for name in written:
    path, content = output / name, (output / name).read_bytes()
    path.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    with pytest.raises(RunFolderError) as error:
      verify_result(path)
    assert str(path) in str(error.value) and "repeat the command that wrote it" in str(error.value)
    path.write_bytes(content)
  converted = save(tmp_path / "converted", source={"format": "torch"})
  assert predict(converted, tmp_path / "whole", PORTRAIT) == 0
  assert predict(converted, tmp_path / "face", PORTRAIT, "--align") == 0
  assert csv_rows(tmp_path / "whole")[0]["left"] == "" != csv_rows(tmp_path / "face")[0]["left"]


@pytest.mark.slow
def test_masked_autoencoder_is_refused(tmp_path, capsys):
  mae = save(tmp_path / "mae", "mae_vit_tiny_patch16", TINY_MAE)
  assert predict(mae, tmp_path / "out", PORTRAIT) == 1
  assert "no class labels" in capsys.readouterr().err and not (tmp_path / "out").exists()
