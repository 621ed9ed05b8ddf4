"""Writing a file whole: a reader meets the old content or the new, never a half of it."""

import os
import pathlib
import tempfile


def write_atomically(
  path: str | os.PathLike[str],
  content: bytes,
  *,
  scratch: str | os.PathLike[str] | None = None,
) -> None:
  """Writes `content` elsewhere and renames it to `path`, so that even kill -9 leaves no half.

  Args:
    path: where the file is to be; missing folders above it are made.
    content: all of it.
    scratch: a folder on the same file system for the half-written file. None takes the folder of
      `path`, and flushes the file to the disk: one by one that would be slow for many pictures.

  Raises:
    OSError: disk full, no permission; `path` is as it was and nothing else stays.
  """
  target = pathlib.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(
    dir=target.parent if scratch is None else scratch, prefix=f".{target.name}.", suffix=".partial"
  )
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
      if scratch is None:
        file.flush()
        os.fsync(file.fileno())
    # mkstemp makes private files; this one is to be as readable as any other of the user's.
    os.chmod(temporary, 0o666 & ~_umask())
    os.replace(temporary, target)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def _umask() -> int:
  # There is no way to read it without setting it; 0o077 keeps others out meanwhile.
  umask = os.umask(0o077)
  os.umask(umask)
  return umask
