"""Races of processes for the folder of a run, without JAX: exactly one of them gets it."""

import subprocess
import sys

from tests.faults.conftest import count

RACES = 200
PROCESSES = 3

RACER = """
import sys
from jax_me.run_folder import RunFolderError, lock_run
assert "jax" not in sys.modules and "numpy" not in sys.modules
for line in sys.stdin:
  try:
    with lock_run(line.strip()):
      print("held", flush=True)
      sys.stdin.readline()
  except RunFolderError as error:
    print(error, flush=True)
    sys.stdin.readline()
"""


def test_races_for_one_folder(fault, tmp_path, repository, monkeypatch):
  monkeypatch.setenv("PYTHONPATH", str(repository))
  racers = [
    subprocess.Popen(
      [sys.executable, "-c", RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for _ in range(PROCESSES)
  ]

  def tell(text):
    for racer in racers:
      racer.stdin.write(f"{text}\n")
      racer.stdin.flush()

  try:
    for number in range(count(RACES)):
      tell(tmp_path / f"run{number % 10}")  # Also folders that were used before.
      answers = [racer.stdout.readline() for racer in racers]
      held = answers.count("held\n")
      others = [answer for answer in answers if answer != "held\n"]
      named = all("is in use by another process" in answer for answer in others)
      fault.record(f"race {number}", "" if held == 1 and named else f"answers: {answers}")
      tell("release")
  finally:
    for racer in racers:
      racer.communicate()
