"""Checks of uploaded photographs and clips before they are used."""

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np

from jax_me.bounded_reading import read_file
from jax_me.faces.image_files import UnreadableImage, read_image
from jax_me.inference.video.sources import VIDEO_SUFFIXES


class RefusedUpload(ValueError):
  """An upload that cannot be used; the message is shown on the page."""


@dataclasses.dataclass(frozen=True)
class UploadLimits:
  """Limits of uploads.

  Attributes:
    image_bytes, clip_bytes: greatest size of a file.
    image_pixels, frame_pixels: greatest width times height of a photograph, and of a frame.
    clip_seconds: what is longer is read up to this time.
  """

  image_bytes: int = 20 * 2**20
  clip_bytes: int = 100 * 2**20
  image_pixels: int = 32 * 10**6
  frame_pixels: int = 4096 * 2304
  clip_seconds: float = 30.0

  def __str__(self) -> str:
    return (
      f"Photographs: up to {self.image_bytes >> 20} MiB and {self.image_pixels // 10**6} "
      f"megapixels. Clips: up to {self.clip_bytes >> 20} MiB; the first {self.clip_seconds:g} "
      "seconds are read."
    )


def uploaded_path(payload: Any, folder: str | os.PathLike) -> str | None:
  """Path of an upload as the browser names it.

  Args:
    payload: of the browser: {"path": ...}; None without an upload.
    folder: of the uploads.

  Returns:
    the path, with links resolved; None without an upload.

  Raises:
    RefusedUpload: it is not in the folder: a browser must not name other files of this computer.
  """
  if payload is None:
    return None
  named = payload.get("path") if isinstance(payload, dict) else None
  path = os.path.realpath(named) if isinstance(named, str) else ""
  if not pathlib.Path(path).is_relative_to(os.path.realpath(folder)):
    raise RefusedUpload("This is not an uploaded file.")
  return path


def read_photograph_upload(path: str | os.PathLike | None, limits: UploadLimits) -> np.ndarray:
  """Reads an uploaded photograph.

  Args:
    path: of the file; None when there is none.
    limits: what is allowed.

  Returns:
    uint8 [H, W, 3] RGB.

  Raises:
    RefusedUpload: no file, too large, too many pixels, or no image.
  """
  if path is None:
    raise RefusedUpload("Choose a photograph first, or take one with the camera.")
  name = pathlib.Path(path).name
  try:
    return read_image(read_file(path, limits.image_bytes), limits.image_pixels)
  except UnreadableImage as error:
    raise RefusedUpload(f"{name} cannot be read as a photograph: {error.reason}.") from error
  except OSError as error:
    raise RefusedUpload(f"{name} cannot be used: {error.strerror or error}.") from error


def check_clip_upload(path: str | os.PathLike | None, limits: UploadLimits) -> pathlib.Path:
  """Checks the name, the size and the first bytes of an uploaded clip, before it is opened.

  Args:
    path: of the file; None when there is none.
    limits: what is allowed.

  Returns:
    the path.

  Raises:
    RefusedUpload: no file, too large, or no video.
  """
  if path is None:
    raise RefusedUpload("Choose a clip first, or record one with the camera.")
  clip = pathlib.Path(path)
  if clip.suffix.lower() not in VIDEO_SUFFIXES:
    raise RefusedUpload(
      f"{clip.name} is no video by its name: use .mp4, .mov, .avi, .mkv or .webm."
    )
  size = clip.stat().st_size if clip.is_file() else 0
  if size > limits.clip_bytes:
    raise RefusedUpload(
      f"{clip.name} has {size / 2**20:.0f} MiB, more than the {limits.clip_bytes >> 20} allowed: "
      "cut it first."
    )
  # FFmpeg follows playlists, which are text, to other files and to addresses.
  with clip.open("rb") as file:
    if b"\0" not in file.read(512):
      raise RefusedUpload(f"{clip.name} is not a video, or it is damaged.")
  return clip
