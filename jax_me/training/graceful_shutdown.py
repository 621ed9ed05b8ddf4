"""Graceful shutdown: on the first SIGINT or SIGTERM the current step finishes and is saved."""

import signal
import types
from typing import Any

from jax_me.command_errors import interrupt_again


class StopSignal:
  """Context manager that records the first signal; a second one ends the command at once.

  Clusters send SIGTERM before they reclaim a machine; Ctrl-C sends SIGINT.

  Attributes:
    received: number of the signal; None before it.
  """

  def __init__(self) -> None:
    self.received: int | None = None
    self._previous: dict[int, Any] = {}

  def __enter__(self) -> "StopSignal":
    for number in (signal.SIGINT, signal.SIGTERM):
      try:
        self._previous[number] = signal.signal(number, self._handle)
      except ValueError:  # Outside the main thread, where Python does not allow handlers.
        break
    return self

  def _handle(self, number: int, _frame: types.FrameType | None) -> None:
    if self.received is not None:
      interrupt_again()  # The user does not want to wait.
    self.received = number

  def __exit__(self, *_: Any) -> None:
    for number, handler in self._previous.items():
      # None: the handler was not set from Python (jax.distributed) and cannot be restored.
      signal.signal(number, signal.SIG_DFL if handler is None else handler)
