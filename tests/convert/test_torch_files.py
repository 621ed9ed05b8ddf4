"""Reading of checkpoint files: formats, containers, element types, rejected files."""

import argparse
import collections
import pathlib
import pickle
import struct
import subprocess
import sys
import time
import zipfile

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


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, arrays, protocol, legacy):
  path = tmp_path / "p.pth"
  torch.save(
    {"model": files.state_dict(arrays)},
    path,
    pickle_protocol=protocol,
    _use_new_zipfile_serialization=not legacy,
  )
  if protocol <= 3:
    assert_same(read_torch_checkpoint(path), arrays)
  else:  # which torch does not read with weights_only=True
    error = assert_rejected(path, f"pickle protocol {protocol}", "nothing in the file was executed")
    assert "torch.save" in error.remedy


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
    (pickle.dumps(collections.deque([1])), "plain Python pickle"),
    (struct.pack("<Q", 2**31) + b'{"a": 1}', "header too large"),
    (struct.pack("<Q", 1000) + b'{"a": 1}', "invalid header length"),
    (struct.pack("<Q", 8) + b'{"a": 1}', "invalid type"),
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


def legacy_file(path: pathlib.Path, pickled: bytes) -> pathlib.Path:
  """A legacy torch file with a hand-written pickle and no storages."""
  whole = files.save_torch({}, path, legacy=True).read_bytes()
  content = pickle.dumps({}, protocol=2)
  start = whole.rindex(content)
  path.write_bytes(whole[:start] + pickled + whole[start + len(content) :])
  return path


def test_work_is_bounded(tmp_path):
  path = tmp_path / "work.pth"
  assert_rejected(legacy_file(path, b"\x80\x02(" + b"N" * 20_000_000), "larger")
  assert_rejected(legacy_file(path, b"\x80\x02N" + b"2" * 20_000_000), "operation DUP")
  path.write_bytes(b"\x80\x02N" + b"2" * 20_000_000)
  assert_rejected(path, "plain Python pickle")


@pytest.mark.parametrize("name", ["collections\nOrderedDict", "collections\nCounter"])
def test_copies_of_one_value_are_bounded(tmp_path, name):
  # A thousand elements, copied into a new mapping again and again.
  elements = b"".join(b"M" + struct.pack("<H", i) + b"N\x86" for i in range(1000))
  if "Counter" in name:
    elements = elements.replace(b"N\x86", b"")
  many = b"\x80\x02c" + name.encode() + b"\nq\x00]q\x01(" + elements + b"e"
  path = legacy_file(tmp_path / "copies.pth", many + b"h\x00h\x01\x85R" * 100_000 + b".")
  assert_rejected(path, "larger")
  copies = b"ccollections\nOrderedDict\n)R}(" + elements[:3] + b"NubN"
  assert b"" == copies[:0]


def test_nested_keys_are_rejected(tmp_path):
  """Hashing them would exhaust the stack, or take for ever: hashes of tuples are not stored."""
  deep = b")" + b"\x85" * 500_000
  wide = b")q\x00" + b"h\x00\x86q\x00h\x00" * 60  # each pair holds the one before it twice
  path = tmp_path / "nested.pth"
  for pickled in (
    b"}" + deep + b"Ns",
    b"}" + wide + b"Ns",
    b"}(" + wide + b"Nu",
    b"cbuiltins\nset\n](" + wide + b"e\x85R",
    b"ccollections\nCounter\n](" + wide + b"e\x85R",
    b"ccollections\nOrderedDict\n]](" + wide + b"Nea\x85R",
  ):
    assert_rejected(legacy_file(path, b"\x80\x02" + pickled + b"."), "key")
  # Deep, but harmless.
  legacy_file(path, b"\x80\x02}X\x01\0\0\0a" + deep + b"s.")
  assert_rejected(path, "no state dict")


@pytest.mark.parametrize("name", ["builtins\nbytearray", "torch\nTensor", "torch\nFloatTensor"])
def test_allocations_of_a_stated_size_are_rejected(tmp_path, name):
  pickled = b"\x80\x02c" + name.encode() + b"\n\x8a\x05\0\0\0\0\x01\x85R."
  assert_rejected(legacy_file(tmp_path / "a.pth", pickled), name.replace("\n", "."))


def test_storages_of_a_legacy_file_are_those_of_its_tensors(tmp_path):
  """A storage that the list leaves out would be uninitialised memory."""
  content = {"a": torch.arange(8.0), "b": torch.arange(4.0)}
  good = files.save_torch(content, tmp_path / "good.pth", legacy=True).read_bytes()
  start, end = good.rindex(b"\x80\x02]"), good.rindex(struct.pack("<q", 8))
  keys = good[start:end]
  assert keys.count(b"X") == 2
  path = tmp_path / "list.pth"
  one = keys[keys.index(b"X") : keys.index(b"X", keys.index(b"X") + 1)]
  for listed in (b"\x80\x02].", b"\x80\x02](" + one + b"e.", b"\x80\x02](" + one * 2 + b"e."):
    path.write_bytes(good[:start] + listed + good[end:])
    assert_rejected(path, "list of storages")
  path.write_bytes(good + b"trailing bytes" * 100)
  assert read_torch_checkpoint(path)["a"].sum() == 28


def test_memory_is_bounded_for_many_views_of_one_storage(tmp_path):
  base = torch.zeros(1000, 1000)
  content = {f"w{i}": base for i in range(500)}
  assert_rejected(files.save_torch(content, tmp_path / "views.pth"), "memory")


def test_other_archives(tmp_path):
  path = tmp_path / "m.pt"
  torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
  assert_rejected(path, "TorchScript")
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("photo.txt", "hello")
  assert_rejected(path, "not a torch checkpoint")
  with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("m/data.pkl", b"\0" * 10_000_000)
  assert_rejected(path, "compressed")


def test_damaged_and_overlapping_zip_entries_are_rejected(tmp_path):
  source = files.save_torch({"a": torch.arange(8.0)}, tmp_path / "good.pth")
  good = source.read_bytes()
  position = good.index(torch.arange(8.0).numpy().tobytes())
  path = tmp_path / "flipped.pth"
  path.write_bytes(good[:position] + b"\1" + good[position + 1 :])
  assert_rejected(path, "checksum", "fetch the file again")
  sizes = {"file_size": 10**9, "compress_size": 10**9}
  with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
    for entry in old.infolist():
      new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
    for name, value in sizes.items():
      setattr(new.filelist[-1], name, value)
  assert_rejected(path, "larger than the file")


@pytest.mark.parametrize("long", [False, True], ids=["32 bits", "64 bits"])
def test_two_archives_in_one_file_are_rejected(tmp_path, long):
  """zipfile, which checks the file, would see the second one, and torch the first."""

  def parts(values):
    """Entries, list of entries, records after it; and the place of the list in the records."""
    source = files.save_torch({"a": values}, tmp_path / "saved.pth")
    if not long:
      files.rewrite_zip(source, source.with_name("plain.pth"), {})
      source = source.with_name("plain.pth")
    data = source.read_bytes()
    end = data.rindex(b"PK\6\6") if long else data.rindex(b"PK\5\6")
    field, form = (end + 48, "<Q") if long else (end + 16, "<I")
    (place,) = struct.unpack_from(form, data, field)
    return data[:place], data[place:end], bytearray(data[end:]), field - end, form

  hidden, hidden_list, *_ = parts(torch.ones(8))
  shown, shown_list, records, field, form = parts(torch.arange(8.0))
  assert len(hidden_list) == len(shown_list)
  struct.pack_into(form, records, field, len(hidden))
  path = tmp_path / "two.pth"
  content = hidden + hidden_list + shown + shown_list
  if long:  # the locator of the record
    struct.pack_into("<Q", records, 56 + 8, len(content))
  path.write_bytes(content + records)
  with zipfile.ZipFile(path) as archive:
    assert archive.testzip() is None
    assert archive.infolist()[0].header_offset > 0
  assert torch.load(path, weights_only=True, mmap=True)["a"].sum() == 8
  assert_rejected(path, "list of entries")


def test_the_content_decides_not_the_name_of_the_file(tmp_path, arrays):
  state = files.state_dict(arrays)
  for path, form in (
    (files.save_torch(state, tmp_path / "zip.safetensors"), "torch zip"),
    (files.save_torch(state, tmp_path / "old.safetensors", legacy=True), "torch legacy"),
    (files.save_safetensors(arrays, tmp_path / "weights.pth"), "safetensors"),
    (files.save_torch(state, tmp_path / "weights.tar"), "torch zip"),
  ):
    checkpoint = read_checkpoint(path)
    assert_same(checkpoint.arrays, arrays)
    assert checkpoint.format == form


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_values_of_training_scripts_are_read_past(tmp_path, arrays, legacy):
  content = {
    "model": files.state_dict(arrays),
    "epoch": np.int64(3),
    "best": np.float64(0.5),
    "history": np.arange(4.0),
    "names": {"a", "b"},
    "output": pathlib.PurePosixPath("out/run"),
    "state": collections.defaultdict(dict, {0: {"step": 1}}),
    "milestones": collections.Counter([3, 4]),
    "shape": torch.Size([1, 2]),
    "device": torch.device("cuda:0"),
    "dtype": torch.float16,
    "args": argparse.Namespace(model="vit_tiny", output_dir=pathlib.PurePosixPath("out")),
  }
  path = files.save_torch(content, tmp_path / "t.pth", legacy=legacy)
  checkpoint = read_checkpoint(path)
  assert_same(checkpoint.arrays, arrays)
  assert checkpoint.metadata == {"args.model": "vit_tiny"}
  # As written on Windows, by numpy 1, and by Python before or from 3.13 on.
  modules = [b"pathlib", b"pathlib._local"]
  modules.sort(key=lambda name: name != pathlib.PurePosixPath.__module__.encode())
  for old, new in (
    (b"PurePosixPath", b"WindowsPath"),
    (b"numpy._core", b"numpy.core"),
    modules,
  ):
    data = path.read_bytes()
    if legacy:
      assert old in data
      path.write_bytes(data.replace(old, new))
    else:
      with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        pickled = archive.read(name)
      assert old in pickled
      files.rewrite_zip(path, tmp_path / "r.pth", {"data.pkl": pickled.replace(old, new)})
      path = tmp_path / "r.pth"
    assert_same(read_torch_checkpoint(path), arrays)
    path = files.save_torch(content, tmp_path / "t.pth", legacy=legacy)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_a_whole_model_is_refused_with_the_way_to_its_weights(tmp_path, legacy):
  model = torch.nn.Sequential(torch.nn.Linear(2, 3))
  for content in (model, {"model": model, "epoch": 3}):
    error = assert_rejected(
      files.save_torch(content, tmp_path / "m.pth", legacy=legacy),
      "whole model",
      "nothing in the file was executed",
    )
    assert "torch.save(model.state_dict(), " in error.remedy


def test_a_state_dict_of_python_2_is_read(tmp_path):
  """Python 2 pickled an OrderedDict with a list of pairs."""
  source = files.save_torch({"a": torch.arange(8.0)}, tmp_path / "good.pth")
  tensor = _tensor_pickle(8, 0, 8, 1)[9:-2]  # without protocol, dict and key
  pickled = b"\x80\x02ccollections\nOrderedDict\n](](U\x01a" + tensor + b"ee\x85R."
  files.rewrite_zip(source, tmp_path / "two.pth", {"data.pkl": pickled})
  assert read_torch_checkpoint(tmp_path / "two.pth")["a"].sum() == 28


# Runs with torch hidden, as in an installation without the extra `convert`.
WITHOUT_TORCH = """
import sys

class Hide:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] == "torch":
      raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hide())
from convert.torch_to_flax import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_only_torch_files_need_torch(tmp_path, arrays, repository):
  def run(source):
    options = [f"--{k}={v}" for k, v in files.TINY_VIT.items()]
    command = ["--checkpoint", str(source), "--model", "vit_tiny_patch16", *options]
    return subprocess.run(
      [sys.executable, "-c", WITHOUT_TORCH, *command, "--output", str(tmp_path / "out")],
      capture_output=True,
      text=True,
      cwd=repository,
    )

  for legacy in (False, True):
    source = files.save_torch(files.state_dict(arrays), tmp_path / "a.pth", legacy=legacy)
    refused = run(source)
    assert refused.returncode == 1
    assert refused.stderr == (
      f'error: {source}: torch is not installed: pip install "jax_me[convert]"\n'
    )
  converted = run(files.save_safetensors(arrays, tmp_path / "a.safetensors"))
  assert converted.returncode == 0, converted.stderr
