"""Lock that lets one process build a dataset while others wait."""

import contextlib
import fcntl
import logging
import pathlib
from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def build_lock(path: pathlib.Path) -> Iterator[None]:
  """Holds an exclusive lock; the system releases it even when the process is killed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open("a") as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      logger.info("another process is generating this dataset (%s): waiting", path)
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
