"""Builds that are killed, interrupted or out of disk space resume with the same result."""

import collections
import json
import logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest

from jax_me.data.index import read_index
from jax_me.datasets.generation import generate, shard_writer
from tests.helpers.interrupted_build import TASKS, TASKS_PER_SHARD, build


def contents(builder) -> dict[str, bytes]:
  """File -> bytes; a folder, such as that of the checkpoints, would be an error."""
  return {path.name: path.read_bytes() for path in pathlib.Path(builder.data_path).iterdir()}


def redone(log: pathlib.Path) -> dict[int, int]:
  """Task -> number of times that it ran again."""
  runs = collections.Counter(map(int, log.read_text().split()))
  assert sorted(runs) == list(range(sum(TASKS.values())))
  return {task: count - 1 for task, count in runs.items() if count > 1}


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
  # Only the tasks of the shards at which it was killed ran twice.
  assert {7, 14} <= redone(log).keys() and set(redone(log).values()) == {1}
  assert len(redone(log)) <= 2 * TASKS_PER_SHARD
  assert [int(row["frame"]) for row in builder.as_data_source("test")][:3] == [0, 1, 0]
  assert len(read_index(builder, "train+test")) == 32


@pytest.mark.parametrize("how", ["interrupt", "crash", "full"])
def test_interrupted_build_resumes(tmp_path, uninterrupted, caplog, how):
  errors = {"interrupt": KeyboardInterrupt, "crash": RuntimeError, "full": OSError}
  log = tmp_path / "log"
  for stop_at in (9, 17):
    with pytest.raises(errors[how]) as raised:
      build(tmp_path / "data", log, stop_at, how)
    if how == "full":
      assert "run the same command again: it continues" in str(raised.value)
  caplog.clear()
  with caplog.at_level(logging.INFO):
    assert contents(build(tmp_path / "data", log)) == uninterrupted
  (task,) = re.findall(rf"continuing at task (\d+) of {sum(TASKS.values())}", caplog.text)
  assert 18 - TASKS_PER_SHARD < int(task) <= 18
  assert len(redone(log)) <= 2 * TASKS_PER_SHARD
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
  assert not redone(log)
  assert len(unfinished(tmp_path)) == 1
  assert contents(builder) == contents(build(tmp_path / "other", seed=1))


def damage(folder: pathlib.Path, what: str) -> None:
  description = folder / "shards" / "train-00001.json"
  plan = folder / "shards" / "plan.json"

  def edit(path: pathlib.Path, name: str, value: object) -> None:
    content = json.loads(path.read_text())
    assert name in content
    path.write_text(json.dumps({**content, name: value}))

  match what:
    case "truncated description":
      description.write_bytes(description.read_bytes()[:-40])
    case "binary description":
      description.write_bytes(b"\xff\x00" * 20)
    case "empty description":
      description.write_text("{}")
    case "invalid number":
      edit(description, "tasks", "many")
    case "other version":
      edit(plan, "format", 0)
    case "other tasks":
      edit(plan, "tasks", {"train": 99, "test": 6})
    case "damaged plan":
      plan.write_bytes(plan.read_bytes()[:40])
    case "version 0.1":
      shutil.rmtree(folder / "shards")
      (folder / "journal.json").write_text("{}")
      (folder / "train.shard00000.part").write_bytes(b"old")
    case "lost shard":
      description.with_suffix(".array_record").unlink()
    case "short shard":
      os.truncate(description.with_suffix(".array_record"), 100)


@pytest.mark.parametrize(
  ("what", "reason"),
  [
    ("truncated description", "train-00001.json is damaged"),
    ("binary description", "train-00001.json is damaged"),
    ("empty description", "train-00001.json is damaged"),
    ("invalid number", "cannot be resumed"),
    ("other version", "another version"),
    ("other tasks", "from other files"),
    ("damaged plan", "cannot be resumed"),
    ("version 0.1", "another version"),
    ("lost shard", "shard .* is missing"),
    ("short shard", "shard .* is missing or damaged"),
  ],
)
def test_unusable_shards_start_over(tmp_path, uninterrupted, caplog, what, reason):
  with pytest.raises(KeyboardInterrupt):
    build(tmp_path, None, 11, "interrupt")
  damage(unfinished(tmp_path)[0], what)
  assert contents(build(tmp_path)) == uninterrupted
  (warning,) = [text for text in caplog.messages if "Starting over" in text]
  assert re.search(reason, warning)


def test_stop_in_the_first_shard_leaves_nothing(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    build(tmp_path, None, 0, "interrupt")
  assert not unfinished(tmp_path)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_build_stopped_while_shards_are_moved(tmp_path, uninterrupted, monkeypatch, moved):
  rename = pathlib.Path.rename
  left = iter(range(moved))

  def stop(path, target):
    if path.suffix == ".array_record" and next(left, None) is None:
      raise SystemExit
    return rename(path, target)

  with monkeypatch.context() as patch:
    patch.setattr(pathlib.Path, "rename", stop)
    with pytest.raises(SystemExit):
      build(tmp_path)
  log = tmp_path / "log"
  assert contents(build(tmp_path, log)) == uninterrupted and not log.exists()


def test_build_stopped_after_shards_are_moved(tmp_path, uninterrupted, monkeypatch):
  write = generate._write_json

  def stop(path, value):
    if path.name == generate.SUMMARY_FILE:
      raise SystemExit
    write(path, value)

  with monkeypatch.context() as patch:
    patch.setattr(generate, "_write_json", stop)
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
