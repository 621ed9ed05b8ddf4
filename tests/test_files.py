"""Atomic file writes, and locks."""

import os

import pytest

from jax_me.files import exclusive_lock, staging_folder, write_atomically


@pytest.mark.parametrize("use_scratch", [False, True])
def test_write_replaces_the_file_and_creates_folders(tmp_path, use_scratch):
  scratch = None
  if use_scratch:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
  path = tmp_path / "new" / "folder" / "a.txt"
  for content in (b"one", b"two"):
    write_atomically(path, content, scratch=scratch)
    assert path.read_bytes() == content
  assert os.listdir(path.parent) == ["a.txt"]
  assert scratch is None or not os.listdir(scratch)
  plain = tmp_path / "plain"
  plain.touch()
  assert path.stat().st_mode == plain.stat().st_mode


def test_failed_write_keeps_the_old_content_and_no_partial_file(tmp_path, monkeypatch):
  path = tmp_path / "a.txt"
  write_atomically(path, b"one")

  def fail(source, target):
    raise OSError("no space")

  with monkeypatch.context() as patch:
    patch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
      write_atomically(path, b"two")
  assert path.read_bytes() == b"one" and os.listdir(tmp_path) == ["a.txt"]
  with pytest.raises(OSError):
    write_atomically(path / "below a file", b"three")


@pytest.mark.parametrize("name", ["", "lock"])  # a folder; a file, which is created
def test_a_lock_is_held_by_one(tmp_path, name):
  path = tmp_path / name

  def refuse():
    raise InterruptedError

  for _ in range(2):
    with (
      exclusive_lock(path, lambda: pytest.fail("nobody else has it")),
      pytest.raises(InterruptedError),
      exclusive_lock(path, refuse),
    ):
      pytest.fail("two have it")


def test_staging_folders_of_killed_processes_are_removed(tmp_path):
  target = tmp_path / "out"
  with staging_folder(target) as held, staging_folder(target) as other:
    assert held.is_dir() and other.is_dir() and held != other  # One is not taken for a remnant.
  assert not os.listdir(tmp_path)
  (tmp_path / ".out.x1.staging").mkdir()
  with staging_folder(target) as staging:
    assert os.listdir(tmp_path) == [staging.name]
