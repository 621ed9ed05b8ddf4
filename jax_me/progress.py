"""Progress display of long jobs: a bar on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

import tqdm

T = TypeVar("T")

LINE_SECONDS = 10.0
FIRST_LINE_SECONDS = 2.0


class Progress:
  """Counts images or steps; shows speed and time left in a bar on a terminal, else in lines."""

  def __init__(
    self, label: str, total: int | None, *, unit: str = "image", done: int = 0, quiet: bool = False
  ):
    """Starts counting.

    Args:
      label: name shown before the numbers, for example "faces".
      total: number of images, None when unknown.
      unit: what is counted, in the singular.
      done: images finished by an earlier run; they do not count towards the speed.
      quiet: show nothing.
    """
    self._label, self._total, self._unit, self._quiet = label, total, unit, quiet
    self._done = self._first = done
    self._started = time.monotonic()
    # Number and time from which the speed is measured: the first items take longer, as programs are
    # compiled and processes started.
    self._measured_from: tuple[int, float] | None = None
    self._next_line = self._started + min(FIRST_LINE_SECONDS, LINE_SECONDS)
    self._bar: tqdm.tqdm | None = None
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=total, initial=done, unit=unit, desc=label, dynamic_ncols=True)

  def advance(self, count: int = 1, **values: str) -> None:
    """Counts what is finished; the values follow the numbers, for example the loss."""
    if not count:  # without any, there is no speed to show
      return
    self._done += count
    if self._measured_from is None:
      self._measured_from = self._done, time.monotonic()
    if self._bar is not None:
      self._bar.set_postfix(values, refresh=False)
      self._bar.update(count)
    elif not self._quiet and time.monotonic() >= self._next_line:
      self._next_line = time.monotonic() + LINE_SECONDS
      total = "" if self._total is None else f"/{self._total}"
      line = f"{self._done}{total} {self._unit}s"
      first, since = self._measured_from
      if self._done > first:
        speed = (self._done - first) / max(time.monotonic() - since, 1e-9)
        line += f", {speed:.1f}/s"
        if self._total is not None:
          line += f", {max(self._total - self._done, 0) / speed:.0f} s left"
      shown = "".join(f", {name} {value}" for name, value in values.items())
      self.print_line(f"{self._label}: {line}{shown}")

  def go_to(self, done: int) -> None:
    """Continues at an earlier or later number, from which the speed is measured anew."""
    self._done = self._first = done
    self._started, self._measured_from = time.monotonic(), None
    if self._bar is not None:
      self._bar.n = self._bar.initial = self._bar.last_print_n = done
      self._bar.start_t = self._bar.last_print_t = time.time()
      self._bar.refresh()

  def skip(self, count: int) -> None:
    """Counts what was finished by an earlier run."""
    self.go_to(self._done + count)

  def print_line(self, line: str) -> None:
    """Prints a line, above the bar if there is one."""
    if self._bar is not None:
      self._bar.write(line, file=sys.stderr)
    elif not self._quiet:
      print(line, file=sys.stderr, flush=True)

  def close(self) -> None:
    """Ends the display; without a terminal a last line gives the total and the time."""
    if self._bar is not None:
      self._bar.close()
    elif not self._quiet:
      seconds = time.monotonic() - self._started
      self.print_line(f"{self._label}: {self._done - self._first} {self._unit}s in {seconds:.1f} s")


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
