"""Progress display of long jobs: a bar on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0


class Progress:
  """Counts images; shows a bar with speed and time left on a terminal, else a line every 10 s."""

  def __init__(self, label: str, total: int | None, *, done: int = 0, quiet: bool = False):
    """Starts counting.

    Args:
      label: name shown before the numbers, for example "faces".
      total: number of images, None when unknown.
      done: images finished by an earlier run; they do not count towards the speed.
      quiet: show nothing.
    """
    self._label, self._total, self._done, self._first = label, total, done, done
    self._started = self._last_line = time.monotonic()
    self._bar: tqdm.tqdm | None = None
    self._quiet = quiet
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=total, initial=done, unit="image", desc=label, dynamic_ncols=True)

  def advance(self, count: int = 1) -> None:
    """Counts finished images."""
    if not count:  # without any, there is no speed to show
      return
    self._done += count
    if self._bar is not None:
      self._bar.update(count)
    elif not self._quiet and time.monotonic() - self._last_line >= LINE_SECONDS:
      self._last_line = time.monotonic()
      speed = (self._done - self._first) / (self._last_line - self._started)
      line = f"{self._done} images, {speed:.1f}/s"
      if self._total is not None:
        left = max(self._total - self._done, 0) / speed
        line = f"{self._done}/{self._total} images, {speed:.1f}/s, {left:.0f} s left"
      self._print(line)

  def close(self) -> None:
    """Ends the display; without a terminal a last line gives the total and the time."""
    if self._bar is not None:
      self._bar.close()
    elif not self._quiet:
      seconds = time.monotonic() - self._started
      self._print(f"{self._done - self._first} images in {seconds:.1f} s")

  def _print(self, line: str) -> None:
    print(f"{self._label}: {line}", file=sys.stderr, flush=True)


def show_progress(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
  """Yields the items unchanged while showing progress.

  Args:
    items: any iterable.
    label: name shown before the numbers.
    total: number of items, None when unknown.

  Yields:
    each item.
  """
  progress = Progress(label, total)
  try:
    for item in items:
      yield item
      progress.advance()
  finally:
    progress.close()
