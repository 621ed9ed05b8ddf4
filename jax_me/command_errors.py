"""Errors of a command as one line, and ctrl-C: first an orderly end, then an immediate one.

`--debug` anywhere on the command line shows tracebacks, also those that libraries log.
"""

import _thread
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax_me.terminal import BAD, styled

DEBUG_FLAG = "--debug"
INTERRUPTED = 130  # Exit code of a command that is stopped by ctrl-C, as in shells.
# Libraries that log the traceback of an error that they raise as well.
_LOGGING_LIBRARIES = ("absl", "asyncio", "concurrent.futures")
_MAX_TEXT = 2000


class _Interrupts:
  """Handler of SIGINT: the first one raises KeyboardInterrupt, the second ends the process.

  While a module is imported, the first one waits: extension modules whose initialisation is
  interrupted end the process with SIGABRT or SIGSEGV, or with an ImportError.
  """

  installed = False
  count = 0
  _waits = False
  _sent_again = False

  def __call__(self, _: int, frame: types.FrameType | None) -> None:
    if self._sent_again:
      self._sent_again = False
    else:
      self.count += 1
    if self.count > 1:
      end_process()
    if _is_importing(frame):
      self.send_again()
    else:
      raise KeyboardInterrupt

  def send_again(self) -> None:
    """Sends the interrupt a moment later, from another thread."""
    if not self._waits:
      self._waits = True
      threading.Timer(0.01, self._send).start()

  def _send(self) -> None:
    self._waits, self._sent_again = False, True
    _interrupt_main_thread()


_INTERRUPTS = _Interrupts()


def install_interrupts() -> None:
  """Handles ctrl-C in this process, which is that of a command."""
  _INTERRUPTS.installed = True
  signal.signal(signal.SIGINT, _INTERRUPTS)
  sys.unraisablehook = _send_lost_interrupt_again


def _is_importing(frame: types.FrameType | None) -> bool:
  while frame is not None:
    if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
      return True
    frame = frame.f_back
  return False


def _send_lost_interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
  """Python prints and drops an exception in a finalizer or in a callback of the garbage collector.

  An interrupt that falls into one must end the command all the same.
  """
  if unraisable.exc_type is KeyboardInterrupt:
    _INTERRUPTS.send_again()
  else:
    sys.__unraisablehook__(unraisable)


def _interrupt_main_thread() -> None:
  if hasattr(signal, "pthread_kill"):  # Wakes a thread that waits for a lock.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
  else:
    _thread.interrupt_main()


def interrupt_again() -> None:
  """Ends the process of a command at once; elsewhere raises KeyboardInterrupt."""
  if _INTERRUPTS.installed:
    end_process()
  raise KeyboardInterrupt


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
  """Processes that this thread starts in the body of the `with` do not receive ctrl-C.

  A terminal sends it to all processes of a command. The parent decides what happens then, and an
  interpreter that is interrupted while it starts would print a traceback. Where the system has no
  signal masks, the new process has to ignore SIGINT itself.
  """
  if not hasattr(signal, "pthread_sigmask"):
    yield
    return
  previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def end_process() -> None:
  """Ends the process with the code of an interrupted command, without waiting for its threads."""
  os._exit(INTERRUPTED)


def run_command(
  function: Callable[[list[str]], int | None], arguments: Sequence[str], program: str
) -> int:
  """Runs a command whose unexpected errors are one line.

  Args:
    function: takes the command line without `--debug`, and returns the exit code; None is 0.
    arguments: the command line.
    program: the name before the message.

  Returns:
    the exit code: that of the function, 1 after an error, 130 after ctrl-C.
  """
  debug = DEBUG_FLAG in arguments
  rest = [argument for argument in arguments if argument != DEBUG_FLAG]
  try:
    if not debug:
      _quieten_libraries()
    return _ended(function(rest) or 0)
  except SystemExit as end:
    _ended(end.code)
    raise
  except KeyboardInterrupt:
    print(f"\n{program}: interrupted", file=sys.stderr, flush=True)
    return _ended(INTERRUPTED)
  except BrokenPipeError:  # The reader of our output, such as `head`, has ended.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1
  except ModuleNotFoundError:
    raise
  except Exception as error:
    if debug:
      raise
    print(
      styled(f"{program}:", BAD, sys.stderr), describe_error(error), file=sys.stderr, flush=True
    )
    return 1


def _ended(code: Any) -> Any:
  """The exit code; after ctrl-C the process of a command ends here.

  Otherwise a thread of a library could make it wait, and a second ctrl-C would find no handler.
  """
  if code == INTERRUPTED and _INTERRUPTS.installed:
    sys.stdout.flush()
    sys.stderr.flush()
    end_process()
  return code


def describe_error(error: BaseException) -> str:
  """One line about an error, with what to do."""
  text = " ".join(str(error).split())[:_MAX_TEXT]
  if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
    return f"the disk is full ({text}): free some space and run the same command again"
  if isinstance(error, MemoryError):
    return f"the memory is full ({text}): use smaller batches or fewer workers"
  ours = type(error).__module__.partition(".")[0] in ("jax_me", "convert")
  if ours or isinstance(error, OSError | ValueError):
    return text or type(error).__name__
  return (
    f"unexpected {type(error).__name__}: {text}. The same command with {DEBUG_FLAG} shows the "
    "traceback; please report it"
  )


def _quieten_libraries() -> None:
  """Keeps libraries from printing the tracebacks of errors that reach the command anyway."""
  for name in _LOGGING_LIBRARIES:
    logger = logging.getLogger(name)
    if _without_traceback not in logger.filters:
      logger.addFilter(_without_traceback)
  if _INTERRUPTS.installed:
    threading.excepthook = _ignore


def _without_traceback(record: logging.LogRecord) -> bool:
  return not record.exc_info


def _ignore(_: Any) -> None:
  """Errors of background threads, which the main thread raises again."""
