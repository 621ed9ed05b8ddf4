"""Builds and face alignment on Apache Beam give the same files as on one machine."""

import argparse
import functools
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from jax_me.__main__ import main
from jax_me.beam.beam_flags import add_beam_flags, beam_runner
from jax_me.beam.beam_runner import BeamRunner, PipelineFailed
from jax_me.datasets.built_datasets import list_builds
from jax_me.datasets.generation import beam_shards
from tests.datasets.test_resume_build import contents, unfinished
from tests.helpers.drawn_folder import write_folder
from tests.helpers.interrupted_build import TASKS, build

HAS_BEAM = importlib.util.find_spec("apache_beam") is not None
needs_beam = pytest.mark.skipif(
  not HAS_BEAM, reason="needs apache_beam: pip install -r requirements-beam.txt"
)
DIRECT = BeamRunner("DirectRunner")
ROWS = [{"label": label, "subject": f"p{i}"} for i in range(3) for label in ("calm", "glad")]


def run(*words) -> int:
  return main([str(word) for word in words])


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
  return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def small_calls(monkeypatch):
  """Several calls for a few tasks, not aligned with the shards."""
  monkeypatch.setattr(beam_shards, "TASKS_PER_CALL", 4)


@pytest.fixture
def bucket(tmp_path):
  """A folder in which the content of the addresses local://... is."""
  from tests.helpers import local_bucket

  local_bucket.ROOT.append(tmp_path / "buckets")
  yield local_bucket.ROOT[-1]
  local_bucket.ROOT.pop()


@pytest.fixture(scope="module")
def local(tmp_path_factory):
  return contents(build(tmp_path_factory.mktemp("local")))


@pytest.mark.parametrize("words", [("data", "build", "demo_clips"), ("faces",)])
def test_without_beam_one_line_gives_the_remedy(tmp_path, monkeypatch, capsys, words):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  folders = ("--input", tmp_path, "--output", tmp_path / "out") if words == ("faces",) else ()
  assert run(*words, *folders, "--beam_runner=DirectRunner") == 2
  (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
  assert "Apache Beam" in line and "requirements-beam.txt" in line
  assert not (tmp_path / "out").exists()


def test_options_without_a_runner_are_an_error(capsys):
  assert run("data", "build", "demo_clips", "--beam_options=parallelism=4") == 2
  assert "need --beam_runner" in capsys.readouterr().err


def test_both_lists_of_requirements_pin_the_same_versions(repository):
  def pins(name):
    lines = (repository / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]

  other = {"apache-beam", "protobuf", "pillow"}  # Beam requires older ones
  ours = {line for line in pins("requirements-beam.txt") if line.partition("==")[0] not in other}
  assert ours <= set(pins("requirements.txt"))
  assert len(pins("requirements-beam.txt")) == len(ours) + len(other)


@needs_beam
def test_build_is_byte_identical_to_the_local_one(tmp_path, small_calls, local):
  log = tmp_path / "log"
  assert contents(build(tmp_path / "data", log, beam=DIRECT)) == local
  assert sorted(map(int, log.read_text().split())) == list(range(sum(TASKS.values())))
  assert not unfinished(tmp_path)


def replace_calls(monkeypatch, change):
  """Runs every element of a pipeline through change(function, element), as a runner may."""
  import apache_beam

  real = apache_beam.Map
  monkeypatch.setattr(apache_beam, "Map", lambda f: real(functools.partial(change, f)))


@needs_beam
def test_bundles_that_run_twice_at_once_double_nothing(tmp_path, small_calls, local, monkeypatch):
  def run_twice(function, element):
    threads = [threading.Thread(target=function, args=(element,)) for _ in range(2)]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()

  replace_calls(monkeypatch, run_twice)
  assert contents(build(tmp_path / "data", tmp_path / "log", beam=DIRECT)) == local
  assert len((tmp_path / "log").read_text().split()) > sum(TASKS.values())


@needs_beam
def test_a_bundle_that_fails_once_and_is_repeated_changes_nothing(
  tmp_path, small_calls, local, monkeypatch
):
  def repeat(function, element):
    try:
      function(element)
    except RuntimeError:
      function(element)

  replace_calls(monkeypatch, repeat)
  log = tmp_path / "log"
  assert contents(build(tmp_path / "data", log, 6, "crash once", beam=DIRECT)) == local
  # The two tasks before it in its bundle run again, and no other.
  assert sorted(map(int, log.read_text().split())) == sorted([4, 5, 6, *range(18)])


@needs_beam
@pytest.mark.parametrize("resumed_on", [DIRECT, None])
def test_a_failed_pipeline_is_no_dataset_and_continues(tmp_path, small_calls, local, resumed_on):
  data, log = tmp_path / "data", tmp_path / "log"
  with pytest.raises(PipelineFailed, match="a worker process died.*the same command"):
    build(data, log, 17, "crash once", beam=DIRECT)
  (folder,) = unfinished(data)
  assert not list(folder.parent.glob("1.*")) and not (folder / "dataset_info.json").exists()
  kept = sum(len(json.loads(path.read_bytes())) for path in folder.glob("shards/beam/*/*.json"))
  before = len(log.read_text().split())
  assert contents(build(data, log, 17, "crash once", beam=resumed_on)) == local
  assert not unfinished(data)
  again = len(log.read_text().split()) - before
  # A build on one machine continues after finished shards only.
  assert again == 18 - (kept if resumed_on else 0)


@needs_beam
def test_a_killed_process_leaves_no_dataset_and_continues(tmp_path, repository, local):
  data, log = tmp_path / "data", tmp_path / "log"
  code = (
    "import pathlib, sys; from jax_me.beam.beam_runner import BeamRunner; "
    "from tests.helpers.interrupted_build import build; "
    "build(sys.argv[1], pathlib.Path(sys.argv[2]), 13, 'kill', beam=BeamRunner('DirectRunner'))"
  )
  environment = {**os.environ, "PYTHONPATH": str(repository)}
  command = [sys.executable, "-c", code, str(data), str(log)]
  assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
  assert len(unfinished(data)) == 1 and not list(data.glob("*/*/1.*"))
  assert contents(build(data, log, beam=DIRECT)) == local
  assert not unfinished(data)


@needs_beam
def test_killed_while_the_shards_are_moved(tmp_path, small_calls, local, monkeypatch):
  moved = []

  def stop(path, content):
    moved.append(path)
    if len(moved) == 2:
      raise KeyboardInterrupt
    real(path, content)

  real = beam_shards.write_atomically
  with monkeypatch.context() as patch:
    patch.setattr(beam_shards, "write_atomically", stop)
    with pytest.raises(KeyboardInterrupt):
      build(tmp_path / "data", tmp_path / "log", beam=DIRECT)
  (tmp_path / "log").write_text("")
  assert contents(build(tmp_path / "data", tmp_path / "log", beam=DIRECT)) == local
  # The first shard is final; of the others the records are kept.
  assert not (tmp_path / "log").read_text()


@needs_beam
def test_a_local_build_continues_on_beam(tmp_path, small_calls, local):
  data, log = tmp_path / "data", tmp_path / "log"
  with pytest.raises(KeyboardInterrupt):
    build(data, log, 15, "interrupt")
  log.write_text("")
  assert contents(build(data, log, beam=DIRECT)) == local
  assert len(log.read_text().split()) < 12


@needs_beam
def test_ctrl_c_is_not_a_failure(tmp_path, small_calls, local):
  data, log = tmp_path / "data", tmp_path / "log"
  with pytest.raises(KeyboardInterrupt):
    build(data, log, 9, "interrupt", beam=DIRECT)
  assert contents(build(data, log, beam=DIRECT)) == local


@needs_beam
def test_unusable_files_give_the_error_of_the_local_build(tmp_path, small_calls):
  with pytest.raises(ValueError) as local_error:
    build(tmp_path / "local", None, 9, "bad")
  with pytest.raises(ValueError) as error:
    build(tmp_path / "data", None, 9, "bad", beam=DIRECT)
  assert str(error.value) == str(local_error.value) and not unfinished(tmp_path)


@needs_beam
def test_build_through_a_bucket(tmp_path, small_calls, local, bucket):
  beam = BeamRunner("DirectRunner", exchange="local://work")
  assert contents(build(tmp_path / "data", beam=beam)) == local
  assert not [path for path in bucket.rglob("*.json")] and not unfinished(tmp_path)


@needs_beam
def test_calls_that_somebody_changed_are_not_run(tmp_path, small_calls, monkeypatch):
  import apache_beam

  real = apache_beam.Pipeline

  def change_first(**arguments):
    (calls,) = tmp_path.rglob("calls.pickle")
    calls.write_bytes(calls.read_bytes()[:-1] + b"x")
    return real(**arguments)

  monkeypatch.setattr(apache_beam, "Pipeline", change_first)
  with pytest.raises(PipelineFailed, match="not what the launching process wrote"):
    build(tmp_path / "data", beam=DIRECT)


@needs_beam
def test_a_worker_without_the_input_folder_reports_no_missing_files(tmp_path):
  (tmp_path / "unmounted").mkdir()
  with pytest.raises(PipelineFailed, match="is it mounted"):
    call = functools.partial(divmod, b"", b"")
    DIRECT.run([call], str(tmp_path / "exchange"), source=tmp_path / "unmounted")


@needs_beam
def test_an_unknown_runner_is_one_line(tmp_path, capsys):
  assert run("data", "build", "demo_clips", "--data-dir", tmp_path, "--beam_runner=Direkt") == 2
  assert "--beam_runner=Direkt: Unexpected pipeline runner" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path):
  """Images and an unreadable file."""
  source = write_folder(tmp_path / "source", ROWS, "file,label,subject")
  (source / "0.png").write_bytes(b"not an image")
  return source


@needs_beam
@pytest.mark.parametrize(
  "options", ["", "direct_num_workers=2,direct_running_mode=multi_processing"]
)
def test_command_with_an_unreadable_image(
  tmp_path, folder, monkeypatch, capsys, repository, options
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv("PYTHONPATH", str(repository))
  words = ("data", "build", "labeled_images", "--manual-dir", "source", "--no-align")
  assert run(*words, "--data-dir", "local") == 0
  assert (
    run(*words, "--data-dir", "data", "--beam_runner", "DirectRunner", "--beam_options", options)
    == 0
  )
  assert "1 unreadable" in capsys.readouterr().err
  assert files_of(tmp_path / "data") == files_of(tmp_path / "local")
  assert any(b"unreadable" in content for content in files_of(tmp_path / "data").values())
  (built,) = list_builds(tmp_path / "data")
  assert built.examples == {"train": 5} and not built.problem


@needs_beam
def test_images_are_read_from_a_bucket(tmp_path, folder, bucket, monkeypatch):
  words = ("data", "build", "labeled_images", "--manual-dir", folder, "--no-align")
  assert run(*words, "--data-dir", tmp_path / "local") == 0
  shutil.copytree(folder, bucket / "images")
  for path in folder.glob("*.png"):  # the workers do not see them
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
  beam = ("--beam_runner=DirectRunner", "--beam_source=local://images", "--beam_exchange=local://x")
  assert run(*words, "--data-dir", tmp_path / "data", *beam) == 0
  assert files_of(tmp_path / "data") == files_of(tmp_path / "local")


@needs_beam
@pytest.mark.parametrize(
  ("text", "options"),
  [
    ("", ()),
    ("parallelism=64,streaming", ("--parallelism=64", "--streaming")),
    (
      'environment_config={"command": "/opt/boot", "os": "linux"},parallelism=2',
      ('--environment_config={"command": "/opt/boot", "os": "linux"}', "--parallelism=2"),
    ),
  ],
)
def test_options_of_the_runner(text, options):
  parser = argparse.ArgumentParser()
  add_beam_flags(parser)
  runner = beam_runner(parser.parse_args(["--beam_runner=DirectRunner", f"--beam_options={text}"]))
  assert runner == BeamRunner("DirectRunner", options)
