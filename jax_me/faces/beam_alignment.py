"""Alignment of the images of a folder by the workers of an Apache Beam runner."""

import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

from jax_me.beam.beam_runner import BeamRunner
from jax_me.beam.exchange_files import StoredResult
from jax_me.faces.alignment_report import ReportRow
from jax_me.faces.alignment_task import AlignmentSettings, OutputError, run_task
from jax_me.faces.input_files import AlignmentTask, SourceFile
from jax_me.files import write_atomically

# Of a call: some ten seconds of work, so that its start does not count.
IMAGES_PER_CALL = 256


def exchange_folder(settings: AlignmentSettings, runner: BeamRunner | None) -> str:
  """Folder of the workers' results, which is removed when the report is finished."""
  if runner is None or not runner.exchange:
    return f"{settings.output}/.faces-beam"
  return f"{runner.exchange}/faces-{hashlib.sha256(settings.output.encode()).hexdigest()[:12]}"


def align_on_beam(
  runner: BeamRunner,
  tasks: Iterable[AlignmentTask],
  sources: Mapping[str, SourceFile],
  settings: AlignmentSettings,
) -> Generator[ReportRow]:
  """Aligns and writes the images of tasks.

  Args:
    runner: the runner.
    tasks: the photographs and clips.
    sources: file of every name in the tasks.
    settings: settings of the run.

  Yields:
    The report rows.

  Raises:
    OutputError: a result cannot be written.
    PipelineFailed: the runner gave up; what is finished is kept.
  """
  packs = bool(runner.exchange)
  # A changed file is another call: its earlier result is not used.
  calls = (
    functools.partial(
      _align, group, [sources[name] for task in group for name in task.names], settings, packs
    )
    for group in _groups(tasks)
  )
  folder = exchange_folder(settings, runner)
  for result in runner.run(calls, folder, source=pathlib.Path(settings.input)):
    rows, sizes = json.loads(result.description())
    if sizes:
      _unpack(result, [row["output"] for row in rows if row["output"] is not None], sizes, settings)
    yield from rows


def _groups(tasks: Iterable[AlignmentTask]) -> Iterator[list[AlignmentTask]]:
  """Divides the tasks into calls; a clip is never divided."""
  group: list[AlignmentTask] = []
  number = 0
  for task in tasks:
    group.append(task)
    number += len(task.names)
    if number >= IMAGES_PER_CALL:
      yield group
      group, number = [], 0
  if group:
    yield group


def _align(
  tasks: Sequence[AlignmentTask],
  sources: Sequence[SourceFile],
  settings: AlignmentSettings,
  packs: bool,
) -> tuple[bytes, bytes]:
  """Aligns images on a worker: their rows, and if the worker packs them the aligned faces."""
  del sources
  with tempfile.TemporaryDirectory() as scratch:
    if packs:
      settings = dataclasses.replace(settings, output=scratch)
      settings.scratch.mkdir()
    try:
      rows = list(itertools.chain.from_iterable(run_task(task, settings) for task in tasks))
    except OutputError as error:  # another attempt may help, unlike after other ValueErrors
      raise OSError(str(error)) from error
    faces = []
    if packs:
      outputs = (row["output"] for row in rows if row["output"] is not None)
      faces = [pathlib.Path(scratch, output).read_bytes() for output in outputs]
  return json.dumps([rows, list(map(len, faces))]).encode(), b"".join(faces)


def _unpack(
  result: StoredResult, outputs: Sequence[str], sizes: Sequence[int], settings: AlignmentSettings
) -> None:
  """Writes the aligned faces that a worker packed."""
  with result.content() as file:
    for output, size in zip(outputs, sizes, strict=True):
      path = pathlib.Path(settings.output, output)
      try:
        write_atomically(path, file.read(size), scratch=settings.scratch)
      except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
