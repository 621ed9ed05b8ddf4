"""Bounded reading: pipes, devices, sockets, links and large files neither hang nor fill memory."""

import os
import socket
import time

import cv2
import numpy as np
import pytest

from jax_me.bounded_reading import FileTooSlow, leaves_folder, read_file, time_limit
from jax_me.datasets.generation.source_files import (
  fingerprint_folder,
  following_links,
  ignored_links,
  walk_files,
  walk_folders,
)
from jax_me.faces.image_files import MAX_PIXELS, UnreadableImage, read_image
from jax_me.faces.input_files import list_files

MESSAGES = {
  "pipe.png": "it is a pipe, not a file",
  "socket.png": "No such device|it is a socket",
  "device.png": "it is a device, not a file",
  "folder.png": "Is a directory|it is a folder",
  "loop.png": "Too many levels of symbolic links",
  "broken.png": "No such file",
}


@pytest.fixture
def hostile(tmp_path):
  """A folder with one image and everything that is named like an image and is none."""
  folder = tmp_path / "in"
  folder.mkdir()
  os.mkfifo(folder / "pipe.png")
  server = socket.socket(socket.AF_UNIX)
  here = os.getcwd()
  os.chdir(folder)  # The path of a socket is limited to 108 bytes.
  server.bind("socket.png")
  os.chdir(here)
  (folder / "device.png").symlink_to("/dev/zero")
  (folder / "folder.png").mkdir()
  (folder / "loop.png").symlink_to("loop.png")
  (folder / "broken.png").symlink_to("nothing.png")
  (folder / "up").symlink_to("..")
  (tmp_path / "secret.png").write_bytes(b"secret")
  (folder / "secret.png").symlink_to("../secret.png")
  cv2.imwrite(str(folder / "face.png"), np.zeros((20, 20, 3), np.uint8))
  (folder / "same.png").symlink_to("face.png")
  yield folder
  server.close()


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_only_regular_files_are_read(hostile, name):
  with pytest.raises(OSError, match=MESSAGES[name]):
    read_file(hostile / name)
  with pytest.raises(UnreadableImage, match=MESSAGES[name]):
    read_image(hostile / name)
  assert read_file(hostile / "same.png") == (hostile / "face.png").read_bytes()


def test_listings_end_and_leave_out_links_to_the_outside(hostile):
  outside = {"device.png", "secret.png", "up"}
  names = list(walk_files(hostile))
  assert outside.isdisjoint(names) and {"face.png", "same.png", "loop.png"} <= set(names)
  assert set(ignored_links(hostile)) == outside
  assert outside.isdisjoint(next(walk_folders(hostile))[1])
  with following_links(True):
    assert "secret.png" in list(walk_files(hostile)) and not ignored_links(hostile)
    assert fingerprint_folder(hostile)
  assert fingerprint_folder(hostile)
  files = {file.name: file for file in list_files(hostile, without=hostile / "out")}
  assert {name for name, file in files.items() if file.leaves} == outside
  assert {name for name, file in files.items() if file.is_image} == {
    "face.png", "same.png", "loop.png", "broken.png"
  }  # fmt: skip
  followed = list_files(hostile, without=hostile / "out", follow_links=True)
  assert "secret.png" in {file.name for file in followed if file.is_image}


def test_a_folder_that_is_a_link_itself_is_followed(hostile, tmp_path):
  (tmp_path / "link").symlink_to(hostile)
  assert "face.png" in list(walk_files(tmp_path / "link"))
  assert not leaves_folder(tmp_path / "link" / "same.png", tmp_path / "link")


def test_large_files_and_images_are_refused_before_they_are_decoded(tmp_path):
  with (tmp_path / "large.png").open("wb") as file:
    file.truncate(2**20 + 1)
  with pytest.raises(OSError, match="1 MiB are more than the 1 allowed"):
    read_file(tmp_path / "large.png", 2**20)
  side = int(MAX_PIXELS**0.5) + 1
  cv2.imwrite(str(tmp_path / "bomb.png"), np.zeros((side, side), np.uint8))
  assert (tmp_path / "bomb.png").stat().st_size < 2**20
  with pytest.raises(UnreadableImage, match="pixels are more than the 67108864 allowed"):
    read_image(tmp_path / "bomb.png")


def test_time_is_limited():
  with pytest.raises(FileTooSlow), time_limit(0.05):
    time.sleep(10)
  with time_limit(10):
    pass
