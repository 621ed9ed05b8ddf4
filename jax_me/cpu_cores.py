"""How many cores there are to work with."""

import os


def available_cores() -> int:
  """Cores that this process may use; containers and `taskset` give fewer than the machine has."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
