"""Errors of commands are one line, and ctrl-C ends them with 130."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from jax_me.__main__ import main
from jax_me.command_errors import describe_error, run_command
from jax_me.worker_pool import WorkerDied

SLOW = """
import time
from jax_me.command_errors import install_interrupts, run_command
install_interrupts()
def command(arguments):
  print("started", flush=True)
  try:
    time.sleep(60)
  finally:
    time.sleep(float(arguments[0]))
raise SystemExit(run_command(command, ["{ending}"], "slow"))
"""

COLLECTING = """
import gc, time
from jax_me.command_errors import install_interrupts, run_command
install_interrupts()
def wait(phase, info):
  if phase == "stop":
    print("started", flush=True)
    time.sleep(5)
def command(arguments):
  gc.callbacks.append(wait)
  gc.collect()
  gc.callbacks.remove(wait)
  time.sleep(60)
raise SystemExit(run_command(command, [], "slow"))
"""


@pytest.mark.parametrize(
  ("error", "text"),
  [
    (ValueError("a.csv, line 3:\n bad"), "p: a.csv, line 3: bad\n"),
    (OSError(errno.ENOSPC, "No space left on device", "run.json"), "free some space and run"),
    (MemoryError(), "use smaller batches or fewer workers"),
    (TypeError("bug"), "p: unexpected TypeError: bug. The same command with --debug"),
  ],
)
def test_an_error_is_one_line(capsys, error, text):
  def command(arguments):
    raise error

  assert run_command(command, ["x"], "p") == 1
  (line,) = capsys.readouterr().err.splitlines(keepends=True)
  assert text in line
  with pytest.raises(type(error)):
    run_command(command, ["--debug", "x"], "p")


def test_the_debug_flag_is_no_argument_of_the_command(tmp_path, capsys):
  assert main(["score", str(tmp_path / "nothing.csv")]) == 1
  assert "nothing.csv" in capsys.readouterr().err
  with pytest.raises(FileNotFoundError, match="nothing.csv"):
    main(["score", str(tmp_path / "nothing.csv"), "--debug"])
  assert describe_error(ValueError()) == "ValueError"
  assert describe_error(WorkerDied("it was killed")) == "it was killed"


@pytest.mark.parametrize(("times", "ending"), [(1, 0), (2, 60)])
def test_ctrl_c_once_and_twice(repository, times, ending):
  process = subprocess.Popen(
    [sys.executable, "-c", SLOW.format(ending=ending)],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(repository)},
  )
  assert process.stdout.readline() == "started\n"
  start = time.monotonic()
  for _ in range(times):
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
  _, messages = process.communicate(timeout=50)
  assert process.returncode == 130 and time.monotonic() - start < 50
  assert "Traceback" not in messages


def test_ctrl_c_during_garbage_collection_is_not_lost(repository):
  process = subprocess.Popen(
    [sys.executable, "-c", COLLECTING],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, "PYTHONPATH": str(repository)},
  )
  assert process.stdout.readline() == "started\n"
  process.send_signal(signal.SIGINT)
  _, messages = process.communicate(timeout=50)
  assert process.returncode == 130 and messages == "\nslow: interrupted\n"


# A module that is interrupted while it is imported, and waits in Python code and in a system call.
IMPORTED = """
import os, signal, time
for _ in range({times}):
  os.kill(os.getpid(), signal.SIGINT)
  time.sleep(0.1)
print("imported", flush=True)
"""
IMPORTING = """
import time
from jax_me.command_errors import install_interrupts, run_command
install_interrupts()
def command(arguments):
  import interrupted_module
  time.sleep(50)
run_command(command, [], "slow")
"""


@pytest.mark.parametrize(
  ("times", "output", "messages"),
  [(1, "imported\n", "\nslow: interrupted\n"), (2, "", "")],
)
def test_ctrl_c_waits_for_an_import(repository, tmp_path, times, output, messages):
  """Extension modules whose initialisation is interrupted crash; the second one ends at once."""
  (tmp_path / "interrupted_module.py").write_text(IMPORTED.format(times=times))
  done = subprocess.run(
    [sys.executable, "-c", IMPORTING],
    capture_output=True,
    text=True,
    timeout=40,
    env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), str(tmp_path)])},
  )
  assert (done.returncode, done.stdout, done.stderr) == (130, output, messages)
