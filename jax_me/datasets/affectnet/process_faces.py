"""Options of AffectNet, and the processing of its faces: read label and image, crop or align.

Runs in worker processes, so it must not import TFDS.
"""

import dataclasses
import functools
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from jax_me.bounded_reading import read_file
from jax_me.datasets.affectnet.annotations import AnnotatedFace, Box, affect_values
from jax_me.datasets.affectnet.layout import RELEASES
from jax_me.datasets.generation.options import ImageOptions, option
from jax_me.datasets.generation.process_images import ImageProcessor
from jax_me.datasets.generation.tasks import Skipped
from jax_me.faces.alignment import align_image
from jax_me.faces.image_files import ENCODINGS, encode_image
from jax_me.models.model_metadata import AFFECT

# Codes that are not expressions, in every release.
NO_EXPRESSION = {8: "none", 9: "uncertain", 10: "non face"}
# Margin around the annotated box on each side, as a fraction of its longer side.
CROP_MARGIN = 0.1
# The same for the region that dlib searches: its detector needs the whole head.
SEARCH_MARGIN = 0.5
# Broken in the distributed archive itself.
KNOWN_CORRUPT = frozenset({"103/29a31ebf1567693f4644c8ba3476ca9a72ee07fe67a5860d98707a0a.jpg"})


def _keeps_files(options: "AffectNetOptions") -> bool:
  return not options.align and options.release in ("npy", "plus")


@dataclasses.dataclass(frozen=True)
class AffectNetOptions(ImageOptions):
  """Options that change the content of the AffectNet dataset.

  Attributes:
    release: "csv" (2017), "npy" (March 2021), "plus" (AffectNet+), or "auto" for the only release
      in manual_dir.
    classes: 8, or 7 without contempt. None, uncertain and non-face are always left out.
    align: crop and align the face with dlib; for csv, the face in the annotated box. False keeps
      the release's own crops: the files of npy and plus byte for byte; for csv a square around
      the annotated box with a margin of a tenth of its longer side.
    size: side of aligned faces in pixels; larger csv crops are downscaled to it.
    on_no_face: for align, if dlib finds no face: "skip", "center" (unaligned) or "error".
    encoding: "jpg" (quality 95) or "png" (lossless, five times the size), for cropped faces.
    detector: for align, as in `ImageOptions`.
  """

  size: int = option(224, idle=_keeps_files)
  encoding: str = option("jpg", choices=ENCODINGS, idle=_keeps_files)
  release: str = "auto"
  classes: int = option(8, choices=(7, 8), of="AffectNet")

  def __post_init__(self):
    if self.release not in ("auto", *RELEASES):
      raise ValueError(f"release must be auto, {', '.join(RELEASES)}: {self.release!r}")
    super().__post_init__()

  @property
  def title(self) -> str:
    return f"{self.release}_{self.classes}" + (f"_{self.size}" if self.align else "")


@dataclasses.dataclass(frozen=True)
class FaceProcessor(ImageProcessor[AnnotatedFace, AffectNetOptions]):
  """Makes the examples of faces of one split; `folder` holds their annotation files.

  `options.size` is also the largest side of crops by box.

  Attributes:
    images: folders that may hold the images.
    labels: names of the expressions that are kept, by code.
  """

  images: tuple[str, ...]
  labels: tuple[str, ...]

  def annotate(self, image: AnnotatedFace) -> AnnotatedFace:
    """Adds the label of the expression code; raises Skipped if its class is not kept."""
    code, affect = image.code, image.affect
    if image.annotation:
      path = pathlib.Path(self.folder, image.annotation)
      try:
        if path.suffix.lower() == ".npy":
          code, affect = read_npy_label(path), read_npy_affect(path)
        else:
          code, affect = read_json_label(path)
      except (OSError, ValueError) as error:
        raise Skipped("bad_annotation", f"{image.annotation}: {error}") from error
    if code in NO_EXPRESSION:
      raise Skipped("no_expression", NO_EXPRESSION[code])
    if not 0 <= code < 8:
      raise Skipped("bad_annotation", f"expression {code} is not one of the codes 0 to 10")
    if code >= len(self.labels):
      raise Skipped("other_label", "contempt")
    return dataclasses.replace(image, label=self.labels[code], affect=affect)

  def read(self, image: AnnotatedFace) -> bytes:
    """Returns the image file's content, from the first folder that has it."""
    if image.box is not None and min(image.box[2:]) <= 0:
      raise Skipped("no_box", "the width or height of the face is not positive")
    for path in _candidate_paths(self.images, image.path):
      try:
        return read_file(path)
      except FileNotFoundError:
        continue
      except OSError as error:
        raise Skipped("unreadable", error.strerror or str(error)) from error
    raise Skipped("missing", "listed, but there is no such file")

  def decode(self, image: AnnotatedFace, data: bytes) -> np.ndarray:
    try:
      return super().decode(image, data)
    except Skipped as error:
      status = "known_corrupt" if image.path in KNOWN_CORRUPT else error.status
      raise Skipped(status, error.detail) from error

  def _crop(
    self, image: AnnotatedFace, data: bytes, pixels: np.ndarray
  ) -> tuple[bytes | None, dict[str, Any]]:
    size, on_no_face, encoding = self.options.size, self.options.on_no_face, self.options.encoding
    box = image.box
    if box is None:
      return super()._crop(image, data, pixels)
    if not _box_overlaps_image(box, pixels):
      raise Skipped("no_box", f"the face's box {list(box)} is outside the image")
    annotated = crop_square(pixels, box, CROP_MARGIN)
    if max(annotated.shape[:2]) > size:
      annotated = cv2.resize(annotated, (size, size), interpolation=cv2.INTER_AREA)
    if not self.options.align:
      return encode_image(annotated, encoding), {"status": "ok"}
    # If dlib finds no face, the crop by the annotated box is tighter than the search region.
    policy = "skip" if on_no_face == "center" else on_no_face
    region = crop_square(pixels, box, SEARCH_MARGIN)
    face = align_image(region, size, policy, self.options.detector)
    stored, record = self.encode(face)
    if stored is None and on_no_face == "center":
      stored = encode_image(
        cv2.resize(annotated, (size, size), interpolation=cv2.INTER_LINEAR), encoding
      )
      record["status"] = "centered"
    return stored, record


def read_npy_label(path: pathlib.Path) -> int:
  """The expression code in an `_exp.npy`: a scalar or one element, stored as number or text.

  Raises:
    ValueError: the file holds anything else.
    OSError: the file cannot be read.
  """
  return _parse_code(_read_npy_value(path))


def read_npy_affect(path: pathlib.Path) -> tuple[float, ...]:
  """Valence and arousal in the `_val.npy` and `_aro.npy` beside an `_exp.npy`; empty if unknown."""
  start = path.name[: -len("exp.npy")]
  try:
    values = [_read_npy_value(path.with_name(f"{start}{kind}.npy")) for kind in ("val", "aro")]
  except (OSError, ValueError):
    return ()
  return affect_values(
    *(v.decode("ascii", "replace") if isinstance(v, bytes) else v for v in values)
  )


def _read_npy_value(path: pathlib.Path) -> object:
  """The scalar or one element of a file.

  Raises:
    ValueError: the file holds anything else.
    OSError: the file cannot be read.
  """
  with path.open("rb") as file:
    try:
      array = np.load(file, allow_pickle=False)
    except (EOFError, zipfile.BadZipFile) as error:
      raise ValueError("the file is empty or damaged") from error
  if not isinstance(array, np.ndarray) or array.size != 1:
    raise ValueError("not a single value")
  return array.item()


def read_json_label(path: pathlib.Path) -> tuple[int, tuple[float, ...]]:
  """The human label, valence and arousal in an annotation file of AffectNet+.

  Several spellings of the keys occur; valence and arousal are empty if unknown.

  Raises:
    ValueError: the key is missing, or its value is not a number.
    OSError: the file cannot be read.
  """
  content = json.loads(path.read_bytes())
  if not isinstance(content, dict):
    raise ValueError("not a JSON object")
  normalized = {"".join(c for c in key.lower() if c not in "-_ "): key for key in content}
  if "humanlabel" not in normalized:
    raise ValueError(f"no human-label; its keys are {', '.join(content) or 'none'}")
  values = [content.get(normalized.get(name, "")) for name in AFFECT]
  return _parse_code(content[normalized["humanlabel"]]), affect_values(*values)


def _parse_code(value: object) -> int:
  """Integer code from 3, 3.0, "3", b"3.0" or [3]."""
  if isinstance(value, list) and len(value) == 1:
    value = value[0]
  text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
  try:
    number = float(text)
  except ValueError:
    raise ValueError(f"{text[:40]!r} is not a number") from None
  if not number.is_integer():
    raise ValueError(f"{text[:40]!r} is not a whole number")
  return int(number)


def _candidate_paths(folders: tuple[str, ...], image: str) -> Iterator[pathlib.Path]:
  """The listed path in each folder, then paths that differ from it only in case."""
  yield from (pathlib.Path(folder, image) for folder in folders)
  for folder in folders:
    parent, name = os.path.split(os.path.join(folder, image))
    same = _names_by_case(parent).get(name.casefold(), [])
    if len(same) == 1:
      yield pathlib.Path(parent, same[0])


@functools.lru_cache(maxsize=64)
def _names_by_case(folder: str) -> dict[str, list[str]]:
  names: dict[str, list[str]] = {}
  if os.path.isdir(folder):
    for name in os.listdir(folder):
      names.setdefault(name.casefold(), []).append(name)
  return names


def _box_overlaps_image(box: Box, image: np.ndarray) -> bool:
  left, top, width, height = box
  return left < image.shape[1] and top < image.shape[0] and left + width > 0 and top + height > 0


def crop_square(image: np.ndarray, box: Box, margin: float) -> np.ndarray:
  """Crops the square around a box.

  Args:
    image: uint8 [H, W, 3].
    box: left, top, width, height in pixels; it must overlap the image.
    margin: added on each side, as a fraction of the box's longer side.

  Returns:
    uint8 [S, S, 3], S = max(width, height) * (1 + 2 * margin) of the box clipped to the image. A
    square that exceeds the border is shifted inwards; one larger than the image is padded with
    black.
  """
  left, right = max(box[0], 0), min(box[0] + box[2], image.shape[1])
  top, bottom = max(box[1], 0), min(box[1] + box[3], image.shape[0])
  side = round(max(right - left, bottom - top) * (1 + 2 * margin))
  x = _crop_start((left + right) / 2, side, image.shape[1])
  y = _crop_start((top + bottom) / 2, side, image.shape[0])
  crop = np.zeros((side, side, 3), np.uint8)
  visible = image[max(y, 0) : y + side, max(x, 0) : x + side]
  crop[max(-y, 0) :, max(-x, 0) :][: visible.shape[0], : visible.shape[1]] = visible
  return crop


def _crop_start(center: float, side: int, length: int) -> int:
  """Start of `side` pixels around a centre, shifted into [0, length] if they fit."""
  start = round(center - side / 2)
  low, high = min(0, length - side), max(0, length - side)
  return min(max(start, low), high)
