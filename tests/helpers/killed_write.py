"""A command that is killed while it writes its files."""

import os
import pathlib
import shutil

import pytest


def kill_at_write(patch: pytest.MonkeyPatch, number: int) -> None:
  """Makes the atomic write `number` (from 0) end like a killed process.

  It leaves its temporary file and raises KeyboardInterrupt instead of renaming it.

  Args:
    patch: in which `os.replace` is replaced.
    number: of the write.
  """
  writes = 0
  replace = os.replace

  def counted(source, target):
    nonlocal writes
    if writes == number:
      shutil.copy(source, pathlib.Path(source).with_suffix(".killed.partial"))
      raise KeyboardInterrupt
    writes += 1
    replace(source, target)

  patch.setattr(os, "replace", counted)
