"""Progress of long work: a bar on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0


class Progress:
  """Counts pictures. On a terminal a bar with pictures/s and time left, else a line every 10 s."""

  def __init__(self, what: str, total: int | None, *, done: int = 0, quiet: bool = False):
    """Starts counting.

    Args:
      what: the name shown, for example "faces".
      total: number of pictures, None when unknown.
      done: how many an earlier run has finished; they do not count towards the speed.
      quiet: show nothing.
    """
    self._what, self._total, self._done, self._first = what, total, done, done
    self._started = self._shown = time.monotonic()
    self._bar: tqdm.tqdm | None = None
    self._quiet = quiet
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=total, initial=done, unit="image", desc=what, dynamic_ncols=True)

  def advance(self) -> None:
    """Counts one more picture."""
    self._done += 1
    if self._bar is not None:
      self._bar.update()
    elif not self._quiet and time.monotonic() - self._shown >= LINE_SECONDS:
      self._shown = time.monotonic()
      speed = (self._done - self._first) / (self._shown - self._started)
      line = f"{self._done} images, {speed:.1f}/s"
      if self._total is not None:
        left = max(self._total - self._done, 0) / speed
        line = f"{self._done}/{self._total} images, {speed:.1f}/s, {left:.0f} s left"
      self._print(line)

  def close(self) -> None:
    """Ends the bar; the last line tells how many there were."""
    if self._bar is not None:
      self._bar.close()
    elif not self._quiet:
      seconds = time.monotonic() - self._started
      self._print(f"{self._done - self._first} images in {seconds:.1f} s")

  def _print(self, line: str) -> None:
    print(f"{self._what}: {line}", file=sys.stderr, flush=True)


def show_progress(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
  """Passes items through and shows their number; see `Progress` for the arguments."""
  progress = Progress(what, total)
  try:
    for item in items:
      yield item
      progress.advance()
  finally:
    progress.close()
