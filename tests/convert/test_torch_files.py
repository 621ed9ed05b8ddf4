"""Reading of checkpoint files: formats, containers, element types, rejected files."""

import collections
import pathlib
import pickle
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from convert.errors import ConversionError
from convert.torch_files import read_checkpoint, read_torch_checkpoint
from tests.helpers import checkpoint_files as files

torch = pytest.importorskip("torch", reason="the checkpoints are written by torch")


def assert_same(actual, desired):
  assert list(actual) == list(desired)
  for key, value in desired.items():
    assert actual[key].dtype == np.float32
    np.testing.assert_array_equal(actual[key], value)


@pytest.fixture(scope="module")
def arrays():
  return files.vit_arrays()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
  ("wrap", "container"),
  [
    (lambda s: s, "bare state dict"),
    (lambda s: {"state_dict_ema": s}, "state_dict_ema"),
    (lambda s: {"state_dict": s}, "state_dict"),
    (
      lambda s: {"model": s, "optimizer": {}, "epoch": 9, "args": files.training_arguments()},
      "model",
    ),
    (
      lambda s: {"epoch": 1, "train_loss": 0.5, "model_state_dict": s, "amp": {"scale": 65536.0}},
      "model_state_dict",
    ),
  ],
  ids=["bare", "ema", "state_dict", "mae", "sfer"],
)
def test_containers_give_the_same_arrays(tmp_path, arrays, legacy, wrap, container):
  for prefix in ("", "module."):
    content = wrap(files.state_dict(arrays, prefix))
    checkpoint = read_checkpoint(files.save_torch(content, tmp_path / "c.pth", legacy=legacy))
    assert_same(checkpoint.arrays, arrays)
    assert checkpoint.container == container
    assert checkpoint.format == ("torch legacy" if legacy else "torch zip")
    assert checkpoint.weights == ("ema" if "ema" in container else "raw")


def test_ema_is_preferred_and_raw_can_be_requested(tmp_path, arrays):
  averaged = files.vit_arrays(seed=1)
  for raw_key, ema_key in (("state_dict", "state_dict_ema"), ("model", "model_ema")):
    content = {raw_key: files.state_dict(arrays), ema_key: files.state_dict(averaged, "module.")}
    path = files.save_torch(content, tmp_path / "both.pth")
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.arrays, averaged)
    assert checkpoint.weights == "ema"
    assert any(raw_key in note and ema_key in note for note in checkpoint.notes)
    assert_same(read_checkpoint(path, prefer="raw").arrays, arrays)
  empty = {"state_dict": files.state_dict(arrays), "state_dict_ema": None}
  assert_same(read_torch_checkpoint(files.save_torch(empty, tmp_path / "none.pth")), arrays)


@pytest.mark.slow
def test_training_save_with_optimizer_and_arguments(tmp_path, arrays):
  state = files.state_dict(arrays)
  parameters = [torch.nn.Parameter(t.clone()) for t in state.values()]
  optimizer = torch.optim.AdamW(parameters)
  sum((p**2).sum() for p in parameters).backward()
  optimizer.step()
  schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [35, 65])
  content = {
    "epoch": 3,
    "arch": "vit_tiny_patch16",
    "state_dict": state,
    "optimizer": optimizer.state_dict(),
    "schedule": schedule.state_dict(),
    "args": files.training_arguments(),
    "metric": 12.5,
  }
  for legacy in (False, True):
    checkpoint = read_checkpoint(files.save_torch(content, tmp_path / "t.pth", legacy=legacy))
    assert_same(checkpoint.arrays, arrays)
    assert checkpoint.metadata == {
      "arch": "vit_tiny_patch16",
      "epoch": 3,
      "args.model": "vit_tiny",
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, arrays, protocol):
  for legacy in (False, True):
    path = tmp_path / "p.pth"
    torch.save(
      {"model": files.state_dict(arrays)},
      path,
      pickle_protocol=protocol,
      _use_new_zipfile_serialization=not legacy,
    )
    assert_same(read_torch_checkpoint(path), arrays)


def test_parameters_views_and_tied_storages(tmp_path):
  base = torch.arange(24.0).reshape(4, 6)
  content = {
    "whole": torch.nn.Parameter(base),
    "tied": base,
    "transposed": base.T,
    "row": base[2],
    "columns": base[:, 1:4],
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
  }
  for legacy in (False, True):
    read = read_torch_checkpoint(files.save_torch(content, tmp_path / "v.pth", legacy=legacy))
    assert_same(read, {k: v.detach().numpy() for k, v in content.items()})
    read["tied"][:] = 0  # the arrays are the reader's own, not views of each other
    assert read["whole"].sum() == base.sum()


def test_other_float_types_are_converted_exactly_and_noted(tmp_path):
  values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
  content = {"a": values.half(), "b": values.bfloat16(), "c": values.double(), "d": values}
  for legacy in (False, True):
    checkpoint = read_checkpoint(files.save_torch(content, tmp_path / "h.pth", legacy=legacy))
    assert_same(checkpoint.arrays, {k: v.float().numpy() for k, v in content.items()})
    for kind in ("float16", "bfloat16", "float64"):
      assert f"1 arrays changed from {kind} to float32" in checkpoint.notes


def test_safetensors(tmp_path, arrays):
  assert_same(
    read_torch_checkpoint(files.save_safetensors(arrays, tmp_path / "w.safetensors")), arrays
  )
  library = pytest.importorskip("safetensors.torch", reason="written by the safetensors library")
  tensors = {k: torch.from_numpy(v) for k, v in arrays.items()} | {"half": torch.ones(3).bfloat16()}
  library.save_file(tensors, tmp_path / "l.safetensors", metadata={"format": "pt"})
  checkpoint = read_checkpoint(tmp_path / "l.safetensors")
  assert checkpoint.format == "safetensors"
  assert set(checkpoint.arrays) == set(tensors)
  for key, value in arrays.items():
    np.testing.assert_array_equal(checkpoint.arrays[key], value)


def test_batch_norm_counters_are_left_out(tmp_path):
  content = {"bn.weight": torch.ones(3), "bn.num_batches_tracked": torch.tensor(7)}
  checkpoint = read_checkpoint(files.save_torch(content, tmp_path / "b.pth"))
  assert set(checkpoint.arrays) == {"bn.weight"}
  assert any("batch normalisation" in note for note in checkpoint.notes)


def test_all_unusable_arrays_are_listed(tmp_path):
  content = {
    "fine": torch.ones(3),
    "nan": torch.tensor([1.0, float("nan")]),
    "inf": torch.tensor([float("inf")]),
    "too_large": torch.tensor([1e300], dtype=torch.float64),
    "integers": torch.arange(3),
    "flags": torch.tensor([True]),
  }
  for path in (
    files.save_torch(content, tmp_path / "n.pth"),
    files.save_torch(content, tmp_path / "l.pth", legacy=True),
  ):
    with pytest.raises(ConversionError) as error:
      read_torch_checkpoint(path)
    assert {p.split(":")[0] for p in error.value.problems} == set(content) - {"fine"}
    assert str(path) in str(error.value)


def assert_rejected(path: pathlib.Path, *words: str) -> ConversionError:
  start = time.process_time()
  with pytest.raises(ConversionError) as error:
    read_torch_checkpoint(path)
  assert time.process_time() - start < 5
  for word in (str(path), *words):
    assert word in str(error.value)
  return error.value


@pytest.mark.parametrize(
  ("content", "words"),
  [
    (b"", "empty"),
    (b"\0" * 5000, "neither"),
    (b"just some text\n" * 100, "neither"),
    (b"<!DOCTYPE html><html>", "web page"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
    (b"\x1f\x8b\x08 something", "gzip"),
    (b"PK\x03\x04 not really a zip file", "zip"),
    (b"PK\x05\x06" + b"\0" * 18, "empty zip"),
    (b"\x80", "too early"),
    (b"\x80\x02", "too early"),
    (pickle.dumps({"a": 1}), "plain Python pickle"),
    (pickle.dumps(collections.deque([1])), "deque"),
    (struct.pack("<Q", 2**31) + b'{"a": 1}', "header claims"),
    (struct.pack("<Q", 1000) + b'{"a": 1}', "too early"),
    (struct.pack("<Q", 8) + b'{"a": 1}', "unknown type"),
    (struct.pack("<Q", 7) + b'{"a": 1', "cannot be read"),
    (struct.pack("<Q", 2) + b"{}", "no state dict"),
  ],
)
def test_other_files_are_rejected(tmp_path, content, words):
  path = tmp_path / "file.pth"
  path.write_bytes(content)
  assert_rejected(path, words)


def test_missing_file_and_folder(tmp_path):
  assert_rejected(tmp_path / "nowhere.pth", "cannot be opened")
  assert_rejected(tmp_path, "cannot be opened")


@pytest.mark.parametrize(
  "content", [{}, [], None, 3, {"model": {}}, {"model": {"a": 1}}, {"epoch": 3, "loss": 0.1}]
)
def test_files_without_weights(tmp_path, content):
  for legacy in (False, True):
    assert_rejected(files.save_torch(content, tmp_path / "e.pth", legacy=legacy), "Remedy")


def test_state_dict_with_something_else_inside(tmp_path):
  content = {"model": {"a": torch.ones(2), "b": "text", 3: torch.ones(2)}}
  error = assert_rejected(files.save_torch(content, tmp_path / "s.pth"), "not arrays")
  assert len(error.problems) == 2


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_every_truncated_file_is_rejected(tmp_path, legacy):
  content = {"model": files.state_dict(files.vit_arrays())}
  whole = files.save_torch(content, tmp_path / "w.pth", legacy=legacy).read_bytes()
  path = tmp_path / "short.pth"
  for length in [*range(1, 40), *range(40, len(whole), 997), len(whole) - 1]:
    path.write_bytes(whole[:length])
    assert_rejected(path)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_nothing_in_a_file_is_executed(tmp_path, legacy):
  marker = tmp_path / "marker"
  payload = files.Payload(marker)
  arrays = files.state_dict(files.vit_arrays())
  path = tmp_path / "evil.pth"
  for content in (
    payload,
    {"model": payload},
    {"model": arrays, "args": payload},
    {"model": arrays, "optimizer": [{"deep": (payload,)}]},
  ):
    assert_rejected(
      files.save_torch(content, path, legacy=legacy), "nothing in the file was executed"
    )
  path.write_bytes(pickle.dumps({"model": payload}, protocol=2))
  assert_rejected(path, "nothing in the file was executed")
  assert not marker.exists()
  torch.load(files.save_torch(payload, path, legacy=legacy), weights_only=False)
  assert marker.exists()  # the payload works with an unrestricted reader


@pytest.mark.parametrize(
  "name",
  ["builtins\neval", "os\nsystem", "torch\nload", "torch.storage\n_load_from_bytes", "a\nb"],
)
def test_names_outside_the_table_are_rejected(tmp_path, name):
  source = files.save_torch({"model": {"a": torch.ones(2)}}, tmp_path / "good.pth")
  path = tmp_path / "bad.pth"
  pickled = b"\x80\x02c" + name.encode() + b"\nX\x03\x00\x00\x001+1\x85R."
  files.rewrite_zip(source, path, {"data.pkl": pickled})
  assert_rejected(path, name.replace("\n", "."))


def _tensor_pickle(size: int, offset: int, shape: int, stride: int) -> bytes:
  """{"a": tensor} with given numbers, as a hand-written pickle."""

  def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)

  storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu"
  tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(size) + b"tQ"
  tensor += number(offset) + number(shape) + b"\x85" + number(stride) + b"\x85\x89}tR"
  return b"\x80\x02}X\x01\0\0\0a" + tensor + b"s."


@pytest.mark.parametrize(
  ("size", "offset", "shape", "stride"),
  [
    (2**29, 0, 2**29, 1),  # two gigabytes that do not exist
    (2**61, 0, 2, 1),
    (8, 0, 2**29, 0),  # eight elements expanded to two gigabytes
    (8, 0, 9, 1),
    (8, 8, 1, 1),
    (8, 2**40, 1, 1),
    (8, 0, 8, 2),
    (8, -1, 2, 1),
    (8, 4, 4, -1),
    (-8, 0, 8, 1),
    (9, 0, 8, 1),
  ],
)
def test_wrong_tensor_sizes_are_rejected(tmp_path, size, offset, shape, stride):
  source = files.save_torch({"a": torch.arange(8.0)}, tmp_path / "good.pth")
  path = tmp_path / "wrong.pth"
  files.rewrite_zip(source, path, {"data.pkl": _tensor_pickle(8, 0, 8, 1)})
  assert read_torch_checkpoint(path)["a"].sum() == 28
  files.rewrite_zip(source, path, {"data.pkl": _tensor_pickle(size, offset, shape, stride)})
  assert_rejected(path)


def test_wrong_lengths_in_pickles_and_legacy_storages_are_rejected(tmp_path):
  path = tmp_path / "wrong.pth"
  for length in (b"X\xff\xff\xff\x7f", b"\x8e" + struct.pack("<Q", 2**31), b"\x8b\xff\xff\xff\x7f"):
    path.write_bytes(b"\x80\x02" + length)
    assert_rejected(path, "too early")
  good = files.save_torch({"a": torch.arange(8.0)}, tmp_path / "good.pth", legacy=True)
  data = good.read_bytes()
  offset = data.rindex(struct.pack("<q", 8))
  for count in (2**29, 2**62, -1, 7, 0):
    path.write_bytes(data[:offset] + struct.pack("<q", count) + data[offset + 8 :])
    assert_rejected(path)


@pytest.mark.slow
def test_work_is_bounded(tmp_path):
  path = tmp_path / "work.pth"
  # A list of a thousand elements, copied into a new mapping again and again.
  many = b"\x80\x02ccollections\nOrderedDict\nq\x00](" + b"]" * 1000 + b"eq\x01" + b"0"
  path.write_bytes(many + b"h\x00h\x01\x85R0" * 100_000 + b".")
  assert_rejected(path)
  path.write_bytes(b"\x80\x02N" + b"2" * 20_000_000)
  assert_rejected(path, "larger")
  path.write_bytes(b"\x80\x02)" + b"\x85" * 500_000 + b"}q\x00h\x00Ns.")  # deep, but harmless
  assert_rejected(path)
  path.write_bytes(b"\x80\x02})" + b"\x85" * 500_000 + b"Ns.")  # a deep tuple as a key
  assert_rejected(path, "key")


def test_memory_is_bounded_for_many_views_of_one_storage(tmp_path):
  base = torch.zeros(1000, 1000)
  content = {f"w{i}": base for i in range(500)}
  assert_rejected(files.save_torch(content, tmp_path / "views.pth"), "memory")


def test_other_archives(tmp_path):
  path = tmp_path / "m.pt"
  torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
  assert_rejected(path, "TorchScript")
  import zipfile

  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("photo.txt", "hello")
  assert_rejected(path, "not a torch checkpoint")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("m/data.pkl", b"\0" * 10_000_000)
  assert_rejected(path, "compressed")


def test_reading_needs_no_torch(tmp_path, repository):
  path = files.save_torch({"model": {"a": torch.ones(2)}}, tmp_path / "a.pth")
  code = (
    "import sys; from convert.torch_files import read_torch_checkpoint as r; "
    f"assert r({str(path)!r})['a'].sum() == 2; assert 'torch' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)
