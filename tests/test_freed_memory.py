"""Memory that is freed is kept for the next blocks, unless the user or the machine forbids it."""

import os
import pathlib
import platform
import subprocess
import sys

import pytest

from jax_me import freed_memory

pytestmark = pytest.mark.skipif(
  platform.libc_ver()[0] != "glibc", reason="only the GNU C library has these settings"
)

# Page faults of the last of several blocks of 64 MB, which other threads take and free.
SCRIPT = """
import resource, threading
from jax_me import freed_memory
if {heap}:
  freed_memory.use_one_heap()
def block():
  b"x" * 2**26
def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  thread = threading.Thread(target=block)
  thread.start()
  thread.join()
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(freed_memory.keep_freed_memory())
print([faults() for _ in range(4)][-1])
"""


def run(repository: pathlib.Path, heap: bool = True, **environment: str) -> tuple[bool, int]:
  inherited = {
    k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_"))
  }
  done = subprocess.run(
    [sys.executable, "-c", SCRIPT.format(heap=heap)],
    cwd=repository,
    env={**inherited, "JAX_PLATFORMS": "cpu", **environment},
    capture_output=True,
    text=True,
    check=True,
  )
  kept, faults = done.stdout.split()
  return kept == "True", int(faults)


def test_blocks_of_threads_are_used_again(repository):
  kept, faults = run(repository)
  assert kept and faults < 1000  # 64 MB have 16384 pages.


@pytest.mark.parametrize("environment", [{"MALLOC_ARENA_MAX": "4"}, {"LD_PRELOAD": " "}])
def test_settings_of_the_user_come_first(repository, environment):
  kept, faults = run(repository, **environment)
  assert not kept and faults > 16_000


def test_nothing_changes_for_other_programs_that_import_jax_me(repository):
  kept, faults = run(repository, heap=False)
  assert not kept and faults > 16_000


def test_memory_within_the_limit_of_a_container(monkeypatch, tmp_path):
  monkeypatch.setattr(freed_memory, "_CGROUP", tmp_path)
  free = freed_memory.available_memory()
  assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  (tmp_path / "memory.max").write_text("10000000\n")
  (tmp_path / "memory.current").write_text("4000000\n")
  assert freed_memory.available_memory() == 6_000_000
  (tmp_path / "memory.max").write_text("max\n")
  assert freed_memory.available_memory() > 6_000_000


def test_too_little_memory_leaves_it_as_it_is(monkeypatch):
  monkeypatch.setattr(freed_memory, "_one_heap", True)
  monkeypatch.setattr(freed_memory, "available_memory", lambda: 2**20)
  freed_memory.keep_freed_memory.cache_clear()
  try:
    assert not freed_memory.keep_freed_memory()
  finally:
    freed_memory.keep_freed_memory.cache_clear()
