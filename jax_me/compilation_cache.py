"""Compiled programs, kept between the processes of the command line.

The cache is JAX's own (https://docs.jax.dev/en/latest/persistent_compilation_cache.html), in the
cache folder of the user. `JAX_COMPILATION_CACHE_DIR` selects another folder, and
`JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
"""

import hashlib
import os
import pathlib
import platform

from jax_me.cache_folder import cache_folder

FOLDER_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# JAX's default of one second leaves out what small models need.
SECONDS_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
SHORTEST_SECONDS = "0.2"
MAX_BYTES = 2 << 30


def use_compilation_cache() -> None:
  """Makes this process and its children keep compiled programs; call it before importing jax.

  The oldest programs are deleted when they take more than `MAX_BYTES`. Without a writable folder,
  and where the user has chosen one, nothing changes.
  """
  if FOLDER_VARIABLE in os.environ:
    return
  # A home folder may be shared by computers whose processors differ.
  folder = cache_folder() / "compiled_programs" / _processor()
  try:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _limit(folder, MAX_BYTES)
  except OSError:
    return
  if os.access(folder, os.W_OK):
    os.environ[FOLDER_VARIABLE] = str(folder)
    os.environ.setdefault(SECONDS_VARIABLE, SHORTEST_SECONDS)


def _limit(folder: pathlib.Path, size: int) -> None:
  """Deletes the oldest files until the others take at most `size` bytes."""
  files = [(file.stat(), file) for file in folder.iterdir()]
  for stat, file in sorted(files, key=lambda item: -item[0].st_mtime_ns):
    size -= stat.st_size
    if size < 0:
      file.unlink(missing_ok=True)


def _processor() -> str:
  """A short name for the kind of processor."""
  name = platform.machine() + platform.processor()
  try:
    with open("/proc/cpuinfo") as file:
      name += next((line for line in file if line.startswith(("flags", "Features"))), "")
  except OSError:
    pass  # Not Linux.
  return hashlib.sha256(name.encode()).hexdigest()[:12]
