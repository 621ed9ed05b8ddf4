"""Memory that a training step frees, kept for the next step: CPUs with the GNU C library.

XLA takes the intermediate arrays of a step from malloc. glibc gives blocks of this size back to the
system as soon as they are freed, and the system clears every page of the next ones. Training of
small models spends up to a third of its processor time on that (docs/performance.md).

glibc's own settings (environment variables MALLOC_*, GLIBC_TUNABLES) and other allocators
(LD_PRELOAD) come first: with any of them nothing is changed here.
"""

import ctypes
import functools
import importlib.util
import os
import pathlib
import platform

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
_CGROUP = pathlib.Path("/sys/fs/cgroup")
# The heap grows by up to twice the memory of a step until the blocks of later steps fit its gaps.
GROWTH = 2

_one_heap = False


def use_one_heap() -> bool:
  """Makes all threads share one heap, so that `keep_freed_memory` works; call it before any import.

  Heaps of single threads cannot hold large blocks. With a GPU or TPU nothing is changed: its memory
  is not malloc's, and threads that decode images do better with heaps of their own.

  Returns:
    whether it was done.
  """
  global _one_heap
  if platform.libc_ver()[0] == "glibc" and not _user_decides() and not _has_accelerator():
    _one_heap = bool(ctypes.CDLL(None).mallopt(_ARENA_MAX, 1))
  return _one_heap


@functools.cache
def keep_freed_memory() -> bool:
  """Keeps what is freed from now on for the next blocks; call it after the first step.

  Returns:
    whether it was done: after `use_one_heap`, and if there is memory for the heap to grow.
  """
  if not _one_heap:
    return False
  import resource  # Not on Windows.

  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  if available_memory() < GROWTH * peak:
    return False
  mallopt = ctypes.CDLL(None).mallopt
  return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


def available_memory() -> int:
  """Bytes of memory that are free for this process, within the limit of its container."""
  free = 0
  with open("/proc/meminfo") as file:
    for line in file:
      if line.startswith("MemAvailable:"):
        free = int(line.split()[1]) * 1024
  try:
    limit = (_CGROUP / "memory.max").read_text().strip()
    used = int((_CGROUP / "memory.current").read_text())
  except (OSError, ValueError):
    return free  # No container, or one with version 1 of cgroups.
  return free if limit == "max" else min(free, int(limit) - used)


def _user_decides() -> bool:
  names = [name for name in os.environ if name.startswith("MALLOC_")]
  return bool(names or os.environ.get("GLIBC_TUNABLES") or os.environ.get("LD_PRELOAD"))


def _has_accelerator() -> bool:
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    return False
  return any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
