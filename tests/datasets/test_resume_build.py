"""Builds that are killed, interrupted or out of disk continue, and give the same dataset."""

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
def undisturbed(tmp_path_factory):
  folder = tmp_path_factory.mktemp("undisturbed")
  builder = build(folder)
  assert not unfinished(folder)
  return contents(builder)


def test_the_build_has_what_the_tests_need(undisturbed):
  shards = collections.Counter(name.split(".")[0] for name in undisturbed if "array_record" in name)
  assert shards["stopping-train"] > 2 and shards["stopping-test"] > 1
  assert not [
    name for name in undisturbed if name.endswith((".part", ".spool")) or "journal" in name
  ]
  summary = json.loads(undisturbed["summary.json"])
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


def test_killed_twice_and_run_again_it_is_the_same_to_the_byte(tmp_path, repository, undisturbed):
  data, log = tmp_path / "data", tmp_path / "log"
  for stop_at in (7, 14):
    assert start(data, log, stop_at, repository).wait(timeout=60) == -signal.SIGKILL
    assert len(unfinished(data)) == 1
  builder = build(data, log)
  assert contents(builder) == undisturbed and not unfinished(data)
  # Nothing but the tasks at which it was killed was done twice.
  assert log.read_text().split() == [str(n) for n in [*range(8), *range(7, 15), *range(14, 18)]]
  assert [int(row["frame"]) for row in builder.as_data_source("test")][:3] == [0, 1, 0]
  assert len(read_index(builder, "train+test")) == 32


@pytest.mark.parametrize("how", ["interrupt", "crash", "full"])
@pytest.mark.parametrize("journal_seconds", [0.0, 1e9])  # at every task; at the end of shards only
def test_stopped_in_other_ways_it_continues(tmp_path, undisturbed, caplog, how, journal_seconds):
  errors = {"interrupt": KeyboardInterrupt, "crash": RuntimeError, "full": OSError}
  for stop_at in (9, 17):
    with pytest.raises(errors[how]) as raised:
      build(tmp_path, None, stop_at, how, journal_seconds)
    if how == "full":
      assert "run the same command again: it continues" in str(raised.value)
  caplog.clear()
  with caplog.at_level(logging.INFO):
    assert contents(build(tmp_path)) == undisturbed
  if not journal_seconds:
    assert f"continuing at task 18 of {sum(TASKS.values())}" in caplog.text
  assert "12 files of test have the bytes of another in train" in caplog.text


def test_an_error_of_the_files_leaves_nothing(tmp_path):
  with pytest.raises(ValueError, match=r"7\.png"):
    build(tmp_path, None, 9, "bad")
  assert not unfinished(tmp_path)


def test_other_options_do_not_meet_the_work(tmp_path, caplog):
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
  path = folder / progress_file.JOURNAL_FILE
  content = json.loads(path.read_text())
  match what:
    case "cut journal":
      path.write_bytes(path.read_bytes()[:-40])
    case "binary journal":
      path.write_bytes(b"\xff\x00" * 20)
    case "empty journal":
      path.write_text("{}")
    case "no number":
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
    ("cut journal", "journal is damaged"),
    ("binary journal", "journal is damaged"),
    ("empty journal", "journal is damaged"),
    ("no number", "cannot be continued"),
    ("other version", "another version"),
    ("other tasks", "from other files"),
    ("short report", "report.jsonl is shorter"),
    ("bad report", "cannot be continued"),
    ("short index", "index-train.jsonl is shorter"),
    ("lost shard", "shard .* is missing"),
    ("lost spool", "spool is shorter"),
  ],
)
def test_work_that_cannot_be_used_is_begun_anew(tmp_path, undisturbed, caplog, what, reason):
  with pytest.raises(KeyboardInterrupt):
    build(tmp_path, None, 11, "interrupt")
  damage(unfinished(tmp_path)[0], what)
  assert contents(build(tmp_path)) == undisturbed
  (warning,) = [text for text in caplog.messages if "Starting anew" in text]
  assert re.search(reason, warning)


def test_killed_while_the_shards_got_their_names(tmp_path, undisturbed, monkeypatch):
  with monkeypatch.context() as patch:
    patch.setattr(generate, "_write_json", lambda path, value: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
      build(tmp_path)
  log = tmp_path / "log"
  assert contents(build(tmp_path, log)) == undisturbed and not log.exists()


def test_full_disk_while_a_shard_is_written(tmp_path, undisturbed, monkeypatch):
  class FullDisk:
    def __init__(self, path, options):
      pathlib.Path(path).write_bytes(b"half")

    def write(self, record):
      raise RuntimeError("write() failed: No space left on device; writing x")

  with monkeypatch.context() as patch:
    patch.setattr(shard_writer.array_record_module, "ArrayRecordWriter", FullDisk)
    with pytest.raises(OSError, match="disk is full.*continues where it stopped"):
      build(tmp_path)
  assert contents(build(tmp_path)) == undisturbed


def test_two_processes_build_once(tmp_path, repository, undisturbed):
  log = tmp_path / "log"
  processes = [start(tmp_path / "data", log, -1, repository) for _ in range(2)]
  assert [process.wait(timeout=60) for process in processes] == [0, 0]
  assert log.read_text().split() == [str(n) for n in range(18)]
  assert contents(build(tmp_path / "data")) == undisturbed


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
