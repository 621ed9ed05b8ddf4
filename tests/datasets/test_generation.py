"""Base of the builders: fingerprint, atomicity, concurrency, order of records, no TensorFlow."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import pytest

from jax_me.data.index import make_index, read_index
from jax_me.datasets import catalog
from jax_me.datasets.generation import shard_writer, source_files
from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import BuilderOptions
from jax_me.datasets.generation.prepare import prepare_dataset
from jax_me.datasets.generation.tasks import Example, ReportRow, Split, TaskResult


def png(value: int, size: int = 8) -> bytes:
  return cv2.imencode(".png", np.full((size, size, 3), value, np.uint8))[1].tobytes()


@dataclasses.dataclass(frozen=True)
class ToyOptions(BuilderOptions):
  count: int = 6
  fault: str = ""


class Toy(FaceDataset[ToyOptions], skip_registration=True):
  name = "toy"
  Options = ToyOptions

  @classmethod
  def label_names(cls, options, manual_dir):
    return ("calm", "glad")

  def splits(self):
    tasks = [(number, self.options.fault) for number in range(self.options.count)]
    return {"train": Split(run_toy, tasks, self.options.count)}


def run_toy(task):
  number, fault = task
  example = Example(
    image=b"GIF89a" if fault == "gif" else png(number),
    label="cross" if fault == "label" else ("calm", "glad")[number % 2],
    file="same" if fault == "name" else f"{number}.png",
    subject=f"Zoë {number // 2}",
    clip="c",
    frame=number,
    onset=0,
    apex=2,
    offset=5,
    database="D",
  )
  return TaskResult((example,), (ReportRow(f"{number}.png", "ok"),))


class Copies(Toy, skip_registration=True):
  """Reads the user's files."""

  name = "copies"
  MANUAL_DOWNLOAD_INSTRUCTIONS = "Put a file there."


@pytest.mark.slow
def test_examples_come_back_in_order_with_their_index(tmp_path):
  builder = prepare_dataset(Toy, data_dir=tmp_path)
  source = builder.as_data_source("train")
  index = read_index(builder)
  assert len(source) == len(index) == 6
  for number, example in enumerate(source):
    assert (example["image"] == number).all() and example["image"].shape == (8, 8, 3)
    assert example["label"] == index.label[number] == number % 2
    assert example["file"].decode() == index.file[number] == f"{number}.png"
    assert example["subject"].decode() == index.subject[number] == f"Zoë {number // 2}"
    assert example["frame"] == index.frame[number] == number
    assert (example["onset"], example["apex"], example["offset"]) == (0, 2, 5)
  assert index.label_names == ("calm", "glad")
  assert index.class_counts() == {"calm": 3, "glad": 3}
  assert set(index.database) == {"D"} and set(index.apex) == {2} and set(index.split) == {"train"}
  assert list(index.take([4, 1]).file) == ["4.png", "1.png"]


@pytest.mark.slow
def test_second_call_reuses_the_build_unless_options_differ(tmp_path, monkeypatch):
  first = prepare_dataset(Toy, data_dir=tmp_path)
  with monkeypatch.context() as patch:
    patch.setattr(Toy, "splits", lambda self: pytest.fail("generated twice"))
    assert prepare_dataset(Toy, data_dir=tmp_path, workers=3).data_path == first.data_path
  other = prepare_dataset(Toy, data_dir=tmp_path, count=4)
  assert other.data_path != first.data_path
  assert len(read_index(other)) == 4 and len(read_index(first)) == 6


@pytest.mark.slow
def test_folder_holds_report_summary_and_fingerprint(tmp_path):
  folder = pathlib.Path(prepare_dataset(Toy, data_dir=tmp_path).data_path)
  rows = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
  expected = {"split": "train", "status": "ok"}
  assert rows == [{"file": f"{number}.png", **expected} for number in range(6)]
  summary = json.loads((folder / "summary.json").read_text())
  assert summary["examples"] == {"train": 6}
  assert summary["classes"] == {"calm": 3, "glad": 3}
  fingerprint = json.loads((folder / "identity.json").read_text())
  assert fingerprint["options"] == {"count": 6, "fault": ""}
  assert fingerprint["labels"] == ["calm", "glad"]


@pytest.mark.slow
def test_many_shards_keep_the_order(tmp_path, monkeypatch):
  monkeypatch.setattr(shard_writer, "SHARD_BYTES", 500)
  builder = prepare_dataset(Toy, data_dir=tmp_path, count=20)
  shards = sorted(pathlib.Path(builder.data_path).glob("*.array_record-*"))
  assert len(shards) > 3 and not list(pathlib.Path(builder.data_path).glob("*.part"))
  source = builder.as_data_source("train")
  assert [int(source[n]["frame"]) for n in (19, 0, 7)] == [19, 0, 7]


@pytest.mark.slow
@pytest.mark.parametrize(
  ("fault", "message"), [("label", "cross"), ("name", "same"), ("gif", "neither JPEG nor PNG")]
)
def test_invalid_example_is_named_and_leaves_nothing(tmp_path, fault, message):
  with pytest.raises(ValueError, match=message):
    prepare_dataset(Toy, data_dir=tmp_path, fault=fault)
  assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_nothing_usable_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="no usable image"):
    prepare_dataset(Toy, data_dir=tmp_path, count=0)


@pytest.mark.slow
def test_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
  class FullDisk:
    def __init__(self, path, options):
      pathlib.Path(path).write_bytes(b"half")

    def write(self, record):
      raise RuntimeError("write() failed: No space left on device; writing x")

  monkeypatch.setattr(shard_writer.array_record_module, "ArrayRecordWriter", FullDisk)
  with pytest.raises(OSError, match="disk is full"):
    prepare_dataset(Toy, data_dir=tmp_path)
  assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.slow
def test_unknown_names_suggest_the_nearest(tmp_path):
  with pytest.raises(ValueError, match="did you mean 'count'"):
    prepare_dataset(Toy, data_dir=tmp_path, conut=3)
  with pytest.raises(ValueError, match="labeled_images"):
    catalog.prepare("labelled", data_dir=str(tmp_path))
  with pytest.raises(ValueError, match="leave out manual_dir"):
    prepare_dataset(Toy, data_dir=tmp_path, manual_dir=tmp_path)
  with pytest.raises(ValueError, match="no split 'test'"):
    read_index(prepare_dataset(Toy, data_dir=tmp_path), "test")


@pytest.mark.slow
def test_manual_dir_is_part_of_the_fingerprint(tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  for folder in (one, two):
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    os.utime(folder / "a.txt", (1, 1))
  data = tmp_path / "data"
  with pytest.raises(ValueError, match="Put a file there"):
    prepare_dataset(Copies, data_dir=data)
  with pytest.raises(ValueError, match="not a folder"):
    prepare_dataset(Copies, data_dir=data, manual_dir=tmp_path / "none")
  first = prepare_dataset(Copies, data_dir=data, manual_dir=one)
  # The same files elsewhere are the same dataset; opening it needs no files.
  assert prepare_dataset(Copies, data_dir=data, manual_dir=two).data_path == first.data_path
  assert prepare_dataset(Copies, data_dir=data).data_path == first.data_path
  assert len(read_index(prepare_dataset(Copies, data_dir=data))) == 6
  (two / "a.txt").write_text("b")
  changed = prepare_dataset(Copies, data_dir=data, manual_dir=two)
  assert changed.data_path != first.data_path
  with pytest.raises(ValueError, match="2 builds"):
    prepare_dataset(Copies, data_dir=data)
  with pytest.raises(ValueError, match="needs manual_dir"):
    prepare_dataset(Copies, data_dir=data, count=5)


def test_hidden_files_and_broken_links(tmp_path):
  (tmp_path / "a.txt").write_text("a")
  before = source_files.fingerprint_folder(tmp_path)
  (tmp_path / ".DS_Store").write_text("x")
  assert source_files.fingerprint_folder(tmp_path) == before
  (tmp_path / "link").symlink_to(tmp_path / "gone")
  assert source_files.fingerprint_folder(tmp_path) != before


@pytest.mark.slow
def test_incomplete_folder_is_not_a_dataset(tmp_path):
  folder = pathlib.Path(prepare_dataset(Toy, data_dir=tmp_path).data_path)
  (folder / "dataset_info.json").unlink()
  with pytest.raises(ValueError, match="not a complete dataset"):
    prepare_dataset(Toy, data_dir=tmp_path)


def test_listing_the_builders_imports_none_of_them(repository):
  code = (
    "import sys, jax_me.datasets.catalog as b; assert len(b.BUILDERS) > 1; "
    "assert 'tensorflow_datasets' not in sys.modules"
  )
  environment = {**os.environ, "PYTHONPATH": str(repository)}
  subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)


@pytest.mark.slow
def test_index_of_nothing_and_of_partial_rows():
  assert len(make_index(("a",), [])) == 0
  index = make_index(("a",), [{"label": 0, "file": "x"}])
  assert (index.subject[0], index.frame[0], index.apex[0]) == ("", -1, -1)
