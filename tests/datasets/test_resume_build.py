"""Builds that are killed, interrupted or out of disk space resume with the same result."""

import collections
import json
import logging
import os
import pathlib
import re
import signal
import subprocess
import sys

import psutil
import pytest

from jax_me.data.index import read_index
from jax_me.datasets.generation import generate, progress_file, shard_writer
from tests.helpers.interrupted_build import TASKS, build


def contents(builder) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in pathlib.Path(builder.data_path).iterdir()}


def unfinished(folder: pathlib.Path) -> list[pathlib.Path]:
  return list(folder.rglob("incomplete.*"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
  folder = tmp_path_factory.mktemp("uninterrupted")
  builder = build(folder)
  assert not unfinished(folder)
  return contents(builder)


def test_the_build_has_several_shards_and_duplicates(uninterrupted):
  shards = collections.Counter(
    name.split(".")[0] for name in uninterrupted if "array_record" in name
  )
  assert shards["stopping-train"] > 2 and shards["stopping-test"] > 1
  assert not [
    name
    for name in uninterrupted
    if name.endswith((".part", ".spool")) or name == progress_file.PROGRESS_FILE
  ]
  summary = json.loads(uninterrupted["summary.json"])
  assert summary["examples"] == {"train": 21, "test": 11}
  assert summary["same_content"] == {"train": {"train": 4}, "test": {"train": 12}}
  assert summary["known_counts"][0] == {
    "split": "train",
    "class": "calm",
    "expected": 12,
    "found": 12,
    "stored": 12,
  }


def start(folder, log, stop_at, repository):
  code = (
    "import sys; from tests.helpers import interrupted_build; interrupted_build.main(*sys.argv[1:])"
  )
  command = [sys.executable, "-c", code, str(folder), str(log), str(stop_at)]
  paths = str(repository)
  return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})


def test_build_killed_twice_is_byte_identical(tmp_path, repository, uninterrupted):
  data, log = tmp_path / "data", tmp_path / "log"
  for stop_at in (7, 14):
    assert start(data, log, stop_at, repository).wait(timeout=60) == -signal.SIGKILL
    assert len(unfinished(data)) == 1
  builder = build(data, log)
  assert contents(builder) == uninterrupted and not unfinished(data)
  # Only the tasks at which it was killed ran twice.
  assert log.read_text().split() == [str(n) for n in [*range(8), *range(7, 15), *range(14, 18)]]
  assert [int(row["frame"]) for row in builder.as_data_source("test")][:3] == [0, 1, 0]
  assert len(read_index(builder, "train+test")) == 32


@pytest.mark.parametrize("how", ["interrupt", "crash", "full"])
@pytest.mark.parametrize("save_seconds", [0.0, 1e9])  # at every task; at the end of shards only
def test_interrupted_build_resumes(tmp_path, uninterrupted, caplog, how, save_seconds):
  errors = {"interrupt": KeyboardInterrupt, "crash": RuntimeError, "full": OSError}
  for stop_at in (9, 17):
    with pytest.raises(errors[how]) as raised:
      build(tmp_path, None, stop_at, how, save_seconds)
    if how == "full":
      assert "run the same command again: it continues" in str(raised.value)
  caplog.clear()
  with caplog.at_level(logging.INFO):
    assert contents(build(tmp_path)) == uninterrupted
  if not save_seconds:
    assert f"continuing at task 18 of {sum(TASKS.values())}" in caplog.text
  assert "12 files of test are duplicates of files in train" in caplog.text


def test_invalid_files_leave_nothing(tmp_path):
  with pytest.raises(ValueError, match=r"7\.png"):
    build(tmp_path, None, 9, "bad")
  assert not unfinished(tmp_path)


def test_other_options_start_a_build_of_their_own(tmp_path, caplog):
  log = tmp_path / "log"
  with pytest.raises(KeyboardInterrupt):
    build(tmp_path / "data", log, 9, "interrupt")
  log.unlink()
  with caplog.at_level(logging.INFO):
    builder = build(tmp_path / "data", log, seed=1)
  assert f"is unfinished in {unfinished(tmp_path)[0]}" in caplog.text
  assert log.read_text().split() == [str(n) for n in range(18)]
  assert len(unfinished(tmp_path)) == 1
  assert contents(builder) == contents(build(tmp_path / "other", seed=1))


def damage(folder: pathlib.Path, what: str) -> None:
  (train,) = folder.glob("index-train.jsonl")
  path = folder / progress_file.PROGRESS_FILE
  content = json.loads(path.read_text())
  match what:
    case "truncated progress":
      path.write_bytes(path.read_bytes()[:-40])
    case "binary progress":
      path.write_bytes(b"\xff\x00" * 20)
    case "empty progress":
      path.write_text("{}")
    case "invalid number":
      content["splits"]["train"]["open_bytes"] = "many"
      path.write_text(json.dumps(content))
    case "other version":
      content["format"] = 0
      path.write_text(json.dumps(content))
    case "other tasks":
      content["plan"]["tasks"]["train"] = 99
      path.write_text(json.dumps(content))
    case "short report":
      (folder / "report.jsonl").write_text("")
    case "bad report":
      rows = (folder / "report.jsonl").read_bytes()
      (folder / "report.jsonl").write_bytes(b"?" * 50 + rows[50:])
    case "short index":
      train.write_bytes(train.read_bytes()[:100])
    case "lost shard":
      next(folder.glob("*.part")).unlink()
    case "lost spool":
      for spool in folder.glob("train*.spool"):
        spool.unlink()


@pytest.mark.parametrize(
  ("what", "reason"),
  [
    ("truncated progress", "progress file is damaged"),
    ("binary progress", "progress file is damaged"),
    ("empty progress", "progress file is damaged"),
    ("invalid number", "cannot be resumed"),
    ("other version", "another version"),
    ("other tasks", "from other files"),
    ("short report", "report.jsonl is shorter"),
    ("bad report", "cannot be resumed"),
    ("short index", "index-train.jsonl is shorter"),
    ("lost shard", "shard .* is missing"),
    ("lost spool", "spool is shorter"),
  ],
)
def test_unusable_progress_starts_over(tmp_path, uninterrupted, caplog, what, reason):
  with pytest.raises(KeyboardInterrupt):
    build(tmp_path, None, 11, "interrupt")
  damage(unfinished(tmp_path)[0], what)
  assert contents(build(tmp_path)) == uninterrupted
  (warning,) = [text for text in caplog.messages if "Starting over" in text]
  assert re.search(reason, warning)


def test_build_killed_while_shards_are_renamed(tmp_path, uninterrupted, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(generate, "_write_json", lambda path, value: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
      build(tmp_path)
  log = tmp_path / "log"
  assert contents(build(tmp_path, log)) == uninterrupted and not log.exists()


def test_full_disk_while_a_shard_is_written(tmp_path, uninterrupted, monkeypatch):
  class FullDisk:
    def __init__(self, path, options):
      pathlib.Path(path).write_bytes(b"half")

    def write(self, record):
      raise RuntimeError("write() failed: No space left on device; writing x")

  with monkeypatch.context() as patch:
    patch.setattr(shard_writer.array_record_module, "ArrayRecordWriter", FullDisk)
    with pytest.raises(OSError, match="disk is full.*continues where it stopped"):
      build(tmp_path)
  assert contents(build(tmp_path)) == uninterrupted


def test_two_processes_build_once(tmp_path, repository, uninterrupted):
  log = tmp_path / "log"
  processes = [start(tmp_path / "data", log, -1, repository) for _ in range(2)]
  assert [process.wait(timeout=60) for process in processes] == [0, 0]
  assert log.read_text().split() == [str(n) for n in range(18)]
  assert contents(build(tmp_path / "data")) == uninterrupted


WORKERS = """
import time
from jax_me.datasets.generation.process_pool import map_in_processes

if __name__ == "__main__":
  for _ in map_in_processes(time.sleep, [0.1] + [60] * 9, workers=2):
    print("one is done", flush=True)
"""


def test_workers_end_with_a_killed_build(tmp_path, repository):
  (tmp_path / "sleepy.py").write_text(WORKERS)
  environment = {**os.environ, "PYTHONPATH": str(repository)}
  command = [sys.executable, str(tmp_path / "sleepy.py")]
  with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"one is done\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
  assert len(workers) >= 2
  assert not psutil.wait_procs(workers, timeout=20)[1]
