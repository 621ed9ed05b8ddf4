"""A polite end: the first SIGINT or SIGTERM lets the step in flight finish and be saved."""

import signal
from typing import Any


class StopSignal:
  """Context that notes the first signal; a second one interrupts at once.

  Clusters send SIGTERM before they take a machine away; ctrl-C is SIGINT.

  Attributes:
    received: number of the signal, None before.
  """

  def __init__(self) -> None:
    self.received: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "StopSignal":
    for number in (signal.SIGINT, signal.SIGTERM):
      try:
        self._previous[number] = signal.signal(number, self._note)
      except ValueError:  # Not the main thread: whoever runs us handles signals.
        break
    return self

  def _note(self, number: int, _frame: Any) -> None:
    if self.received is not None:
      raise KeyboardInterrupt  # A second request does not wait.
    self.received = number

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._previous.items():
      # None: a handler that was not set from Python (jax.distributed's), out of our reach now.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
