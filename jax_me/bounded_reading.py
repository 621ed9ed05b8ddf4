"""Bounded reading of files from elsewhere: regular files only, of a limited size, in limited time.

A pipe, a device or a socket could block forever or have no end.
"""

import contextlib
import contextvars
import errno
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator

MAX_FILE_BYTES = 2**28
# Not for slow decoders, but for file systems that do not answer: far above what a loaded machine
# needs, so that the content of a dataset does not depend on the load.
FILE_SECONDS = 600.0

_KINDS = (
  (stat.S_ISFIFO, "a pipe"),
  (stat.S_ISSOCK, "a socket"),
  (stat.S_ISCHR, "a device"),
  (stat.S_ISBLK, "a device"),
  (stat.S_ISDIR, "a folder"),
)


# (path, limit) -> content, or None for a file that this machine has.
Reader = Callable[[str, int], bytes | None]
_READER = contextvars.ContextVar[Reader | None]("reader", default=None)


class FileTooSlow(OSError):
  """Reading and decoding of a file took longer than allowed."""


def read_file(path: str | os.PathLike[str], limit: int = MAX_FILE_BYTES) -> bytes:
  """Content of a regular file.

  Args:
    path: the file, or a link to it.
    limit: greatest size in bytes.

  Raises:
    OSError: missing, no permission, a loop of links, not a regular file, or larger than `limit`.
  """
  if (reader := _READER.get()) and (content := reader(os.fspath(path), limit)) is not None:
    return content
  # Opening a pipe would wait for a writer.
  handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
  with os.fdopen(handle, "rb") as file:
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
      kind = next((name for test, name in _KINDS if test(status.st_mode)), "a special file")
      raise OSError(errno.EINVAL, f"it is {kind}, not a file", os.fspath(path))
    data = file.read(limit + 1)
  if len(data) > limit:
    size = f"{max(status.st_size, len(data)) / 2**20:.0f} MiB"
    raise OSError(
      errno.EFBIG, f"{size} are more than the {limit / 2**20:.0f} allowed", os.fspath(path)
    )
  return data


@contextlib.contextmanager
def reading_elsewhere(reader: Reader) -> Iterator[None]:
  """Lets `read_file` in the body ask a reader first, on a machine that lacks the folder."""
  token = _READER.set(reader)
  try:
    yield
  finally:
    _READER.reset(token)


@contextlib.contextmanager
def time_limit(seconds: float = FILE_SECONDS) -> Iterator[None]:
  """Ends the body after some time; without effect outside the main thread and on Windows.

  Args:
    seconds: the time.

  Yields:
    nothing.

  Raises:
    FileTooSlow: the body took longer.
  """
  if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
    yield
    return

  def stop(*_: object) -> None:
    raise FileTooSlow(errno.ETIMEDOUT, f"reading it took longer than {seconds:g} s")

  previous = signal.signal(signal.SIGALRM, stop)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


def leaves_folder(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> bool:
  """Whether a path is a link to something outside a folder.

  Args:
    path: below the folder.
    folder: may be a link itself.
  """
  if not os.path.islink(path):
    return False
  root = os.path.realpath(folder)
  return os.path.commonpath([root, os.path.realpath(path)]) != root
