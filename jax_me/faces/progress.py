"""Progress of long work: a bar on a terminal, now and then a line elsewhere."""

import sys
import time

import tqdm

LINE_SECONDS = 10.0


class Progress:
  """Counts pictures. On a terminal a bar with pictures/s and time left, else a line every 10 s."""

  def __init__(self, total: int, *, done: int = 0, quiet: bool = False):
    """Starts counting.

    Args:
      total: number of pictures.
      done: how many an earlier run has finished; they do not count towards the speed.
      quiet: show nothing.
    """
    self._total, self._done, self._first = total, done, done
    self._started = self._shown = time.monotonic()
    self._bar: tqdm.tqdm | None = None
    self._quiet = quiet
    if not quiet and sys.stderr.isatty():
      self._bar = tqdm.tqdm(total=total, initial=done, unit="image", desc="faces")

  def advance(self) -> None:
    """Counts one more picture."""
    self._done += 1
    if self._bar is not None:
      self._bar.update()
    elif not self._quiet and time.monotonic() - self._shown >= LINE_SECONDS:
      self._shown = time.monotonic()
      speed = (self._done - self._first) / (self._shown - self._started)
      left = (self._total - self._done) / speed
      print(
        f"faces: {self._done}/{self._total} images, {speed:.1f}/s, {left:.0f} s left",
        file=sys.stderr,
        flush=True,
      )

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()
