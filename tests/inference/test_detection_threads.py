"""read_ahead: order, overlap, exceptions, the end of the generator; and OpenCV's own threads."""

import threading

import cv2
import pytest

from jax_me.inference.detection_threads import one_opencv_thread, read_ahead


def test_the_next_item_is_computed_while_one_is_used():
  started = threading.Event()

  def items():
    yield 0
    started.set()
    yield 1

  ahead = read_ahead(items())
  assert next(ahead) == 0
  assert started.wait(timeout=60)  # Nobody has asked for item 1 yet.
  assert list(ahead) == [1]


def test_exceptions_of_the_generator_are_raised():
  def items():
    yield 0
    raise OSError("the camera was unplugged")

  ahead = read_ahead(items())
  assert next(ahead) == 0
  with pytest.raises(OSError, match="unplugged"):
    next(ahead)


def test_the_generator_is_closed_when_the_caller_stops():
  closed = threading.Event()

  def items():
    try:
      while True:
        yield 0
    finally:
      closed.set()

  ahead = read_ahead(items())
  next(ahead)
  ahead.close()
  assert closed.is_set()


def test_opencv_gets_its_threads_back_from_the_last_of_overlapping_users():
  before = cv2.getNumThreads()
  first, second = one_opencv_thread(), one_opencv_thread()
  first.__enter__()
  second.__enter__()
  first.__exit__(None, None, None)
  assert cv2.getNumThreads() == 1
  second.__exit__(None, None, None)
  assert cv2.getNumThreads() == before
