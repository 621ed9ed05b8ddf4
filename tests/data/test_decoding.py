"""Decoding and resizing: sizes, formats, antialiasing."""

import cv2
import numpy as np
import pytest

from jax_me.data import decoding


def smooth_image(height, width):
  """Low-frequency colours, so that resizing methods differ by little."""
  y, x = np.mgrid[0:height, 0:width] / max(height, width)
  waves = [np.sin(3 * x + 2 * y), np.cos(4 * y), np.sin(5 * x * y)]
  return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (640, 640), (200, 320), (33, 900)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_decoding_resizes_to_the_square(shape, suffix):
  image = smooth_image(*shape)
  encoded = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
  decoded = decoding.decode_image(encoded, 64)
  assert decoded.shape == (64, 64, 3) and decoded.dtype == np.uint8
  # One reference for all: area averaging of the full image (or bilinear enlargement).
  shrinks = min(shape) >= 64
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  expected = cv2.resize(image, (64, 64), interpolation=method)
  assert np.abs(decoded.astype(int) - expected).mean() < 2


def test_shrinking_does_not_alias():
  # A checkerboard of single pixels averages to grey.
  board = np.indices((256, 256)).sum(0) % 2 * np.uint8(255)
  encoded = cv2.imencode(".png", np.repeat(board[..., None], 3, -1).astype(np.uint8))[1].tobytes()
  assert np.abs(decoding.decode_image(encoded, 32).astype(int) - 127).max() <= 1


def test_invalid_bytes_decode_to_none():
  assert decoding.decode_image(b"", 8) is None and decoding.decode_image(b"\xff\xd8\xff", 8) is None
  assert (
    decoding.jpeg_size(b"\x89PNG") is None and decoding.jpeg_size(b"\xff\xd8ab" + bytes(20)) is None
  )


@pytest.mark.parametrize("flags", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
def test_size_is_read_from_the_header(flags):
  encoded = cv2.imencode(".jpg", smooth_image(41, 77), flags)[1].tobytes()
  assert decoding.jpeg_size(encoded) == (41, 77)


@pytest.mark.parametrize(
  ("shape", "method"),
  [
    ((90, 90), cv2.INTER_LINEAR),
    ((97, 90), cv2.INTER_AREA),
    ((128, 128), cv2.INTER_AREA),
    ((63, 400), cv2.INTER_LINEAR),
    ((30, 30), cv2.INTER_LINEAR),
  ],
)
def test_strong_shrinking_averages(shape, method):
  noise = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
  expected = cv2.resize(noise, (64, 64), interpolation=method)
  np.testing.assert_array_equal(decoding.resize_image(noise, 64), expected)


def test_an_image_of_the_right_size_is_returned_unchanged():
  image = smooth_image(64, 64)
  assert decoding.resize_image(image, 64) is image
