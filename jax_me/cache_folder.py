"""Folder of the user for downloads, converted models and records."""

import os
import pathlib
import sys

CACHE_VARIABLE = "JAX_ME_CACHE"


def cache_folder() -> pathlib.Path:
  """The cache folder of jax_me: `JAX_ME_CACHE`, or one in the cache folder of the system."""
  if given := os.environ.get(CACHE_VARIABLE):
    return pathlib.Path(given).expanduser()
  if sys.platform == "win32":
    base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
  elif sys.platform == "darwin":
    base = "~/Library/Caches"
  else:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(base).expanduser() / "jax_me"
