"""Inputs of `Predictor.predict`, of any kind, as photographs and video sources.

| input | read as |
|---|---|
| path, bytes, `PIL.Image`, array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4] | photograph |
| path of a video, "camera:0", array [T, H, W, 3] | video |
| path of a folder | see `find_sources` |
| list or other iterable, glob | a group: each item as if it were given alone |
| web address, if allowed | photograph or video |
"""

import dataclasses
import functools
import glob
import os
import pathlib
import tempfile
import urllib.parse
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from jax_me.faces.image_files import UnreadableImage, is_image_name, pillow_to_rgb, read_image
from jax_me.inference.image_arrays import array_to_image
from jax_me.inference.image_download import download, is_url
from jax_me.inference.video.sources import (
  DEFAULT_FPS,
  VIDEO_SUFFIXES,
  Frame,
  ReadAs,
  VideoError,
  VideoSource,
  check_fps,
  find_sources,
  natural_sort_key,
)
from jax_me.inference.video.video_limits import VideoLimits


@dataclasses.dataclass(frozen=True)
class Photograph:
  """A photograph that is read when it is needed.

  Attributes:
    name: path, or a description of an image without one.
    read: returns uint8 [H, W, 3] RGB.
    number: index in its folder.
    file: file name in its folder; "" for a photograph that was not found in a folder.
  """

  name: str
  read: Callable[[], np.ndarray]
  number: int = 0
  file: str = ""


@dataclasses.dataclass(frozen=True)
class UnusableInput:
  """An item of a list that is neither a photograph nor a video.

  Attributes:
    name: path, or a description.
    reason: what is wrong with it.
    number, file: as for a `Photograph`.
  """

  name: str
  reason: str
  number: int = 0
  file: str = ""


@dataclasses.dataclass(frozen=True)
class InputGroup:
  """Several inputs: a list, the files of a glob or of a folder.

  Attributes:
    name: path or glob, "" for a list.
    items: in order.
    note: decision that `find_sources` made, else "".
  """

  name: str
  items: "Sequence[PredictionInput]"
  note: str = ""


PredictionInput = Photograph | VideoSource | UnusableInput | InputGroup


@dataclasses.dataclass(frozen=True)
class InputSettings:
  """How inputs are read.

  Attributes:
    read_as: "photos" or "frames" for the images of folders, globs and lists, and for arrays
      [T, H, W, 3]; None decides for folders by `reads_as`, and takes globs and lists for
      photographs, arrays for frames.
    fps: frames per second; see `find_sources`.
    allow_urls: whether web addresses are downloaded.
    limits: of video files.
  """

  read_as: ReadAs | None = None
  fps: float | None = None
  allow_urls: bool = False
  limits: VideoLimits = VideoLimits()

  def __post_init__(self):
    if self.read_as not in (None, "photos", "frames"):
      raise ValueError(f'images are read as "photos" or "frames", got {self.read_as!r}')
    check_fps(self.fps)


def find_input(value: Any, settings: InputSettings, name: str = "image") -> PredictionInput:
  """Recognises what an input is.

  Args:
    value: see the table of this module.
    settings: how inputs are read.
    name: description of an image without a path.

  Returns:
    the photograph, the video or the group. Photographs are not read yet.

  Raises:
    ValueError: a path that does not exist, a file that is no video, a folder without images, an
      address that is not allowed, an array that is no image.
    TypeError: an object of another type.
  """
  if isinstance(value, str | os.PathLike):
    return _find_path(os.fspath(value), settings)
  if isinstance(value, bytes | bytearray | memoryview):
    return Photograph(name, functools.partial(_read_bytes, bytes(value), name))
  if isinstance(value, Image.Image):
    return Photograph(name, functools.partial(_read_pillow, value, name))
  if hasattr(value, "__array__"):
    return _find_array(np.asarray(value), settings, name)
  if isinstance(value, Iterable) and not isinstance(value, dict):
    return _find_items(list(value), settings)
  raise TypeError(
    "predict takes a path, a folder, a glob, bytes, a PIL image, an array, or a list of these; "
    f"got {type(value).__name__}"
  )


def all_photographs(found: PredictionInput) -> Iterator[Photograph | UnusableInput]:
  """All photographs and unusable items of an input, in order."""
  if isinstance(found, InputGroup):
    for item in found.items:
      yield from all_photographs(item)
  elif not isinstance(found, VideoSource):
    yield found


def _find_path(name: str, settings: InputSettings) -> PredictionInput:
  if is_url(name):
    return _find_url(name, settings)
  path = pathlib.Path(name)
  if glob.has_magic(name) and not path.exists():
    files = sorted(glob.glob(name, recursive=True), key=natural_sort_key)
    if not files:
      raise VideoError(f"no file matches {name}")
    return _find_items(files, settings, name)
  if path.is_file() and not is_image_name(name) and _is_image(path):
    return Photograph(name, functools.partial(read_image, name))
  sources = find_sources([name], settings.fps, settings.read_as, settings.limits)
  found = [_from_source(source) for source in sources]
  return found[0] if len(found) == 1 else InputGroup(name, found)


def _is_image(path: pathlib.Path) -> bool:
  """Whether a file that is no image by its name is one by its content."""
  if path.suffix.lower() in VIDEO_SUFFIXES:
    return False
  try:
    with Image.open(path):
      return True
  except Exception:  # decoders raise nearly any type on other files
    return False


def photographs_of(source: VideoSource) -> list[Photograph]:
  """The photographs of a source one by one, so that they can be read in parallel."""
  if source.kind == "photograph":
    return [Photograph(source.name, functools.partial(read_image, source.name))]
  return [
    Photograph(str(file), functools.partial(read_image, file), number, file.name)
    for number, file in enumerate(source.files)
  ]


def _from_source(source: VideoSource) -> PredictionInput:
  if not source.files:
    return source
  items = photographs_of(source)
  return items[0] if source.kind == "photograph" else InputGroup(source.name, items, source.note)


def _find_url(address: str, settings: InputSettings) -> PredictionInput:
  if not settings.allow_urls:
    raise ValueError(f"{address} is a web address; to download it, set allow_urls=True")
  suffix = pathlib.PurePosixPath(urllib.parse.urlsplit(address).path).suffix.lower()
  if suffix not in VIDEO_SUFFIXES:
    content = functools.cache(lambda: download(address))  # once, if it is drawn later
    return Photograph(address, lambda: _read_bytes(content(), address))
  handle, path = tempfile.mkstemp(suffix=suffix, prefix="jax_me_")
  with os.fdopen(handle, "wb") as file:
    file.write(download(address))
  (source,) = find_sources([path], settings.fps, limits=settings.limits)
  source = dataclasses.replace(source, name=address)
  weakref.finalize(source, pathlib.Path(path).unlink, missing_ok=True)
  return source


def _find_array(array: np.ndarray, settings: InputSettings, name: str) -> PredictionInput:
  if array.ndim == 1 and array.dtype.kind in "UO":  # of paths
    return _find_items(array.tolist(), settings)
  if array.ndim == 4:
    if array.shape[-1] not in (1, 3, 4) or not array.size:
      raise ValueError(
        f"an array of frames is [T, H, W, 3], channels last; got {array.dtype} {list(array.shape)}"
      )
    return _find_items(
      list(array), dataclasses.replace(settings, read_as=settings.read_as or "frames")
    )
  return Photograph(name, functools.partial(array_to_image, array, name))


def _find_items(
  items: Sequence[Any], settings: InputSettings, name: str = ""
) -> InputGroup | VideoSource:
  """The items of a list; unusable ones are kept, with the reason."""
  found = [_find_item(item, settings, f"image {index}") for index, item in enumerate(items)]
  images = [item for item in found if isinstance(item, Photograph | UnusableInput)]
  if settings.read_as != "frames" or len(images) < len(found):
    return InputGroup(name, found)
  rate = settings.fps or DEFAULT_FPS
  return VideoSource(
    name or "frames", "frames", rate, len(images), "", functools.partial(_read_frames, images, rate)
  )


def _find_item(item: Any, settings: InputSettings, name: str) -> PredictionInput:
  try:
    return find_input(item, settings, name)
  except (ValueError, TypeError, OSError) as error:
    path = os.fspath(item) if isinstance(item, str | os.PathLike) else name
    return UnusableInput(path, str(error))


def _read_frames(items: Sequence[Photograph | UnusableInput], rate: float) -> Iterator[Frame]:
  for number, item in enumerate(items):
    image, reason = read_photograph(item)
    yield Frame(number, number / rate, image, item.name, reason)


def read_photograph(item: Photograph | UnusableInput) -> tuple[np.ndarray | None, str]:
  """Reads a photograph.

  Returns:
    uint8 [H, W, 3] RGB and ""; None and the reason if it is unusable.
  """
  if isinstance(item, UnusableInput):
    return None, item.reason
  try:
    return item.read(), ""
  except UnreadableImage as error:
    return None, error.reason
  except (ValueError, TypeError, OSError) as error:
    return None, str(error)


def _read_pillow(image: Image.Image, name: str) -> np.ndarray:
  try:
    return pillow_to_rgb(image, name)
  except OSError as error:  # of a truncated file, which is decoded only now
    raise UnreadableImage(name, str(error)) from error


def _read_bytes(data: bytes, name: str) -> np.ndarray:
  try:
    return read_image(data)
  except UnreadableImage as error:
    raise UnreadableImage(name, error.reason) from error
