"""Download of a file from a local server: continued, checked, and its errors."""

import hashlib
import os
import pathlib
import socket

import numpy as np
import pytest

from convert import file_download
from convert.errors import UnavailableWeights
from convert.file_download import download_file
from tests.helpers.file_server import ServedFile, file_server

CONTENT = np.random.default_rng(0).bytes(5 << 20)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
  monkeypatch.setattr(file_download, "PAUSE", 0.0)


@pytest.fixture
def server():
  with file_server(weights=ServedFile(CONTENT)) as running:
    yield running


def download(server, target, **options):
  return download_file(f"{server.address}/weights", target, **options)


def assert_refused(words, server, target, **options):
  with pytest.raises(UnavailableWeights) as error:
    download(server, target, **options)
  message = str(error.value)
  assert words in message and "\n" not in message
  assert not target.exists()


def stop_after(server, target, count):
  """An earlier download that ended after `count` bytes."""
  file = server.files["/weights"]
  file.cuts, file.status = [count], 0
  attempts, file_download.ATTEMPTS = file_download.ATTEMPTS, 1
  try:
    file.cuts += [0] * 3
    assert_refused("are kept, and the same command continues", server, target)
  finally:
    file_download.ATTEMPTS = attempts
  file.cuts = []
  server.requests.clear()
  assert target.with_name(target.name + ".partial").stat().st_size == count


def test_a_file_is_downloaded_once(server, tmp_path):
  target = tmp_path / "cache" / "weights.pth"
  for _ in range(2):
    assert download(server, target, md5=MD5[:6]) == SHA256
  assert target.read_bytes() == CONTENT and len(server.requests) == 1
  assert sorted(path.suffix for path in target.parent.iterdir()) == [".json", ".lock", ".pth"]


def test_a_broken_connection_is_continued_at_once(server, tmp_path):
  server.files["/weights"].cuts = [3 << 20, 1 << 20]
  assert download(server, tmp_path / "weights", md5=MD5) == SHA256
  assert [range for _, _, range in server.requests] == ["", "bytes=3145728-", "bytes=4194304-"]


def test_a_later_command_continues(server, tmp_path):
  target = tmp_path / "weights"
  stop_after(server, target, 2 << 20)
  assert download(server, target) == SHA256 and target.read_bytes() == CONTENT
  assert [range for _, _, range in server.requests] == ["bytes=2097152-"]


@pytest.mark.parametrize(
  "change",
  [
    {"etag": '"2"'},
    {"etag": "", "modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
    {"etag": "", "modified": ""},
    {"content": CONTENT[::-1] + b"more", "etag": '"1"'},
    {"content": CONTENT[: 1 << 20], "etag": '"1"'},
    {"ranges": False},
  ],
)
def test_another_file_on_the_server_starts_over(server, tmp_path, change):
  target = tmp_path / "weights"
  stop_after(server, target, 2 << 20)
  for name, value in change.items():
    setattr(server.files["/weights"], name, value)
  content = server.files["/weights"].content
  assert download(server, target) == hashlib.sha256(content).hexdigest()
  assert target.read_bytes() == content


def test_dates_identify_a_file_without_etag(server, tmp_path):
  file = server.files["/weights"]
  file.etag, file.modified = "", "Mon, 01 Jan 2024 00:00:00 GMT"
  stop_after(server, tmp_path / "weights", 2 << 20)
  assert download(server, tmp_path / "weights") == SHA256
  assert [range for _, _, range in server.requests] == ["bytes=2097152-"]


def test_a_whole_part_that_was_not_renamed_needs_no_request(server, tmp_path):
  target = tmp_path / "weights"
  stop_after(server, target, 2 << 20)
  target.with_name("weights.partial").write_bytes(CONTENT)
  assert download(server, target) == SHA256 and not server.requests


def test_a_file_of_another_size_is_fetched_again(server, tmp_path):
  target = tmp_path / "weights"
  download(server, target)
  target.write_bytes(CONTENT[:100])
  assert download(server, target) == SHA256 and target.read_bytes() == CONTENT


def test_a_wrong_checksum_is_an_error_and_nothing_is_kept(server, tmp_path):
  target = tmp_path / "weights"
  assert_refused("its project publishes 123abc", server, target, md5="123abc")
  assert not target.with_name("weights.partial").exists()
  server.files["/weights"].content = CONTENT[:-1] + b"!"
  assert_refused("damaged on the way or replaced", server, target, md5=MD5)


@pytest.mark.parametrize(
  ("status", "words"),
  [
    (404, "is not on the server any more (404"),
    (403, "is refused by the server (403"),
    (503, "cannot be reached (the server answers 503"),
  ],
)
def test_refusals_of_the_server(server, tmp_path, status, words):
  server.files["/weights"].status = status
  assert_refused(words, server, tmp_path / "weights")


def test_no_network(server, tmp_path):
  with socket.socket() as unused:
    unused.bind(("127.0.0.1", 0))
    server.address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    assert_refused("cannot be reached (Connection refused)", server, tmp_path / "weights")


def test_a_server_that_always_hangs_up(server, tmp_path):
  server.files["/weights"].cuts = [1 << 20] + [0] * 50
  assert_refused("1 MB are kept", server, tmp_path / "weights")
  assert len(server.requests) == 1 + file_download.ATTEMPTS


def test_a_full_disk(server, tmp_path, monkeypatch):
  usage = type("usage", (), {"free": 10**6})
  monkeypatch.setattr(file_download.shutil, "disk_usage", lambda _: usage)
  assert_refused("the disk is full: weights needs 5 MB", server, tmp_path / "weights")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a file of Linux")
def test_a_disk_that_fills_up(server, tmp_path, monkeypatch):
  (tmp_path / "weights.partial").symlink_to("/dev/full")
  monkeypatch.setattr(pathlib.Path, "unlink", lambda *_, **__: None)  # The link stays.
  assert_refused("the disk is full", server, tmp_path / "weights")
