"""Number of CPU cores that this process may use."""

import os


def available_cores() -> int:
  """Usable CPU cores; containers and `taskset` may allow fewer than the machine has."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1
