"""Formats of checkpoint files: torch (zip and legacy) and safetensors; nothing is executed.

safetensors files are read without torch.
"""

import io
import mmap
import pathlib
import struct
import types
import warnings
import zipfile
from collections.abc import Callable
from typing import IO, Any, cast

from .errors import ConversionError
from .pickle_check import SAFE_GLOBALS, begins_with, check_pickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
DOWNLOAD_AGAIN = "the download is incomplete or damaged: fetch the file again"
# Starts of files that users mistake for checkpoints, and what to tell them.
_OTHER_FILES = (
  (b"version https://git-lfs", "a Git LFS pointer", "fetch the real file with `git lfs pull`"),
  (b"<!DOCTYPE", "a web page", "the download link gave a page: download the file in a browser"),
  (b"<html", "a web page", "the download link gave a page: download the file in a browser"),
  (b"\x89HDF", "an HDF5 file", "convert it in the project that wrote it to a torch state dict"),
  (b"\x1f\x8b", "gzip-compressed", "unpack it first with gunzip"),
  (b"PK\x05\x06", "an empty zip archive", DOWNLOAD_AGAIN),
)


Reader = Callable[[pathlib.Path, io.BufferedReader], Any]


def format_of(head: bytes, size: int) -> tuple[str, Reader]:
  """Name and reader of the file's format, from its first bytes; the file's name does not count."""
  if not head:
    raise ConversionError("the file is empty", remedy=DOWNLOAD_AGAIN)
  for start, name, remedy in _OTHER_FILES:
    if head.lstrip()[:64].lower().startswith(start.lower()):
      raise ConversionError(f"the file is {name}, not a checkpoint", remedy=remedy)
  if head.startswith(b"PK\x03\x04"):
    return "torch zip", _read_zip
  # The length of the header, then a JSON object; text would give a length beyond 2**40.
  if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**40:
    return "safetensors", _read_safetensors
  if head.startswith(b"\x80"):
    return "torch legacy", _read_legacy
  if head[257:262] == b"ustar":
    raise ConversionError(
      "the file is a tar archive, not a checkpoint",
      remedy="unpack it; names such as x.pth.tar are torch files only by habit",
    )
  raise ConversionError(
    "the file is neither a torch checkpoint nor safetensors "
    f"(it starts with {head[:16]!r} and has {size} bytes)",
    remedy=DOWNLOAD_AGAIN,
  )


def _read_safetensors(path: pathlib.Path, stream: io.BufferedReader) -> dict[str, Any]:
  import ml_dtypes  # noqa: F401  registers the dtype "bfloat16" in numpy
  from safetensors import safe_open

  with safe_open(path, framework="numpy") as file:
    return {key: file.get_tensor(key) for key in file.offset_keys()}


def _read_zip(path: pathlib.Path, stream: io.BufferedReader) -> Any:
  """torch.save since 1.6: data.pkl, and every storage uncompressed under data/.

  torch checks neither checksums nor, in a mapped file, that a storage ends with its entry.
  """
  archive = zipfile.ZipFile(stream)
  _check_directory(stream)
  entries = {entry.filename: entry for entry in archive.infolist()}
  if len({name.lower() for name in entries}) != len(archive.infolist()):
    raise ConversionError("the archive holds an entry twice", remedy=DOWNLOAD_AGAIN)
  pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
  if len(pickles) != 1:
    raise ConversionError(
      "the zip archive is not a torch checkpoint (it has no data.pkl)",
      remedy="give the file that torch.save wrote, not an archive around it",
    )
  folder = pickles[0].removesuffix("data.pkl")
  if f"{folder}constants.pkl" in entries:
    raise ConversionError(
      "the file is a TorchScript program, not a checkpoint",
      remedy="load it with torch.jit.load and save its state_dict()",
    )
  for name, entry in entries.items():
    if entry.compress_type != zipfile.ZIP_STORED:
      raise ConversionError(
        f"{name[:100]!r} is compressed",
        remedy="give the file that torch.save wrote, not one that was packed again",
      )
  if sum(entry.file_size for entry in entries.values()) > path.stat().st_size:
    raise ConversionError("the archive's entries are larger than the file", remedy=DOWNLOAD_AGAIN)
  damaged = archive.testzip()
  if damaged is not None:
    raise ConversionError(f"{damaged[:100]!r} has a wrong checksum", remedy=DOWNLOAD_AGAIN)
  _, storages = check_pickle(io.BytesIO(archive.read(pickles[0])))
  for key, size in storages.items():
    stored = entries.get(f"{folder}data/{key}")
    if stored is None or stored.file_size != size:
      found = f"has {stored.file_size} bytes" if stored else "is missing"
      raise ConversionError(
        f"storage {str(key)[:100]!r} {found} where {size} bytes are announced",
        remedy=DOWNLOAD_AGAIN,
      )
  # torch takes a path that ends with .safetensors for such a file, whatever it holds.
  by_path = not path.name.endswith(".safetensors")
  stream.seek(0)
  return _load(path if by_path else stream, mapped=by_path)


def _check_directory(stream: io.BufferedReader) -> None:
  """Refuses an archive with a second list of entries, which torch would read in place of ours.

  zipfile takes the list just before the archive's last records, torch the one whose place they
  state.
  """
  size = stream.seek(0, io.SEEK_END)
  start = stream.seek(max(0, size - 2**16 - 98))
  tail = stream.read()
  end = last = tail.rfind(b"PK\x05\x06")
  length, place = struct.unpack("<II", tail[last + 12 : last + 20])
  record = start + end
  if tail[last - 20 : last - 16] == b"PK\x06\x07":  # with sizes of 64 bits, as torch writes them
    end = last - 76
    (record,) = struct.unpack("<Q", tail[last - 12 : last - 4])
    length, place = struct.unpack("<QQ", tail[end + 40 : end + 56])
  if record != start + end or place + length != start + end:
    raise ConversionError(
      "the archive's list of entries is not in its place", remedy=DOWNLOAD_AGAIN
    )


def _read_legacy(path: pathlib.Path, stream: io.BufferedReader) -> Any:
  """torch.save until 1.5: five pickles, then each storage as a count and its elements.

  There are no checksums. A storage that the file leaves out would be uninitialised memory.
  """
  with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    file = cast(IO[bytes], mapped)
    if not begins_with(file, LEGACY_MAGIC):
      raise ConversionError(
        "the file is a plain Python pickle, not a torch checkpoint; nothing in the file was "
        "executed",
        remedy="load it with the project that wrote it and torch.save its state_dict()",
      )
    check_pickle(file)  # that number
    check_pickle(file)  # version of the format
    check_pickle(file)  # sizes of integers
    _, storages = check_pickle(file)
    keys, _ = check_pickle(file)
    plain = isinstance(keys, list) and all(type(key) in (str, int) for key in keys)
    if not plain or len(keys) != len(storages) or set(keys) != set(storages):
      raise ConversionError(
        "the list of storages does not agree with the tensors", remedy=DOWNLOAD_AGAIN
      )
    end = file.tell() + sum(8 + size for size in storages.values())
    if end > len(mapped):
      raise ConversionError(
        f"the file ends too early: it has {len(mapped)} bytes where {end} are announced",
        remedy=DOWNLOAD_AGAIN,
      )
  stream.seek(0)
  return _load(stream, mapped=False)


def import_torch() -> types.ModuleType:
  """The module torch.

  Raises:
    ConversionError: torch is not installed.
  """
  try:
    import torch
  except ImportError as error:
    raise ConversionError('torch is not installed: pip install "jax_me[convert]"') from error
  return torch


def _load(source: pathlib.Path | io.BufferedReader, *, mapped: bool) -> Any:
  torch = import_torch()
  with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pickle protocol 3, which is read
    return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
