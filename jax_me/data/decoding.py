"""Decoding of stored images at the model's input size."""

import cv2
import numpy as np

from jax_me.image_preparation import resize_image


def decode_image(encoded: bytes, image_size: int) -> np.ndarray | None:
  """Decodes and resizes one image; an image that is not square is stretched.

  JPEGs are decoded at 1/2, 1/4 or 1/8 of their size when that is large enough; see `resize_image`
  for the interpolation.

  Args:
    encoded: JPEG or PNG bytes.
    image_size: side of the result, pixels.

  Returns:
    uint8 [image_size, image_size, 3] RGB; None when the bytes cannot be decoded.
  """
  out = np.empty((image_size, image_size, 3), np.uint8)
  return out if decode_into(out, encoded) else None


def decode_into(out: np.ndarray, encoded: bytes) -> bool:
  """Like `decode_image`, into a given array uint8 [S, S, 3]; False if decoding fails."""
  data = np.frombuffer(encoded, np.uint8)
  image = cv2.imdecode(data, _decode_flag(encoded, len(out))) if len(data) else None
  if image is None:
    return False
  # Channels are swapped last, on the smallest image.
  cv2.cvtColor(resize_image(image, len(out)), cv2.COLOR_BGR2RGB, dst=out)
  return True


def decode_whole(encoded: bytes) -> np.ndarray | None:
  """Decodes JPEG or PNG bytes to uint8 [H, W, 3] RGB; None when they cannot be decoded."""
  data = np.frombuffer(encoded, np.uint8)
  image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
  return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_flag(encoded: bytes, image_size: int) -> int:
  """OpenCV flag of the strongest reduction that keeps image_size pixels on both sides."""
  size = jpeg_size(encoded)
  return cv2.IMREAD_COLOR if size is None else reduced_color_flag(min(size), image_size)


def reduced_color_flag(side: int, target: int) -> int:
  """OpenCV flag of the strongest reduction of a JPEG that makes `side` not less than `target`."""
  factor = side // target
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
  offset = 2
  while offset + 9 < len(encoded):
    if encoded[offset] != 0xFF:
      return None
    marker = encoded[offset + 1]
    if marker == 0xFF:  # fill byte
      offset += 1
      continue
    # SOF0..SOF15 hold the size; C4, C8 and CC in that range are other segments.
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      return (
        int.from_bytes(encoded[offset + 5 : offset + 7], "big"),
        int.from_bytes(encoded[offset + 7 : offset + 9], "big"),
      )
    offset += 2 + int.from_bytes(encoded[offset + 2 : offset + 4], "big")
  return None
