"""Stored bytes to the pixels that a model sees: decoding and resizing, the same everywhere."""

import cv2
import numpy as np

BILINEAR_SHRINK = 1.5


def decode_image(encoded: bytes, image_size: int) -> np.ndarray | None:
  """Decodes and resizes one image; a picture that is not square is stretched.

  JPEGs are decoded at 1/2, 1/4 or 1/8 of their size when that is still enough; see `resized` for
  the rest.

  Args:
    encoded: JPEG or PNG bytes.
    image_size: side of the result, pixels.

  Returns:
    uint8 [image_size, image_size, 3] RGB; None when the bytes cannot be decoded.
  """
  out = np.empty((image_size, image_size, 3), np.uint8)
  return out if decode_into(out, encoded) else None


def decode_into(out: np.ndarray, encoded: bytes) -> bool:
  """As `decode_image`, into a given array uint8 [S, S, 3]; False when that is not possible."""
  data = np.frombuffer(encoded, np.uint8)
  image = cv2.imdecode(data, _decode_flag(encoded, len(out))) if len(data) else None
  if image is None:
    return False
  # Channels are swapped last, when there are fewest pixels.
  cv2.cvtColor(resize_image(image, len(out)), cv2.COLOR_BGR2RGB, dst=out)
  return True


def resize_image(image: np.ndarray, size: int) -> np.ndarray:
  """A picture stretched to a square, as all images are that a model sees.

  Shrinking averages areas, enlarging is bilinear; so is shrinking by less than BILINEAR_SHRINK:
  there hardly a pixel goes unseen, and averaging areas takes four times as long.

  Args:
    image: uint8 [H, W, 3].
    size: side of the result, pixels.

  Returns:
    uint8 [size, size, 3]; the picture itself where it has that size.
  """
  height, width = image.shape[:2]
  if (height, width) == (size, size):
    return image
  shrinks = min(height, width) >= size and max(height, width) > BILINEAR_SHRINK * size
  method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
  return cv2.resize(image, (size, size), interpolation=method)


def _decode_flag(encoded: bytes, image_size: int) -> int:
  """The strongest reduction that still gives at least image_size pixels on both sides."""
  size = jpeg_size(encoded)
  if size is not None:
    factor = min(size) // image_size
    if factor >= 8:
      return cv2.IMREAD_REDUCED_COLOR_8
    if factor >= 4:
      return cv2.IMREAD_REDUCED_COLOR_4
    if factor >= 2:
      return cv2.IMREAD_REDUCED_COLOR_2
  return cv2.IMREAD_COLOR


def jpeg_size(encoded: bytes) -> tuple[int, int] | None:
  """(height, width) from a JPEG's frame header (ITU-T T.81, B.2.2); None if it is not a JPEG."""
  if encoded[:2] != b"\xff\xd8":
    return None
  at = 2
  while at + 9 < len(encoded):
    if encoded[at] != 0xFF:
      return None
    marker = encoded[at + 1]
    if marker == 0xFF:  # fill byte
      at += 1
      continue
    # SOF0..SOF15 hold the size; C4, C8 and CC in that range are other segments.
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return (
        int.from_bytes(encoded[at + 5 : at + 7], "big"),
        int.from_bytes(encoded[at + 7 : at + 9], "big"),
      )
    at += 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
  return None
