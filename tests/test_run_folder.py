"""Folder of a run: lock, and checksums of finished results."""

import os
import signal
import subprocess
import sys

import pytest

from jax_me.run_folder import (
  RunFolderError,
  is_finished,
  lock_run,
  start_results,
  verify_result,
  verify_results,
  writing_results,
)

TABLE = "truth,prediction\nx,x\nx,y\n"


@pytest.fixture
def run(tmp_path):
  """A folder with finished predictions and an unfinished log."""
  start_results(tmp_path)
  with writing_results(tmp_path, "predictions.csv"):
    (tmp_path / "predictions.csv").write_text(TABLE)
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
  return tmp_path


def hold(folder):
  """A process that holds the folder until it is killed."""
  code = (
    "import sys, time; from jax_me.run_folder import lock_run\n"
    "with lock_run(sys.argv[1]): print('held', flush=True); time.sleep(60)"
  )
  process = subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE)
  assert process.stdout.readline() == b"held\n"
  return process


def test_one_process_holds_a_folder_until_it_is_killed(tmp_path, repository, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(repository))
  holder = hold(tmp_path / "run")
  with pytest.raises(RunFolderError, match="in use by another process; wait .* --workdir"):
    lock_run(tmp_path / "run").__enter__()
  holder.send_signal(signal.SIGKILL)
  holder.communicate()
  with lock_run(tmp_path / "run"):
    pass


def test_a_result_is_finished_when_it_is_listed(run):
  assert is_finished(run / "predictions.csv") and not is_finished(run / "metrics.jsonl")
  with pytest.raises(KeyboardInterrupt), writing_results(run, "predictions.csv"):
    raise KeyboardInterrupt
  assert not is_finished(run / "predictions.csv")
  with pytest.raises(RunFolderError, match="not finished: repeat"):
    verify_result(run / "predictions.csv", required=True)


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    (TABLE.replace("y", "x"), "was changed or damaged"),
    (TABLE[: TABLE.rindex("x")], "has 1 rows instead of 2"),
    (TABLE[:-3], "has 22 bytes instead of 25"),
    (None, "is missing"),
  ],
)
def test_damage_is_one_error_with_a_remedy(run, content, problem):
  path = run / "predictions.csv"
  path.unlink() if content is None else path.write_text(content)
  for check in (lambda: verify_results(run, path.name), lambda: verify_result(path)):
    with pytest.raises(RunFolderError, match=f"predictions.csv {problem}.*jax-me evaluate"):
      check()


def test_results_in_the_folder_of_the_report_are_checked(run):
  (run / "report").mkdir()
  with writing_results(run, "report"):
    (run / "report/scores.json").write_text("{}")
  verify_result(run / "report/scores.json")
  (run / "report/scores.json").write_text("[]")
  with pytest.raises(RunFolderError, match="scores.json was changed"):
    verify_result(run / "report/scores.json")


def test_a_run_of_version_0_1_has_no_list(tmp_path):
  table = tmp_path / "predictions.csv"
  table.write_text(TABLE)
  assert is_finished(table)
  verify_results(tmp_path, table.name)
  verify_result(table, required=True)
  with writing_results(tmp_path, "report"):
    pass
  assert is_finished(table)


def test_a_damaged_list_finishes_nothing(run):
  (run / "results.json").write_text("{")
  with pytest.raises(RunFolderError, match="results.json cannot be read"):
    is_finished(run / "predictions.csv")
  with writing_results(run, "metrics.jsonl"):
    pass
  assert not is_finished(run / "predictions.csv") and is_finished(run / "metrics.jsonl")


def test_a_folder_that_cannot_be_written(tmp_path):
  (tmp_path / "file").touch()
  with pytest.raises(OSError):
    lock_run(tmp_path / "file" / "run").__enter__()
  assert os.listdir(tmp_path) == ["file"]
