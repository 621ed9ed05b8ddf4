"""Kills, ctrl-C, full disks and two runs at once, of whole commands."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.faults.commands import Commands, contents
from tests.faults.conftest import count

KILLS = {
  **dict.fromkeys(("train", "build", "faces", "score"), 15),
  **dict.fromkeys(("compare", "convert", "predict", "study"), 10),
}
COMPILING = ("train", "predict", "study")
INTERRUPTS = 8  # Of each command, once and twice.
CODES = (130, -signal.SIGINT, 0)  # Shells show a death by SIGINT as 130; 0: it had ended before.
PATIENCE = 60.0  # Seconds until an interrupted command must have ended, on a loaded machine.


@pytest.fixture(scope="module")
def commands(repository, tmp_path_factory):
  return Commands(repository, tmp_path_factory.mktemp("in"))


@pytest.fixture(scope="module")
def whole(commands, tmp_path_factory):
  """Undisturbed results and durations of the commands, made when they are needed."""
  found = {}

  def undisturbed(name):
    if name not in found:
      if name in COMPILING:  # The duration is that of later starts, whose programs are compiled.
        commands.finish(name, tmp_path_factory.mktemp("compiling") / name)
      output = tmp_path_factory.mktemp("whole") / name
      start = time.monotonic()
      code, messages = commands.finish(name, output)
      assert code == 0, messages
      found[name] = contents(name, output), time.monotonic() - start
    return found[name]

  return undisturbed


@pytest.mark.parametrize("name", KILLS)
def test_kill(fault, random, commands, whole, tmp_path, name):
  expected, seconds = whole(name)
  for number in range(count(KILLS[name])):
    output = tmp_path / str(number)
    process = commands.start(name, output)
    delay = float(random.uniform(0, seconds))
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(delay)
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, messages = commands.finish(name, output)
    # A conversion had ended before if it does not replace its result.
    found = contents(name, output) if code == 0 or "--force" in messages else {}
    problem = "" if found == expected else f"exit code {code}, {messages[-300:]}"
    if found and found != expected:
      names = found.keys() | expected.keys()
      problem = f"differs: {[n for n in names if found.get(n) != expected.get(n)]}"
    fault.record(f"killed after {delay:.1f} s", problem)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", ["train", "build", "faces"])
def test_ctrl_c(fault, random, commands, whole, tmp_path, name, times):
  _, seconds = whole(name)
  for number in range(count(INTERRUPTS)):
    process = commands.start(name, tmp_path / str(number))
    delay = float(random.uniform(min(2.0, seconds / 2), seconds))
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(delay)
    for _ in range(times):
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    start = time.monotonic()
    try:
      _, messages = process.communicate(timeout=PATIENCE)
      problem = "" if process.returncode in CODES else f"exit code {process.returncode}"
      if "Traceback" in messages:
        problem += f", a traceback: {messages[-1000:]}"
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
      problem = f"hangs for {time.monotonic() - start:.0f} s"
    fault.record(f"{times} after {delay:.1f} s", problem)


@pytest.fixture
def small_disk(tmp_path):
  """A file system of 100 KiB."""
  folder = tmp_path / "disk"
  folder.mkdir()
  mounted = (
    shutil.which("mount")
    and not subprocess.run(
      ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], capture_output=True
    ).returncode
  )
  if not mounted:
    pytest.skip("a small tmpfs cannot be mounted here")
  yield folder
  subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["train", "build", "faces", "score"])
def test_full_disk(fault, commands, small_disk, name):
  (small_disk / "filler").write_bytes(b"x" * 80_000)
  code, messages = commands.finish(name, small_disk / "out")
  lines = [line for line in messages.splitlines() if "disk is full" in line or "No space" in line]
  said = code != 0 and lines and "Traceback" not in messages
  fault.record(name, "" if said else f"exit code {code}: {messages[-500:]}")


def test_two_runs_at_once(fault, commands, whole, tmp_path):
  expected, _ = whole("train")
  for number in range(count(5)):
    output = tmp_path / str(number)
    both = [commands.start("train", output) for _ in range(2)]
    ended = [(*process.communicate(), process.returncode) for process in both]
    codes = sorted(code for *_, code in ended)
    refused = sum("in use by another process" in messages for _, messages, _ in ended)
    # The second one may also start after the first has ended.
    good = (codes == [0, 2] and refused == 1) or (codes == [0, 0] and not refused)
    good = good and contents("train", output) == expected
    fault.record(f"pair {number}", "" if good else f"exit codes {codes}")
