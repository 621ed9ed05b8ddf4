"""Conversion of arrays of any common form to uint8 RGB images."""

from typing import Any

import numpy as np

from jax_me.faces.image_files import UnreadableImage, over_white

# Largest value of the integer types that hold more than 8 bits per channel.
_INTEGER_MAXIMUM = {"uint16": 65535, "bool": 1}


def array_to_image(array: Any, name: str) -> np.ndarray:
  """Converts an array to an RGB image, as `read_image` converts a file.

  Args:
    array: [H, W], [H, W, 1] (grey), [H, W, 3] (RGB) or [H, W, 4] (RGBA, composited over white).
      uint8, or other integers in [0, 255]; uint16 in [0, 65535]; bool; floating point in [0, 1].
    name: of the image, for the message.

  Returns:
    uint8 [H, W, 3], RGB.

  Raises:
    UnreadableImage: another shape, type or range.
  """
  pixels = np.asarray(array)
  if pixels.ndim == 2:
    pixels = pixels[:, :, None]
  if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
    hint = ""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4):
      hint = "; the channels are the last axis: use np.moveaxis(array, 0, -1)"
    raise UnreadableImage(
      name,
      "an image is uint8 [H, W, 3] RGB, or [H, W], [H, W, 1], [H, W, 4]; got "
      f"{pixels.dtype} {list(pixels.shape)}{hint}",
    )
  pixels = _to_uint8(pixels, name)
  if pixels.shape[2] == 4:
    return over_white(pixels)
  return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _to_uint8(pixels: np.ndarray, name: str) -> np.ndarray:
  kind = pixels.dtype.name
  if kind == "uint8":
    return pixels
  # Also bfloat16, which numpy does not know as a floating-point type.
  is_float = pixels.dtype.kind == "f" or kind.startswith(("bfloat", "float"))
  if not is_float and pixels.dtype.kind not in "biu":
    raise UnreadableImage(name, f"pixels are numbers, got an array of {kind}")
  maximum = 1.0 if is_float else _INTEGER_MAXIMUM.get(kind, 255)
  values: np.ndarray = pixels.astype(np.float64 if kind == "float64" else np.float32)
  if not (values.min() >= 0 and values.max() <= maximum):  # false for NaN too
    raise UnreadableImage(
      name,
      f"{kind} pixels must be in [0, {maximum:g}], got [{values.min():g}, {values.max():g}]"
      + ("; for values up to 255 use array.astype(np.uint8)" if is_float else ""),
    )
  return np.rint(values * np.asarray(255 / maximum, values.dtype)).astype(np.uint8)
