"""Map over worker processes: order, errors, dead and unstartable workers, a killed parent."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from jax_me import worker_pool
from jax_me.worker_pool import map_in_processes


@pytest.mark.parametrize("workers", [0, 2])
def test_results_are_in_the_order_of_the_items(workers):
  assert list(map_in_processes(abs, iter(range(-20, 0)), workers=workers)) == [*range(20, 0, -1)]


def _sleep(seconds):
  time.sleep(seconds)
  return seconds


def test_results_come_as_they_are_ready():
  sleeps = [0.5, *[0.0] * 20]
  results = list(map_in_processes(_sleep, sleeps, workers=2, ordered=False))
  assert sorted(results) == sorted(sleeps) and results.index(0.5) > 5


def test_items_are_taken_as_they_are_needed():
  taken = []
  items = (taken.append(number) or number for number in range(1000))
  results = map_in_processes(abs, items, workers=2)
  assert [next(results) for _ in range(3)] == [0, 1, 2] and len(taken) < 20
  results.close()


def test_negative_workers_are_rejected():
  with pytest.raises(ValueError, match="workers"):
    list(map_in_processes(abs, [1], workers=-1))


def test_dead_worker_is_an_error_with_advice():
  # os._exit ends the worker as a crash or a lack of memory would.
  with pytest.raises(RuntimeError, match="exit code 1.*fewer workers"):
    list(map_in_processes(os._exit, [1], workers=2))


def _exit_at_three(number):
  return os._exit(3) if number == 3 else number


def test_dead_worker_may_cost_only_its_item():
  results = map_in_processes(_exit_at_three, range(6), workers=2, on_death=lambda *died: died)
  reason = "the worker process crashed (exit code 3)"
  assert list(results) == [0, 1, 2, (3, reason), 4, 5]


class Unpicklable(Exception):
  def __init__(self, one, two):
    super().__init__(f"{one} and {two}")


def _fail(item):
  raise Unpicklable(item, 2)


def test_errors_keep_their_type_and_name_their_place():
  with pytest.raises(ValueError, match="invalid literal") as caught:
    list(map_in_processes(int, ["1", "x"], workers=2))
  assert "worker process" in caught.value.__notes__[0]
  with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"):
    list(map_in_processes(_fail, [1], workers=2))


def test_a_worker_that_cannot_start_is_an_error(monkeypatch):
  monkeypatch.setattr(worker_pool.sys, "executable", "/bin/false")
  with pytest.raises(RuntimeError, match="could not start"):
    list(map_in_processes(abs, [1], workers=2))


# Without `if __name__ == "__main__"`: the workers do not run the caller's script again.
SCRIPT = """
import time
from jax_me.worker_pool import map_in_processes

for _ in map_in_processes(time.sleep, [0.1] + [60] * 9, workers=2):
  print("one is done", flush=True)
"""


def test_workers_end_with_a_killed_parent(tmp_path, repository):
  (tmp_path / "sleepy.py").write_text(SCRIPT)
  environment = {**os.environ, "PYTHONPATH": str(repository)}
  command = [sys.executable, str(tmp_path / "sleepy.py")]
  with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b"one is done\n"
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
  assert len(workers) >= 2
  assert not psutil.wait_procs(workers, timeout=20)[1]
