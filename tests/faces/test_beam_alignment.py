"""Alignment of a folder on Apache Beam: the same report and images as on one machine."""

import importlib.util
import json
import os
import shutil

import pytest

from jax_me.__main__ import main
from jax_me.beam.beam_runner import BeamRunner, PipelineFailed
from jax_me.faces import beam_alignment
from jax_me.faces.align_folder import align_folder
from jax_me.faces.alignment_report import read_report

pytestmark = pytest.mark.skipif(
  importlib.util.find_spec("apache_beam") is None,
  reason="needs apache_beam: pip install -r requirements-beam.txt",
)
DIRECT = BeamRunner("DirectRunner")


@pytest.fixture
def source(tmp_path, save, variants, scenery, monkeypatch):
  """Photographs, a clip, files that are no images, and a limit of three images per call."""
  monkeypatch.setattr(beam_alignment, "IMAGES_PER_CALL", 3)
  folder = tmp_path / "in"
  for number in range(5):
    save(folder / f"{number}.png", variants(number))
  for number in (2, 10, 9):
    save(folder / "clip" / f"img{number}.png", variants(10))
  save(folder / "no_face.png", scenery)
  (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff")
  (folder / "notes.txt").write_text("x")
  return folder


def align(source, target, **options):
  return align_folder(source, target, size=64, workers=1, quiet=True, **options)


def files_of(folder):
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def bucket(tmp_path):
  from tests.helpers import local_bucket

  local_bucket.ROOT.append(tmp_path / "buckets")
  yield local_bucket.ROOT[-1]
  local_bucket.ROOT.pop()


@pytest.mark.parametrize("clips", [False, True])
def test_output_is_that_of_one_machine(tmp_path, source, clips):
  summary = align(source, tmp_path / "local", clips=clips)
  assert align(source, tmp_path / "beam", clips=clips, beam=DIRECT) == summary
  assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")
  assert summary["counts"] == {"no_face": 1, "not_an_image": 1, "ok": 8, "unreadable": 1}
  # A second run has nothing to do but the unreadable file.
  assert align(source, tmp_path / "beam", clips=clips, beam=DIRECT) == summary
  assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")


def test_images_and_results_in_a_bucket(tmp_path, source, bucket):
  align(source, tmp_path / "local")
  shutil.copytree(source, bucket / "images")
  for path in source.rglob("*.png"):  # the workers do not see them
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
  beam = BeamRunner("DirectRunner", exchange="local://work/x", source="local://images")
  align(source, tmp_path / "beam", beam=beam)
  assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")
  assert not files_of(bucket / "work")


def test_a_failed_pipeline_continues(tmp_path, source, monkeypatch):
  align(source, tmp_path / "local")
  done = []
  run_task = beam_alignment.run_task

  def stop(task, settings):
    if len(done) == 7:
      raise MemoryError("no memory")
    done.extend(task.names)
    return run_task(task, settings)

  with monkeypatch.context() as patch:
    patch.setattr(beam_alignment, "run_task", stop)
    with pytest.raises(PipelineFailed, match="no memory"):
      align(source, tmp_path / "beam", beam=DIRECT)
  assert not json.loads((tmp_path / "beam" / "summary.json").read_text())["complete"]
  again = []
  monkeypatch.setattr(
    beam_alignment,
    "run_task",
    lambda task, settings: again.extend(task.names) or run_task(task, settings),
  )
  align(source, tmp_path / "beam", beam=DIRECT)
  assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")
  assert len(again) == 10 - 6  # two calls of three images had finished


def test_an_image_that_changed_after_a_failure_is_aligned_again(
  tmp_path, source, save, variants, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr("apache_beam.Pipeline", stopping_pipeline())
    with pytest.raises(PipelineFailed):
      align(source, tmp_path / "beam", beam=DIRECT)
  for number in range(5):
    save(source / f"{number}.png", variants(number + 20))
  align(source, tmp_path / "local")
  align(source, tmp_path / "beam", beam=DIRECT)
  assert files_of(tmp_path / "beam") == files_of(tmp_path / "local")


def stopping_pipeline():
  """A pipeline that is done, but whose end the launching process does not see."""
  import apache_beam

  class Stopping(apache_beam.Pipeline):
    def run(self, *arguments):
      super().run(*arguments).wait_until_finish()
      raise ConnectionError("the job server is gone")

  return Stopping


def test_a_full_disk_fails_the_pipeline(tmp_path, source, monkeypatch, capsys):
  def fail(*arguments, **keywords):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr("jax_me.faces.alignment_task.files.write_atomically", fail)
  words = ("faces", "--input", source, "--output", tmp_path / "out", "--beam_runner=DirectRunner")
  assert main([str(word) for word in words]) == 1
  assert "No space left" in capsys.readouterr().err


def test_the_command(tmp_path, source, capsys):
  words = ["faces", "--input", str(source), "--size", "64", "--output"]
  assert main([*words, str(tmp_path / "beam"), "--beam_runner=DirectRunner"]) == 1
  assert "1 files failed" in capsys.readouterr().err
  rows = {row["file"]: row["status"] for row in read_report(tmp_path / "beam")}
  assert rows["broken.jpg"] == "unreadable" and rows["0.png"] == "ok"
  assert len(rows) == 11
