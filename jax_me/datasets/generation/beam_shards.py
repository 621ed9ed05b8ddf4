"""Shards of a build that the workers of an Apache Beam runner write.

One pipeline runs the tasks and encodes their records, a second one joins the records to shards.
Between them the launching process divides the tasks into shards: a boundary depends on the sizes
of all records before it, as in a build on one machine, so the shards are the same. Index, report
and metadata are then written from the descriptions of the shards, by the same code.
"""

import functools
import itertools
import json
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jax_me.beam.beam_runner import BeamRunner, Call
from jax_me.beam.exchange_files import StoredResult, remove_folder
from jax_me.datasets.generation import shard_writer
from jax_me.datasets.generation.record_encoder import EncodedTask, RecordEncoder
from jax_me.datasets.generation.shard_writer import OpenShard, Shard, SplitWriter
from jax_me.datasets.generation.tasks import Split, TaskResult, batches
from jax_me.files import write_atomically

# Of a call: some ten seconds of alignment, so that its start does not count.
TASKS_PER_CALL = 8
EXCHANGE_FOLDER = "beam"

# A stored result of the first pipeline, and the first and the last of its tasks that are used.
Part = tuple[StoredResult, int, int]


def write_shards(
  runner: BeamRunner,
  writers: Sequence[SplitWriter],
  splits: Mapping[str, Split],
  *,
  folder: pathlib.Path,
  source: pathlib.Path | None,
) -> None:
  """Writes the shards that a build lacks.

  Args:
    runner: the runner.
    writers: one per split, which know the finished shards.
    splits: the splits.
    folder: of the shards.
    source: folder of the user's files.

  Raises:
    ValueError: a task raised it, or two examples of a split have the same name.
    PipelineFailed: the runner gave up; what is finished is kept.
  """
  build = "-".join(folder.parts[-4:-1])  # dataset, variant, version
  exchange = f"{runner.exchange}/{build}" if runner.exchange else str(folder / EXCHANGE_FOLDER)
  calls: dict[str, list[Call]] = {}
  for writer in writers:
    split = splits[writer.name]
    groups = list(batches(split.tasks, TASKS_PER_CALL))[writer.tasks // TASKS_PER_CALL :]
    calls[writer.name] = [
      functools.partial(_encode_tasks, split.run, tuple(tasks), writer.encoder) for tasks in groups
    ]
  encoded = iter(runner.run(itertools.chain(*calls.values()), f"{exchange}/tasks", source=source))
  joins: list[Call] = []
  paths: list[tuple[pathlib.Path, pathlib.Path]] = []
  for writer in writers:
    results = list(itertools.islice(encoded, len(calls[writer.name])))
    for number, parts in enumerate(_divide(writer, results), writer.finished):
      joins.append(functools.partial(_join_parts, tuple(parts)))
      paths.append((writer.path(number), writer.path(number, ".json")))
  joined = runner.run(joins, f"{exchange}/shards")
  for result, (path, description) in zip(joined, paths, strict=True):
    content = result.description()
    size = Shard(**json.loads(content)).file_size
    # A process that was killed here may have moved the shard already.
    if size and not (path.is_file() and path.stat().st_size == size):
      result.move_content(path)
    write_atomically(description, content)
  for name in ("tasks", "shards"):
    remove_folder(f"{exchange}/{name}")


def _encode_tasks(
  run: Callable[[Any], TaskResult], tasks: Sequence[Any], encoder: RecordEncoder
) -> tuple[bytes, bytes]:
  """Runs tasks on a worker: a description of each, and all their records."""
  described: list[dict[str, Any]] = []
  records: list[bytes] = []
  for task in tasks:
    encoded = encoder.encode(run(task))
    sizes = [len(record) for record in encoded.records]
    described.append({**vars(encoded), "records": sizes})
    records += encoded.records
  return json.dumps(described).encode(), b"".join(records)


def _divide(writer: SplitWriter, results: Sequence[StoredResult]) -> Iterator[list[Part]]:
  """Divides the tasks of a split that have no shard into shards."""
  done = writer.tasks % TASKS_PER_CALL
  parts: list[Part] = []
  size = 0
  for result in results:
    for number, task in enumerate(json.loads(result.description())):
      if done:  # by an earlier process
        done -= 1
        continue
      writer.add_names(EncodedTask(**task))
      size += sum(task["records"])
      if parts and parts[-1][0] == result:
        parts[-1] = (result, parts[-1][1], number)
      else:
        parts.append((result, number, number))
      if size >= shard_writer.SHARD_BYTES:
        yield parts
        parts, size = [], 0
  if parts:
    yield parts


def _join_parts(parts: Sequence[Part]) -> tuple[bytes, bytes]:
  """Joins the records of tasks on a worker: the description of a shard, and its file."""
  with tempfile.TemporaryDirectory() as scratch:
    path = pathlib.Path(scratch, "shard.array_record")
    shard = OpenShard(path)
    for result, first, last in parts:
      for task in _read_tasks(result, first, last):
        shard.add(task)
    description = json.dumps(vars(shard.close())).encode()
    return description, path.read_bytes() if shard.shard.file_size else b""


def _read_tasks(result: StoredResult, first: int, last: int) -> Iterator[EncodedTask]:
  """Reads some of the tasks of a result of the first pipeline."""
  tasks = json.loads(result.description())
  sizes = [sum(task["records"]) for task in tasks]
  wanted = sum(sizes[first : last + 1])
  data = b""
  if wanted:
    with result.content() as file:
      file.seek(sum(sizes[:first]))
      data = file.read(wanted)
  if len(data) != wanted:
    raise OSError(f"{result.stem} is damaged")
  position = 0
  for task in tasks[first : last + 1]:
    ends = [*itertools.accumulate(task["records"], initial=position)]
    records = [data[start:end] for start, end in itertools.pairwise(ends)]
    position = ends[-1]
    yield EncodedTask(**{**task, "records": records})
