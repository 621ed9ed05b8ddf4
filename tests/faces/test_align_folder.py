"""Folder alignment: a row for every file, nothing overwritten, killed runs resume."""

import errno
import json
import os

import numpy as np
import pytest

from jax_me import files, worker_pool
from jax_me.faces import align_folder, alignment, alignment_task, image_files
from jax_me.faces.alignment_report import read_report


@pytest.fixture
def run(tmp_path):
  """align_folder from tmp_path/in to tmp_path/out in this process, without a progress bar."""

  def align(**options):
    options = {"size": 64, "workers": 1, "quiet": True, **options}
    return align_folder.align_folder(tmp_path / "in", tmp_path / "out", **options)

  return align


def rows_by_file(tmp_path) -> dict[str, dict]:
  return {row["file"]: row for row in read_report(tmp_path / "out")}


def output_files(tmp_path) -> dict[str, bytes]:
  out = tmp_path / "out"
  return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_output_mirrors_input_with_a_row_for_every_file(tmp_path, save, variants, scenery, run):
  save(tmp_path / "in" / "a.png", variants(1))
  save(tmp_path / "in" / "a.jpg", variants(2))
  save(tmp_path / "in" / "happy" / "deep" / "ü.bmp", variants(3))
  save(tmp_path / "in" / "happy" / "no_face.png", scenery)
  (tmp_path / "in" / "happy" / "labels.csv").write_text("file,label\n")
  (tmp_path / "in" / "zero.jpg").write_bytes(b"")
  summary = run()
  outputs = {name: row["output"] for name, row in rows_by_file(tmp_path).items()}
  assert outputs == {
    "a.jpg": "a.jpg.png",
    "a.png": "a.png.png",
    "happy/deep/ü.bmp": "happy/deep/ü.png",
    "happy/labels.csv": None,
    "happy/no_face.png": None,
    "zero.jpg": None,
  }
  assert set(output_files(tmp_path)) == {
    *filter(None, outputs.values()),
    "report.jsonl",
    "summary.json",
  }
  assert summary["counts"] == {"no_face": 1, "not_an_image": 1, "ok": 3, "unreadable": 1}
  assert summary["failed"] == 1 and summary["complete"] and summary["files"] == 6
  assert json.loads((tmp_path / "out" / "summary.json").read_text()) == summary
  assert "research use" in summary["notice"]
  assert "empty" in rows_by_file(tmp_path)["zero.jpg"]["reason"]
  expected = alignment.align_image(variants(1), 64)
  np.testing.assert_array_equal(
    image_files.read_image(tmp_path / "out" / "a.png.png"), expected.image
  )
  row = rows_by_file(tmp_path)["a.png"]
  assert {key: row[key] for key in expected.record} == expected.record
  assert row["bytes"] == (tmp_path / "in" / "a.png").stat().st_size


def test_statistics_are_those_of_the_aligned_images(tmp_path, save, variants, run):
  for number in range(3):
    save(tmp_path / "in" / f"{number}.png", variants(number))
  summary = run()
  pixels = np.stack([image_files.read_image(p) for p in (tmp_path / "out").glob("*.png")]) / 255
  np.testing.assert_allclose(summary["mean"], pixels.mean((0, 1, 2)), rtol=1e-12)
  np.testing.assert_allclose(summary["std"], pixels.std((0, 1, 2)), rtol=1e-12)


def test_workers_and_one_process_give_identical_results(tmp_path, save, variants, scenery, run):
  for number in range(5):
    save(tmp_path / "in" / f"{number}.png", variants(number))
  for number in (2, 10, 9):
    save(tmp_path / "in" / "clip" / f"img{number}.png", variants(10))
  (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
  run(clips=False)
  expected = output_files(tmp_path)
  (tmp_path / "out").rename(tmp_path / "expected")
  run(clips=False, workers=3)
  assert output_files(tmp_path) == expected


def test_a_second_run_does_only_unfinished_files(
  tmp_path, save, variants, scenery, run, monkeypatch
):
  for number in range(4):
    save(tmp_path / "in" / f"{number}.png", variants(number))
  save(tmp_path / "in" / "no_face.png", scenery)
  (tmp_path / "in" / "bad.png").write_bytes(b"")
  (tmp_path / "in" / "notes.txt").write_text("x")
  run()
  before = output_files(tmp_path)
  save(tmp_path / "in" / "1.png", variants(11))  # replaced
  (tmp_path / "out" / "2.png").unlink()  # result lost
  (tmp_path / "in" / "3.png").unlink()
  save(tmp_path / "in" / "4.png", variants(4))
  save(tmp_path / "in" / "bad.png", variants(5))  # repaired
  done = []
  run_task = alignment_task.run_task
  monkeypatch.setattr(
    alignment_task,
    "run_task",
    lambda task, settings: done.extend(task.names) or run_task(task, settings),
  )
  summary = run()
  assert done == ["1.png", "2.png", "4.png", "bad.png"]
  assert summary["counts"] == {"no_face": 1, "not_an_image": 1, "ok": 5}
  after = output_files(tmp_path)
  assert "3.png" not in after
  assert after["0.png"] == before["0.png"] and after["2.png"] == before["2.png"]
  assert after["1.png"] != before["1.png"]
  done.clear()
  run()
  assert done == [] and output_files(tmp_path) == after


def test_a_folder_of_version_0_1_keeps_the_hog_detector(tmp_path, save, variants, run):
  save(tmp_path / "in" / "0.png", variants(0))
  assert run(detector="hog")["settings"].pop("detector") == "hog"
  path = tmp_path / "out" / align_folder.SUMMARY_NAME
  summary = json.loads(path.read_text())
  del summary["settings"]["detector"]
  path.write_text(json.dumps(summary))
  save(tmp_path / "in" / "1.png", variants(1))
  assert run()["settings"]["detector"] == "hog"
  expected = alignment.align_image(variants(1), 64, detector="hog").record
  rows = {row["file"]: row for row in read_report(tmp_path / "out")}
  assert rows["1.png"]["box"] == expected["box"]
  with pytest.raises(ValueError, match=r"made with detector hog \(now yunet\+hog\)"):
    run(detector="yunet+hog")
  with pytest.raises(ValueError, match="detector must be one of"):
    run(detector="haar")


def test_an_added_file_with_the_same_stem_renames_both_results(tmp_path, save, variants, run):
  save(tmp_path / "in" / "a.png", variants(1))
  run()
  save(tmp_path / "in" / "a.bmp", variants(2))
  run()
  assert {"a.bmp.png", "a.png.png"} == {n for n in output_files(tmp_path) if n.endswith("png")}


def test_on_no_face_policies(tmp_path, save, scenery, variants, run):
  save(tmp_path / "in" / "no_face.png", scenery)
  save(tmp_path / "in" / "one_face.png", variants(1))
  assert run()["failed"] == 0
  centered = run(on_no_face="center")
  assert centered["counts"] == {"centered": 1, "ok": 1} and centered["failed"] == 0
  assert "no_face.png" in output_files(tmp_path)
  strict = run(on_no_face="error")
  assert strict["counts"] == {"no_face": 1, "ok": 1} and strict["failed"] == 1
  assert "no_face.png" not in output_files(tmp_path)


def test_clips_share_one_transform(tmp_path, save, variants, scenery, run):
  blank = np.full((240, 240, 3), 128, np.uint8)
  for name, image in {
    "s1/clip/img1.png": blank,
    "s1/clip/img9.png": variants(1),
    "s1/clip/img10.png": variants(2),
    "s1/other/1.png": variants(3),
    "s1/empty/1.png": scenery,
    "s1/empty/2.png": scenery,
    "s1/clip/img12.png": variants(1)[:200],
  }.items():
    save(tmp_path / "in" / name, image)
  (tmp_path / "in" / "s1" / "clip" / "img11.png").write_bytes(b"")
  summary = run(clips=True, on_no_face="center")
  found = rows_by_file(tmp_path)
  clip = [found[f"s1/clip/img{number}.png"] for number in (1, 9, 10)]
  expected = alignment.align_image(variants(1), 64).record["transform"]
  assert [row["transform"] for row in clip] == [expected] * 3
  assert [row["reference"] for row in clip] == ["s1/clip/img9.png"] * 3
  assert found["s1/other/1.png"]["transform"] != expected
  assert found["s1/clip/img11.png"]["status"] == "unreadable"
  other_size = found["s1/clip/img12.png"]
  assert other_size["status"] == "size_mismatch" and "img9.png" in other_size["reason"]
  assert [found[f"s1/empty/{n}.png"]["status"] for n in (1, 2)] == ["centered"] * 2
  assert summary["failed"] == 2
  frames = alignment.align_clip([blank, variants(1), variants(2)], 64)
  for row, frame in zip(clip, frames, strict=True):
    np.testing.assert_array_equal(
      image_files.read_image(tmp_path / "out" / row["output"]), frame.image
    )


def test_a_clip_of_unreadable_frames(tmp_path, run):
  (tmp_path / "in").mkdir()
  for number in range(3):
    (tmp_path / "in" / f"{number}.png").write_bytes(b"")
  assert run(clips=True)["counts"] == {"unreadable": 3}


def test_other_settings_are_rejected(tmp_path, save, variants, run):
  save(tmp_path / "in" / "a.png", variants(1))
  run(size=64)
  before = output_files(tmp_path)
  with pytest.raises(ValueError, match=r"made with size 64 \(now 96\); choose another folder"):
    run(size=96)
  save(tmp_path / "in2" / "b.png", variants(1))
  with pytest.raises(ValueError, match="made with input .*in .now .*in2"):
    align_folder.align_folder(tmp_path / "in2", tmp_path / "out", size=64, workers=1, quiet=True)
  assert output_files(tmp_path) == before


def test_invalid_folder_combinations(tmp_path, save, variants):
  image = save(tmp_path / "in" / "a.png", variants(1))
  os.symlink(tmp_path / "in", tmp_path / "link")
  (tmp_path / "empty").mkdir()
  cases = [
    (tmp_path / "in", tmp_path / "in", "are both"),
    (tmp_path / "in", tmp_path / "link", "are both"),
    (tmp_path / "in", tmp_path, "is inside the output"),
    (tmp_path / "missing", tmp_path / "out", "does not exist"),
    (image, tmp_path / "out", "is a file"),
    (tmp_path / "in", image, "is a file"),
    (tmp_path / "empty", tmp_path / "out", "no files"),
  ]
  for source, target, message in cases:
    with pytest.raises(ValueError, match=message):
      align_folder.align_folder(source, target, workers=1, quiet=True)
  assert not (tmp_path / "out").exists()
  (tmp_path / "mine").mkdir()
  (tmp_path / "mine" / "thesis.tex").write_text("x")
  with pytest.raises(ValueError, match=r"not made by this command \(it holds thesis.tex\)"):
    align_folder.align_folder(tmp_path / "in", tmp_path / "mine", workers=1, quiet=True)
  assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_bad_settings(tmp_path):
  for options, message in [
    ({"size": 3}, "pixels, got 3"),
    ({"on_no_face": "crop"}, "got 'crop'"),
    ({"workers": 0}, "at least 1, got 0"),
    ({"image_format": "gif"}, "got 'gif'"),
  ]:
    with pytest.raises(ValueError, match=message):
      align_folder.align_folder(tmp_path, tmp_path / "out", **options)


def test_output_inside_input_is_skipped(tmp_path, save, variants):
  save(tmp_path / "in" / "a.png", variants(1))
  for _ in range(2):
    summary = align_folder.align_folder(
      tmp_path / "in", tmp_path / "in" / "aligned", size=64, workers=1, quiet=True
    )
    assert summary["files"] == 1


def test_disk_full_is_one_clear_error_and_can_be_resumed(
  tmp_path, save, variants, run, monkeypatch
):
  for number in range(3):
    save(tmp_path / "in" / f"{number}.png", variants(number))
  write_atomically = files.write_atomically

  def fail_on_one_file(path, data, *, scratch):
    if path.name == "1.png":
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    write_atomically(path, data, scratch=scratch)

  with monkeypatch.context() as patch:
    patch.setattr(files, "write_atomically", fail_on_one_file)
    with pytest.raises(
      align_folder.OutputError, match=r"cannot write .*1\.png: No space left on device"
    ):
      run()
  assert {"0.png", "report.jsonl", "summary.json"} == set(output_files(tmp_path))
  assert run()["counts"] == {"ok": 3}


def test_an_unwritable_folder_stops_all_workers(tmp_path, save, variants, run):
  save(tmp_path / "in" / "a.png", variants(0))
  run()
  for number in range(8):
    save(tmp_path / "in" / "sub" / f"{number}.png", variants(number))
  (tmp_path / "out" / "sub").write_text("in the way")
  with pytest.raises(align_folder.OutputError, match="cannot write .*sub"):
    run(workers=2)
  (tmp_path / "out" / "sub").unlink()
  assert run()["counts"] == {"ok": 9}


def test_a_second_simultaneous_run_is_rejected(tmp_path, save, variants, run):
  save(tmp_path / "in" / "a.png", variants(1))
  run()
  with (
    files.exclusive_lock(tmp_path / "out", pytest.fail),
    pytest.raises(align_folder.OutputError, match="another run"),
  ):
    run()
  run()


def test_a_decoder_crash_fails_only_one_file(tmp_path, save, variants, monkeypatch, run):
  for name in ("a", "crash", "z"):
    save(tmp_path / "in" / f"{name}.png", variants(1))
  (tmp_path / "hook").mkdir()
  (tmp_path / "hook" / "sitecustomize.py").write_text(
    "import os\n"
    "original = os.open\n"
    "def crash(path, *rest, **options):\n"
    "  if str(path).endswith('crash.png'): os._exit(3)\n"
    "  return original(path, *rest, **options)\n"
    "os.open = crash\n"
  )
  monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
  summary = run(workers=2)
  assert summary["counts"] == {"failed": 1, "ok": 2} and summary["failed"] == 1
  assert "exit code 3" in rows_by_file(tmp_path)["crash.png"]["reason"]
  monkeypatch.delenv("PYTHONPATH")
  assert run()["counts"] == {"ok": 3}


def test_a_worker_that_cannot_start_is_reported(tmp_path, save, variants, monkeypatch, run):
  for number in range(2):
    save(tmp_path / "in" / f"{number}.png", variants(number))
  monkeypatch.setattr(worker_pool.sys, "executable", "/bin/false")
  with pytest.raises(RuntimeError, match="could not start"):
    run(workers=2)
