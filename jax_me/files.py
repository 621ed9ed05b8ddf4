"""Atomic writes of files and folders, and exclusive locks, between processes that may be killed."""

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator

_STAGING_SUFFIX = ".staging"
_PARTIAL_SUFFIX = ".partial"


def write_atomically(
  path: str | os.PathLike[str],
  content: bytes,
  *,
  scratch: str | os.PathLike[str] | None = None,
) -> None:
  """Writes `content` to a temporary file and renames it to `path`; safe even against kill -9.

  A reader finds either the old content or the new, never a partial file.

  Args:
    path: the file to write; missing parent folders are created.
    content: the whole content.
    scratch: folder on the same file system for the temporary file. None uses the folder of `path`
      and flushes the file to disk, which would be slow for many images.

  Raises:
    OSError: disk full or no permission; `path` is unchanged and the temporary file is removed.
  """
  target = pathlib.Path(path)
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(
    dir=target.parent if scratch is None else scratch,
    prefix=f".{target.name}.",
    suffix=_PARTIAL_SUFFIX,
  )
  try:
    with os.fdopen(handle, "wb") as file:
      file.write(content)
      if scratch is None:
        file.flush()
        os.fsync(file.fileno())
    give_ordinary_permissions(temporary)  # mkstemp creates private files.
    os.replace(temporary, target)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise


def has_files(folder: pathlib.Path) -> bool:
  """Whether anything but what a killed `write_atomically` leaves is below a folder."""
  return any(
    not path.is_dir() and not (path.name.startswith(".") and path.suffix == _PARTIAL_SUFFIX)
    for path in folder.rglob("*")
  )


def give_ordinary_permissions(path: str | os.PathLike[str]) -> None:
  """Gives a file the permissions of an ordinary new file, for writers that create private ones."""
  # The umask can only be read by setting it; 0o077 is the safe value in between.
  umask = os.umask(0o077)
  os.umask(umask)
  os.chmod(path, 0o666 & ~umask)


@contextlib.contextmanager
def exclusive_lock(path: str | os.PathLike[str], when_busy: Callable[[], None]) -> Iterator[None]:
  """Holds an exclusive lock, which the system releases even when the process is killed.

  There is no lock on Windows and on file systems without locks.

  Args:
    path: an existing folder, or a file, which is created.
    when_busy: called if another process holds the lock; it raises, or returns to wait.
  """
  try:
    import fcntl
  except ImportError:
    yield
    return
  # On network file systems only a file that is open for writing can be locked.
  flags = os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT
  handle = os.open(path, flags, 0o666)
  try:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      when_busy()
      fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError:
      pass
    yield
  finally:
    os.close(handle)


@contextlib.contextmanager
def staging_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder beside `target` in which it is written, to be renamed; it is removed at the end.

  Those that killed processes left for this target are removed.

  Args:
    target: the folder or file to write; missing parent folders are created.

  Yields:
    the folder.

  Raises:
    OSError: no permission, or the disk is full.
  """
  target.parent.mkdir(parents=True, exist_ok=True)
  for old in target.parent.glob(f".{glob.escape(target.name)}.*{_STAGING_SUFFIX}"):
    with contextlib.suppress(OSError), exclusive_lock(old, _refuse):
      shutil.rmtree(old, ignore_errors=True)
  staging = tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=_STAGING_SUFFIX)
  os.chmod(staging, 0o755)  # mkdtemp creates private folders.
  try:
    with exclusive_lock(staging, _refuse):
      yield pathlib.Path(staging)
  finally:
    shutil.rmtree(staging, ignore_errors=True)


def _refuse() -> None:
  raise BlockingIOError
