"""Writing a file whole: a reader meets the old content or the new, never a half of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
  """Writes `content` to a temporary neighbour of `path` and renames it over `path`.

  Missing parent folders are made. If writing fails, `path` is as it was and nothing else stays.
  """
  target = Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    # mkstemp makes private files; a report is as readable as any other file of the user's.
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(temporary, 0o666 & ~umask)
    os.replace(temporary, target)
  except BaseException:
    Path(temporary).unlink(missing_ok=True)
    raise
