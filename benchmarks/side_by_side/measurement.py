"""Interleaved timing of programs in one process, and the ratios of their speeds."""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from jax_me.cpu_cores import available_cores

OURS = "ours"
# The OpenMP threads of torch wait busily for some milliseconds after a call.
PAUSE = 0.05
# Several calls in a row, where they are short, so that each side finds its data in the cache.
VISIT_SECONDS = 0.5
FEWEST_TURNS = 3
MOST_TURNS = 40
# A machine is quiet while other programs take at most this share of its processor time.
QUIET = 0.1


@dataclasses.dataclass(frozen=True)
class Turn:
  """One visit to every program.

  Attributes:
    seconds: per call, by name of the program.
    processor_seconds: of all threads of this process, per call.
    other_load: share of the processor time that other programs took, in [0, 1].
  """

  seconds: Mapping[str, float]
  processor_seconds: Mapping[str, float]
  other_load: float


def measure(runs: Mapping[str, Callable[[int], None]], seconds: float) -> list[Turn]:
  """Runs all programs in turns.

  Args:
    runs: {name: function that executes the program a number of times and waits}.
    seconds: to be spent; at least `FEWEST_TURNS` turns are made.

  Returns:
    The turns on a quiet machine, if there are enough of them, else all.
  """
  # The first call is slower, which makes the number of calls a low estimate.
  calls = {name: max(1, round(VISIT_SECONDS / _timed(run, 1)[0])) for name, run in runs.items()}
  names, turns = list(runs), []
  started = time.perf_counter()
  for number in itertools.count():
    late = time.perf_counter() - started > seconds
    if number == MOST_TURNS or (number >= FEWEST_TURNS and late):
      break
    first = number % len(names)
    load, times = _OtherLoad(), {}
    for name in names[first:] + names[:first]:
      time.sleep(PAUSE)
      times[name] = _timed(runs[name], calls[name])
    wall, processor = ({name: pair[i] for name, pair in times.items()} for i in (0, 1))
    turns.append(Turn(wall, processor, load.share()))
  quiet = [turn for turn in turns if turn.other_load <= QUIET]
  return quiet if len(quiet) >= FEWEST_TURNS else turns


def _timed(run: Callable[[int], None], calls: int) -> tuple[float, float]:
  """Seconds and processor seconds per call."""
  wall, processor = time.perf_counter(), time.process_time()
  run(calls)
  return (time.perf_counter() - wall) / calls, (time.process_time() - processor) / calls


def summarize(turns: list[Turn], batch: int, *, on_cpu: bool) -> dict[str, Any]:
  """Medians and ratios of the turns of `measure`.

  A ratio is that of the images a second of ours to those of a peer in the same turn: above 1, ours
  is faster.

  Args:
    turns: with `OURS` among the names.
    batch: images per call.
    on_cpu: add the ratios of processor time (theirs to ours), which other programs disturb less.

  Returns:
    `turns` (number), `other_load` (mean share), `images_per_second` {name: median}, `ratios`
    {peer: {"median", "low", "high"}}, where low and high are the quartiles, and
    `processor_time_ratios` {peer: median}.
  """
  peers = [name for name in turns[0].seconds if name != OURS]
  result: dict[str, Any] = {
    "turns": len(turns),
    "other_load": round(statistics.mean(turn.other_load for turn in turns), 3),
    "images_per_second": {
      name: float(f"{batch / statistics.median(turn.seconds[name] for turn in turns):.4g}")
      for name in (OURS, *peers)
    },
    "ratios": {},
  }
  for name in peers:
    ratios = [turn.seconds[name] / turn.seconds[OURS] for turn in turns]
    quartiles = statistics.quantiles(ratios, n=4, method="inclusive")
    keys = ("low", "median", "high")
    result["ratios"][name] = {k: round(v, 3) for k, v in zip(keys, quartiles, strict=True)}
  if on_cpu:
    result["processor_time_ratios"] = {
      name: round(
        statistics.median(t.processor_seconds[name] / t.processor_seconds[OURS] for t in turns), 3
      )
      for name in peers
    }
  return result


class _OtherLoad:
  """Share of the processor time that other programs take, from its construction on."""

  def __init__(self) -> None:
    self._started = time.perf_counter()
    self._before = _busy_seconds()

  def share(self) -> float:
    """In [0, 1], of the cores that this process may use."""
    total, own = (
      after - before for after, before in zip(_busy_seconds(), self._before, strict=True)
    )
    available = available_cores() * (time.perf_counter() - self._started)
    return min(1.0, max(0.0, total - own) / available)


def _busy_seconds() -> tuple[float, float]:
  """Processor time of all programs, and of this one."""
  machine = psutil.cpu_times()
  return sum(machine) - machine.idle - getattr(machine, "iowait", 0.0), time.process_time()
