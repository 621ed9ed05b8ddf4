"""Download of one file over HTTP: continued after an interruption, checked, renamed when whole."""

import dataclasses
import errno
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping

from jax_me.files import exclusive_lock, write_atomically
from jax_me.progress import Progress

from .errors import UnavailableWeights

ATTEMPTS = 5  # Without a single byte, after the server has sent some.
TIMEOUT = 30.0  # Seconds without data.
PAUSE = 1.0  # Seconds before the second attempt, doubled each time.
_CHUNK = 2**20
_MEGABYTE = 10**6


@dataclasses.dataclass(frozen=True)
class DownloadRecord:
  """A download as the JSON file beside it describes it.

  Attributes:
    address: URL.
    bytes: size of the whole file, None when the server does not say.
    etag, modified: headers that tell one version of the file from another, "" when missing.
    sha256: of the whole file; "" until it is there.
  """

  address: str
  bytes: int | None
  etag: str
  modified: str
  sha256: str = ""

  @classmethod
  def read(cls, target: pathlib.Path) -> "DownloadRecord | None":
    """The record of a download; None without one that can be read."""
    try:
      return cls(**json.loads(_record_path(target).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
      return None

  def write(self, target: pathlib.Path) -> None:
    """Writes the record atomically."""
    content = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
    write_atomically(_record_path(target), content.encode())

  def describes(self, address: str, path: pathlib.Path) -> bool:
    """Whether a file is, by its size, the whole file at this address."""
    return self.address == address and path.is_file() and path.stat().st_size == self.bytes

  def same_version(self, other: "DownloadRecord") -> bool:
    """Whether both are of the same file; False when the server gives no means to know."""
    if self.address != other.address or self.bytes != other.bytes:
      return False
    if self.etag or other.etag:
      return self.etag == other.etag
    return bool(self.modified) and self.modified == other.modified


def _record_path(target: pathlib.Path) -> pathlib.Path:
  return target.with_name(target.name + ".download.json")


def download_file(address: str, target: pathlib.Path, *, md5: str = "") -> str:
  """Downloads a file unless it is there already.

  The data go to `<target>.partial`, which is renamed when it is whole and its checksum is right. An
  interrupted download continues there, if size, ETag and date on the server are still the same.

  Args:
    address: URL.
    target: file to write; missing parent folders are created.
    md5: the MD5 that its publisher states, or the first digits of it; "" when there is none.

  Returns:
    The SHA-256 of the file.

  Raises:
    UnavailableWeights: the server cannot be reached or lacks the file, the disk is full, the
      connection was cut off again and again, or the checksum is wrong.
  """
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = target.with_name(target.name + ".lock")
    with exclusive_lock(lock, lambda: _say(f"waiting: another process downloads {target.name}")):
      record = DownloadRecord.read(target)
      if record is None or not record.describes(address, target) or not record.sha256:
        record = _Download(address, target).run(md5)
      return record.sha256
  except UnavailableWeights:
    raise
  except OSError as error:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror or error
    raise UnavailableWeights(f"{address} cannot be stored in {target.parent}: {reason}") from error


class _Interrupted(Exception):
  """The connection broke down while the server was sending."""


class _Download:
  """One download in progress."""

  def __init__(self, address: str, target: pathlib.Path):
    self.address, self.target = address, target
    self.partial = target.with_name(target.name + ".partial")

  def run(self, md5: str) -> DownloadRecord:
    """Fetches what is missing, checks the whole and renames it."""
    record = DownloadRecord.read(self.target)
    if record is None or not record.describes(self.address, self.partial):
      record = self._fetch()
    sha256, found = _checksums(self.partial)
    if not found.startswith(md5.lower()):
      self.partial.unlink()
      raise UnavailableWeights(
        f"{self.address} has the MD5 {found}, its project publishes {md5}...: it was damaged on "
        "the way or replaced on the server; nothing was kept"
      )
    record = dataclasses.replace(record, bytes=self._done(), sha256=sha256)
    record.write(self.target)
    os.replace(self.partial, self.target)
    return record

  def _done(self) -> int:
    return self.partial.stat().st_size if self.partial.exists() else 0

  def _fetch(self) -> DownloadRecord:
    """Repeats the request until everything is there."""
    failures, received = 0, False
    progress: Progress | None = None
    try:
      while True:
        before = self._done()
        try:
          response, record, start = self._open()
          with response:
            total = None if record.bytes is None else record.bytes // _MEGABYTE
            if progress is None:
              progress = Progress(self.target.name, total, unit="megabyte", done=start // _MEGABYTE)
            progress.go_to(start // _MEGABYTE)
            self._receive(response, record, start, progress)
          return record
        except _Interrupted as error:
          received |= self._done() > before
          failures = 0 if self._done() > before else failures + 1
          if not received or failures == ATTEMPTS:
            kept = f"; {self._done() // _MEGABYTE} MB are kept, and the same command continues"
            raise UnavailableWeights(
              f"{self.address} cannot be reached ({error}){kept if self._done() else ''}"
            ) from error
          time.sleep(PAUSE * 2**failures)
    finally:
      if progress is not None:
        progress.close()

  def _open(self) -> tuple[http.client.HTTPResponse, DownloadRecord, int]:
    """Asks for the missing part.

    Returns:
      the response, a record of the file on the server, and the position of the first byte.
    """
    known, done = DownloadRecord.read(self.target), self._done()
    response = None
    if known is not None and done:
      response = self._request({"Range": f"bytes={done}-"})
      if response is not None and response.status == http.HTTPStatus.PARTIAL_CONTENT:
        record = _record_of(self.address, response)
        if known.same_version(record) and _start_of(response) == done:
          return response, record, done
        response.close()
        response = None
      _say(f"{self.target.name}: the file on the server is another one; the download starts over")
    response = response or self._request({})
    if response is None or response.status != http.HTTPStatus.OK:
      raise UnavailableWeights(f"{self.address} is answered with a part of the file only")
    self.partial.unlink(missing_ok=True)
    record = _record_of(self.address, response)
    record.write(self.target)
    return response, record, 0

  def _request(self, headers: Mapping[str, str]) -> http.client.HTTPResponse | None:
    """The response; None when the server does not have the requested range."""
    request = urllib.request.Request(
      self.address, headers={"User-Agent": "jax_me", "Accept-Encoding": "identity", **headers}
    )
    try:
      response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
      error.close()
      if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and headers:
        return None
      if error.code >= 500:
        raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
      missing = error.code in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE)
      reason = "is not on the server any more" if missing else "is refused by the server"
      raise UnavailableWeights(f"{self.address} {reason} ({error.code} {error.reason})") from error
    except urllib.error.URLError as error:
      raise _Interrupted(getattr(error.reason, "strerror", None) or error.reason) from error
    except (http.client.HTTPException, OSError) as error:
      raise _Interrupted(_reason(error)) from error
    if self.address.startswith("https:") and not response.url.startswith("https:"):
      response.close()
      raise UnavailableWeights(f"{self.address} is redirected to {response.url} without encryption")
    return response

  def _receive(
    self,
    response: http.client.HTTPResponse,
    record: DownloadRecord,
    done: int,
    progress: Progress,
  ) -> None:
    """Appends the data to the partial file."""
    missing = (record.bytes or 0) - done
    if missing > (free := shutil.disk_usage(self.partial.parent).free):
      raise UnavailableWeights(
        f"the disk is full: {self.target.name} needs {missing // _MEGABYTE} MB in "
        f"{self.partial.parent}, where {free // _MEGABYTE} MB are free"
      )
    with self.partial.open("ab") as file:
      while True:
        try:
          data = response.read(_CHUNK)
        except (http.client.HTTPException, OSError) as error:
          raise _Interrupted(_reason(error)) from error
        if not data:
          break
        file.write(data)
        progress.advance((done + len(data)) // _MEGABYTE - done // _MEGABYTE)
        done += len(data)
    if record.bytes is not None and done < record.bytes:
      raise _Interrupted("the connection was closed")


def _record_of(address: str, response: http.client.HTTPResponse) -> DownloadRecord:
  headers = response.headers
  size = headers.get("Content-Length")
  if response.status == 206:
    size = headers.get("Content-Range", "").rpartition("/")[2]
  return DownloadRecord(
    address,
    int(size) if size and size.isdigit() else None,
    headers.get("ETag", ""),
    headers.get("Last-Modified", ""),
  )


def _start_of(response: http.client.HTTPResponse) -> int | None:
  """First position of `Content-Range: bytes FIRST-LAST/SIZE`; None if there is none."""
  first = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
  return int(first) if first.isdigit() else None


def _checksums(path: pathlib.Path) -> tuple[str, str]:
  """SHA-256 and MD5 of a file."""
  sums = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
  with path.open("rb") as file:
    while data := file.read(_CHUNK):
      for checksum in sums:
        checksum.update(data)
  return sums[0].hexdigest(), sums[1].hexdigest()


def _reason(error: Exception) -> str:
  return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
