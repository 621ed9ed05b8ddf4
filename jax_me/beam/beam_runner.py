"""Calls on the workers of an Apache Beam runner, whose results are files of one folder or bucket.

A call is pickled to the folder. A worker stores its result under a temporary name and renames it,
so a call that is repeated, or runs twice at once, gives the same file. Finished results are not
computed again: an interrupted pipeline continues. Apache Beam is imported in this package only.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import importlib.util
import json
import logging
import os
import pathlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jax_me.beam.exchange_files import (
  StoredResult,
  create_file,
  exists,
  file_names,
  is_remote,
  open_file,
  read_whole,
  write_whole,
)
from jax_me.bounded_reading import reading_elsewhere

logger = logging.getLogger(__name__)

# (description, content): the launching process reads the first, and only moves the second.
Call = Callable[[], tuple[bytes, bytes]]

_LIST, _CALLS, _ERROR = "calls.lines", "calls.pickle", "error.txt"


class PipelineFailed(RuntimeError):
  """The pipeline did not finish; what its workers finished is kept."""


@dataclasses.dataclass(frozen=True)
class BeamRunner:
  """A runner of Apache Beam.

  Attributes:
    name: of the runner, such as "DirectRunner".
    options: options of the pipeline, such as "--parallelism=64".
    exchange: bucket through which workers and launching process exchange files; "" for a folder
      inside the output, which all workers must see then.
    source: bucket from which the workers read the input; "" if they see the input folder.
  """

  name: str
  options: tuple[str, ...] = ()
  exchange: str = ""
  source: str = ""

  def run(
    self, calls: Iterable[Call], folder: str, *, source: pathlib.Path | None = None
  ) -> "list[StoredResult]":
    """Runs calls on the workers, except those whose results are in the folder.

    Args:
      calls: functions without arguments, which pickle.
      folder: for the results: a path, or the address of a folder in a bucket.
      source: folder that the calls read.

    Returns:
      The results, in the order of the calls.

    Raises:
      ValueError: a call raised it; calls that had not begun are skipped.
      PipelineFailed: the runner gave up.
    """
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions([f"--runner={self.name}", *self.options])
    FileSystems.set_options(options)
    if not is_remote(folder):
      os.makedirs(folder, exist_ok=True)
    present = file_names(folder)
    results, lines, position = [], [], 0
    with create_file(f"{folder}/{_CALLS}") as file:
      for number, call in enumerate(calls):
        data = pickle.dumps(call)
        digest = hashlib.sha256(data).hexdigest()
        results.append(StoredResult(f"{folder}/{number:06d}-{digest[:16]}"))
        if results[-1].name not in present:
          file.write(data)
          lines.append(json.dumps([results[-1].stem, position, len(data), digest]))
          position += len(data)
    if _ERROR in present:
      FileSystems.delete([f"{folder}/{_ERROR}"])
    if lines:
      logger.info("%s: %d of %d bundles to do", self.name, len(lines), len(results))
      listed = "\n".join(lines).encode()
      write_whole(f"{folder}/{_LIST}", listed)
      work = _Work(folder, hashlib.sha256(listed).hexdigest(), str(source or ""), self.source)
      self._run_pipeline(work, options)
      present = file_names(folder)
    if _ERROR in present:
      raise ValueError(read_whole(f"{folder}/{_ERROR}").decode())
    if missing := sum(result.name not in present for result in results):
      raise PipelineFailed(
        f"{self.name} ended without {missing} of {len(results)} results in {folder}; the workers "
        "must see this folder under the same name"
      )
    return results

  def _run_pipeline(self, work: "_Work", options: Any) -> None:
    import apache_beam as beam

    try:
      pipeline = beam.Pipeline(options=options)
      # The graph holds the name of the list only: runners limit its size.
      calls = pipeline | beam.Create([work]) | beam.FlatMap(_list_calls) | beam.Reshuffle()
      calls | "Call" >> beam.Map(_run_call)
      running = pipeline.run()
      try:
        state = running.wait_until_finish()
      except BaseException:
        with contextlib.suppress(Exception):
          running.cancel()
        raise
    except Exception as error:
      if isinstance(error.__context__, KeyboardInterrupt):  # of a call in this process
        raise error.__context__ from None
      # Of a traceback that a worker sent, the last line is the error.
      reason = [repr(error), *filter(None, map(str.strip, str(error).splitlines()))][-1]
      raise PipelineFailed(
        f"the pipeline failed on {self.name} ({reason}); the same command continues it"
      ) from error
    if state != "DONE":
      raise PipelineFailed(
        f"the pipeline ended as {state} on {self.name}; the same command continues it"
      )


@dataclasses.dataclass(frozen=True)
class _Work:
  """The element of a pipeline: where its calls are listed, and where they read.

  Attributes:
    folder: folder of the calls and their results.
    digest: SHA-256 of the list.
    source: folder that the calls read, "" for none.
    bucket: see `BeamRunner.source`.
  """

  folder: str
  digest: str
  source: str
  bucket: str


def _list_calls(work: _Work) -> Iterator[tuple[_Work, str]]:
  lines = _checked(read_whole(f"{work.folder}/{_LIST}"), work.digest, _LIST)
  for line in lines.decode().splitlines():
    yield work, line


def _run_call(element: tuple[_Work, str]) -> None:
  """Runs one call, on a worker."""
  import cv2

  cv2.setNumThreads(1)  # runners start one process, or one thread, per core
  work, line = element
  stem, position, length, digest = json.loads(line)
  result = StoredResult(stem)
  if result.is_complete() or exists(f"{work.folder}/{_ERROR}"):
    return
  with open_file(f"{work.folder}/{_CALLS}") as file:
    file.seek(position)
    data = _checked(file.read(length), digest, _CALLS)
  if work.bucket:
    place: contextlib.AbstractContextManager = reading_elsewhere(
      functools.partial(_read_from_bucket, work)
    )
  else:
    _check_mounted(work.source)
    place = contextlib.nullcontext()
  try:
    with place:
      description, content = pickle.loads(data)()
  except ValueError as error:  # the files are unusable: another attempt would not help
    write_whole(f"{work.folder}/{_ERROR}", str(error).encode())
    return
  result.write(description, content)


def _checked(data: bytes, digest: str, name: str) -> bytes:
  """Refuses what the launching process did not write: a pickle can contain any code."""
  if hashlib.sha256(data).hexdigest() != digest:
    raise OSError(f"{name} is not what the launching process wrote")
  return data


def _check_mounted(folder: str) -> None:
  """Fails where a folder is not mounted, instead of a report in which all files are missing."""
  if folder:
    with os.scandir(folder) as entries:
      if next(entries, None) is None:
        raise FileNotFoundError(f"{folder} is empty on this worker; is it mounted?")


def _read_from_bucket(work: _Work, path: str, limit: int) -> bytes | None:
  """Content of a file of the source; None for any other file."""
  if not path.startswith(work.source + os.sep):
    return None
  name = os.path.relpath(path, work.source).replace(os.sep, "/")
  address = f"{work.bucket}/{name}"
  if not exists(address):
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
  with open_file(address) as file:
    data = file.read(limit + 1)
  if len(data) > limit:
    raise OSError(errno.EFBIG, f"it has more than the {limit / 2**20:.0f} MiB allowed", path)
  return data


def check_runner(name: str) -> None:
  """Checks that Beam has a runner and what it needs.

  Raises:
    ValueError: Beam or a package of the runner is not installed, or there is no such runner.
  """
  if importlib.util.find_spec("apache_beam") is None:
    raise ValueError(
      "--beam_runner needs Apache Beam, which this environment does not have: pip install -r "
      "requirements-beam.txt in an environment of its own (docs/beam.md)"
    )
  from apache_beam.runners.runner import create_runner

  try:
    create_runner(name)
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(f"--beam_runner={name}: {error}") from error
