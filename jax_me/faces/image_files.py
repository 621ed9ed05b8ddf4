"""Image file reading (any common format to uint8 RGB) and encoding."""

import io
import os
import warnings

import cv2
import numpy as np
from PIL import ExifTags, Image

from jax_me.bounded_reading import FileTooSlow, read_file

# Suffixes of image files; every other file is "not_an_image".
IMAGE_SUFFIXES = frozenset(
  ".jpg .jpeg .jpe .jfif .png .bmp .dib .tif .tiff .webp .gif .ppm .pgm .pnm .jp2 .avif".split()
)
# Image formats that Pillow cannot decode: reported as unreadable, with advice, not skipped.
UNSUPPORTED_SUFFIXES = frozenset(".heic .heif .cr2 .cr3 .nef .arw .dng .raf .orf .rw2".split())

# 8192 x 8192, some 500 MB while decoding: guards against decompression bombs.
MAX_PIXELS = 2**26

# Encodings of `encode_image`: lossless, or a fifth of the size.
ENCODINGS = ("png", "jpg")
JPEG_QUALITY = 95

# EXIF orientation -> operation that brings the image upright.
_EXIF_TRANSPOSES = {
  2: Image.Transpose.FLIP_LEFT_RIGHT,
  3: Image.Transpose.ROTATE_180,
  4: Image.Transpose.FLIP_TOP_BOTTOM,
  5: Image.Transpose.TRANSPOSE,
  6: Image.Transpose.ROTATE_270,
  7: Image.Transpose.TRANSVERSE,
  8: Image.Transpose.ROTATE_90,
}


class UnreadableImage(ValueError):
  """An image that cannot be decoded. The message names the file and the reason."""

  def __init__(self, name: str, reason: str):
    super().__init__(f"cannot read the image {name}: {reason}")
    self.name = name
    self.reason = reason


def is_image_name(name: str) -> bool:
  """Whether a file of this name or path should be an image (by its suffix, ignoring case)."""
  if os.path.basename(name).startswith("._"):  # macOS metadata beside each file of an archive
    return False
  suffix = os.path.splitext(name)[1].lower()
  return suffix in IMAGE_SUFFIXES or suffix in UNSUPPORTED_SUFFIXES


def read_image(source: str | os.PathLike | bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
  """Decodes one image as viewers display it: EXIF rotation applied, colours in RGB.

  Grey, palette, CMYK, 16-bit and floating-point images become 8-bit RGB; 16 bits are scaled by
  1/257, so that 65535 becomes 255. Transparent pixels are composited over white. Of an animation
  or a multi-page file the first image is used.

  Args:
    source: a path, or the bytes of an encoded image.
    max_pixels: greatest width times height.

  Returns:
    uint8 [H, W, 3], RGB, contiguous.

  Raises:
    UnreadableImage: missing, empty, truncated, not an image, more than `max_pixels` pixels, a pipe
      or device, or larger than MAX_FILE_BYTES.
  """
  if isinstance(source, bytes):
    name, data = f"({len(source)} bytes)", source
  else:
    name = os.fspath(source)
    try:
      data = read_file(source)
    except OSError as error:
      raise UnreadableImage(name, error.strerror or str(error)) from error
  if not data:
    raise UnreadableImage(name, "the file is empty (0 bytes)")
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")  # Pillow warns about odd metadata and large images
      with Image.open(io.BytesIO(data)) as image:
        pixels = image.width * image.height
        if pixels > max_pixels:
          raise UnreadableImage(name, _too_large(image.width, image.height, max_pixels))
        return pillow_to_rgb(image, name)
  except (UnreadableImage, FileTooSlow):
    raise
  except Image.DecompressionBombError as error:
    raise UnreadableImage(name, f"more than the {MAX_PIXELS} pixels allowed") from error
  except Image.UnidentifiedImageError as error:
    raise UnreadableImage(name, _unknown_format(name, data)) from error
  except Exception as error:  # decoders raise nearly any type on broken data
    reason = str(error) or type(error).__name__
    raise UnreadableImage(name, f"broken or truncated ({reason})") from error


def pillow_to_rgb(image: Image.Image, name: str = "image") -> np.ndarray:
  """Converts an opened image as `read_image` does.

  Args:
    image: of any mode.
    name: of the image, for the message.

  Returns:
    uint8 [H, W, 3], RGB, contiguous.

  Raises:
    UnreadableImage: integer or floating-point pixels that are out of range.
  """
  image.load()
  # ImageOps.exif_transpose also rewrites the metadata, which fails for some cameras.
  transpose = _EXIF_TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
  return _to_rgb(name, image if transpose is None else image.transpose(transpose))


def over_white(pixels: np.ndarray) -> np.ndarray:
  """Composites uint8 [H, W, 4] RGBA over white: uint8 [H, W, 3] RGB."""
  return _to_rgb("", Image.fromarray(pixels))


def _too_large(width: int, height: int, max_pixels: int = MAX_PIXELS) -> str:
  return f"{width} x {height} pixels are more than the {max_pixels} allowed; scale it down first"


def _unknown_format(name: str, data: bytes) -> str:
  if os.path.splitext(name)[1].lower() in UNSUPPORTED_SUFFIXES:
    return "this format is not supported; convert it to JPEG or PNG"
  if b"\0" not in data[:512]:
    return "the content is text, not an image"
  return "the content is not an image of a known format"


def _to_rgb(name: str, image: Image.Image) -> np.ndarray:
  """Converts any Pillow mode to uint8 [H, W, 3]."""
  if image.mode.startswith("I;16") or image.mode == "I":
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
      raise UnreadableImage(name, "integer pixels outside [0, 65535]")
    return _grey_to_rgb(((values + 128) // 257).astype(np.uint8))
  if image.mode == "F":
    values = np.asarray(image)
    if not (values.min() >= 0 and values.max() <= 1):  # false for NaN too
      raise UnreadableImage(name, "floating-point pixels outside [0, 1]")
    return _grey_to_rgb(np.rint(values * 255).astype(np.uint8))
  if image.has_transparency_data:
    layer = image.convert("RGBA")
    image = Image.new("RGBA", layer.size, "white")
    image.alpha_composite(layer)
  return np.array(image.convert("RGB"))


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
  return np.ascontiguousarray(np.broadcast_to(grey[:, :, None], (*grey.shape, 3)))


def encode_image(image: np.ndarray, image_format: str = "png") -> bytes:
  """Encodes uint8 [H, W, 3] RGB as "png" (lossless) or "jpg" (quality 95, a fifth of the size)."""
  if image_format == "png":
    # Run-length level 1: as small as zlib's level 3 on faces, and a third faster.
    options = [
      cv2.IMWRITE_PNG_COMPRESSION,
      1,
      cv2.IMWRITE_PNG_STRATEGY,
      cv2.IMWRITE_PNG_STRATEGY_RLE,
    ]
  elif image_format == "jpg":
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
  else:
    raise ValueError(f"image_format must be 'png' or 'jpg', got {image_format!r}")
  _, data = cv2.imencode(f".{image_format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
  return data.tobytes()
