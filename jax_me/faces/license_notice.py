"""Licence notice of the landmark model, printed by a command once per user."""

import pathlib
import sys

from jax_me.cache_folder import cache_folder
from jax_me.faces.detector import LICENSE_NOTICE


def print_license_notice() -> None:
  """Prints `LICENSE_NOTICE` to the standard error stream, unless an earlier command did.

  Where `notice_record` cannot be written, the notice is printed each time.
  """
  try:
    record = notice_record()
    if record.exists():
      return
    record.parent.mkdir(parents=True, exist_ok=True)
    record.touch()
  except (OSError, RuntimeError):  # RuntimeError: there is no home folder
    pass
  print(f"note (shown once): {LICENSE_NOTICE}", file=sys.stderr)


def notice_record() -> pathlib.Path:
  """The file that records that the notice was printed, in the user's cache folder."""
  return cache_folder() / "license_notice_shown"
