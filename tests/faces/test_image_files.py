"""Reading of images in all supported formats, and rejection of other files."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from jax_me.faces import image_files

RAMP = np.arange(256, dtype=np.uint16).repeat(4).reshape(16, 64)  # every 8-bit value


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
  stream = io.BytesIO()
  image.save(stream, image_format, **options)
  return stream.getvalue()


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.webp", "ä 日本.png"])
def test_lossless_formats_return_the_pixels(tmp_path, scenery, name):
  path = tmp_path / name
  Image.fromarray(scenery).save(path, **({"lossless": True} if name.endswith("webp") else {}))
  result = image_files.read_image(path)
  assert result.dtype == np.uint8 and result.flags.c_contiguous
  np.testing.assert_array_equal(result, scenery)
  np.testing.assert_array_equal(image_files.read_image(path.read_bytes()), scenery)


def test_jpeg_is_rgb(scenery):
  result = image_files.read_image(encoded(Image.fromarray(scenery), "JPEG", quality=98))
  assert np.abs(result.astype(int) - scenery).mean() < 2


@pytest.mark.parametrize("extension", [".png", ".tiff", ".pgm"])
def test_16_bit_grey_is_scaled_not_clipped(extension):
  data = cv2.imencode(extension, RAMP * 257)[1].tobytes()
  np.testing.assert_array_equal(image_files.read_image(data), np.stack([RAMP] * 3, axis=-1))


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_16_bit_colour_is_scaled_not_clipped(extension, scenery):
  data = cv2.imencode(extension, scenery[:, :, ::-1].astype(np.uint16) * 257)[1].tobytes()
  np.testing.assert_array_equal(image_files.read_image(data), scenery)


def test_float_tiff_in_0_to_1_is_read_and_other_ranges_are_rejected():
  grey = (RAMP / 255).astype(np.float32)
  data = cv2.imencode(".tiff", grey)[1].tobytes()
  np.testing.assert_array_equal(image_files.read_image(data)[:, :, 1], RAMP)
  for bad in (grey * 255, np.full_like(grey, np.nan)):
    with pytest.raises(image_files.UnreadableImage, match=r"outside \[0, 1\]"):
      image_files.read_image(cv2.imencode(".tiff", bad)[1].tobytes())


def test_grey_palette_bilevel_and_cmyk(scenery):
  image = Image.fromarray(scenery)
  grey = image_files.read_image(encoded(image.convert("L"), "PNG"))
  np.testing.assert_array_equal(grey, np.asarray(image.convert("L").convert("RGB")))
  palette = image_files.read_image(encoded(image.quantize(64), "PNG"))
  np.testing.assert_array_equal(palette, np.asarray(image.quantize(64).convert("RGB")))
  bilevel = image_files.read_image(encoded(image.convert("1"), "PNG"))
  assert set(np.unique(bilevel)) == {0, 255}
  cmyk = image_files.read_image(encoded(image.convert("CMYK"), "JPEG", quality=98))
  assert np.abs(cmyk.astype(int) - scenery).mean() < 3


def test_transparent_pixels_are_composited_over_white(scenery):
  image = Image.fromarray(scenery).convert("RGBA")
  alpha = np.full(scenery.shape[:2], 255, np.uint8)
  alpha[:, :50] = 0
  image.putalpha(Image.fromarray(alpha))
  result = image_files.read_image(encoded(image, "PNG"))
  assert (result[:, :50] == 255).all()
  np.testing.assert_array_equal(result[:, 50:], scenery[:, 50:])


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(scenery, orientation, image_format):
  # The stored pixels for which undoing `orientation` gives the scenery.
  stored = {
    1: scenery,
    2: scenery[:, ::-1],
    3: scenery[::-1, ::-1],
    4: scenery[::-1],
    5: scenery.transpose(1, 0, 2),
    6: np.rot90(scenery, 1),
    7: scenery[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90(scenery, -1),
  }[orientation]
  exif = Image.Exif()
  exif[0x0112] = orientation
  data = encoded(Image.fromarray(np.ascontiguousarray(stored)), image_format, exif=exif)
  np.testing.assert_array_equal(image_files.read_image(data), scenery)


def test_first_image_of_an_animation(scenery):
  frames = [Image.fromarray(scenery), Image.fromarray(255 - scenery)]
  data = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
  np.testing.assert_array_equal(image_files.read_image(data), scenery)


def decompression_bomb() -> bytes:
  """A PNG whose header declares 20000 x 20000 pixels."""

  def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

  header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 8, 0, 0, 0, 0))
  return (
    b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
  )


def test_errors_name_the_file_and_the_reason(tmp_path, scenery):
  jpeg = encoded(Image.fromarray(scenery), "JPEG")
  png = encoded(Image.fromarray(scenery), "PNG")
  cases = {
    "zero.jpg": (b"", "empty"),
    "truncated.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
    "truncated.png": (png[: len(png) // 2], "truncated"),
    "header_only.jpg": (jpeg[:100], "truncated"),
    "text.png": (b"not an image\n", "text"),
    "noise.bmp": (bytes(range(256)), "not an image"),
    "phone.heic": (bytes(range(256)), "convert it to JPEG"),
    "bomb.png": (decompression_bomb(), "pixels"),
  }
  for name, (data, reason) in cases.items():
    (tmp_path / name).write_bytes(data)
    with pytest.raises(image_files.UnreadableImage, match=reason) as caught:
      image_files.read_image(tmp_path / name)
    assert name in str(caught.value), name
  with pytest.raises(image_files.UnreadableImage, match=r"missing\.png: No such file"):
    image_files.read_image(tmp_path / "missing.png")
  with pytest.raises(image_files.UnreadableImage, match="directory"):
    image_files.read_image(tmp_path)


def test_any_truncated_file_gives_an_image_or_unreadable_image(scenery):
  small = Image.fromarray(scenery[:20, :30])
  for image_format in ("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"):
    data = encoded(small, image_format)
    for length in range(0, len(data), max(1, len(data) // 40)):
      try:
        assert image_files.read_image(data[:length]).shape == (20, 30, 3)
      except image_files.UnreadableImage:
        pass


def test_image_names():
  assert image_files.is_image_name("a.JPG") and image_files.is_image_name("b.c.tif")
  assert image_files.is_image_name("phone.HEIC")  # reported as unreadable, not skipped
  for name in ("labels.csv", "README", ".DS_Store", "._a.jpg", "jpg"):
    assert not image_files.is_image_name(name)


def test_encode_image(scenery):
  np.testing.assert_array_equal(image_files.read_image(image_files.encode_image(scenery)), scenery)
  jpeg = image_files.read_image(image_files.encode_image(scenery, "jpg"))
  assert np.abs(jpeg.astype(int) - scenery).mean() < 2
  with pytest.raises(ValueError, match="'png' or 'jpg', got 'gif'"):
    image_files.encode_image(scenery, "gif")
