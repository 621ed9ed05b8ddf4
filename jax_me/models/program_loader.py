"""Loader of an exported program: class probabilities of images, without jax_me.

`jax-me export --format stablehlo` copies this file into the folder that it writes. It needs jax,
numpy and flatbuffers:

  from load_program import load

  program = load("FOLDER")
  probabilities = program(images)  # uint8 [B, S, S, 3] RGB -> float32 [B, C]
  program.labels[int(probabilities[0].argmax())]
"""

import hashlib
import json
import os
import pathlib

import numpy as np
from jax import export

PROGRAM_FILE, DESCRIPTION_FILE, REFERENCE_FILE = (
  "program.stablehlo",
  "program.json",
  "reference.npz",
)
TOLERANCE = 1e-3  # Of probabilities, between devices.


class ProgramError(ValueError):
  """A damaged or incomplete folder; the message names the file."""


class Program:
  """A classifier for batches of any size, on CPU, CUDA or TPU.

  Attributes:
    labels: class names in the order of the probabilities.
    image_size: side of the square input in pixels.
    description: content of `program.json`; `preprocessing` says how an image becomes an input.
  """

  def __init__(self, folder: str | os.PathLike):
    root = pathlib.Path(folder)
    self.description = json.loads(_read(root / DESCRIPTION_FILE))
    self.labels = self.description["labels"]
    self.image_size = self.description["image_size"]
    files = self.description["sha256"]
    contents = {name: _read(root / name, files[name]) for name in (PROGRAM_FILE, REFERENCE_FILE)}
    self._program = export.deserialize(bytearray(contents[PROGRAM_FILE]))
    self._reference = root / REFERENCE_FILE

  def __call__(self, images: np.ndarray) -> np.ndarray:
    """Class probabilities: uint8 [B, S, S, 3] RGB -> float32 [B, C].

    Raises:
      ValueError: images of another shape or dtype.
    """
    images = np.asarray(images)
    shape = (self.image_size, self.image_size, 3)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
      raise ValueError(
        f"the program takes uint8 [B, {shape[0]}, {shape[1]}, 3], got {images.dtype} "
        f"{list(images.shape)}"
      )
    return np.asarray(self._program.call(images))

  def check(self) -> float:
    """Computes the stored example again; returns the largest difference.

    Raises:
      ProgramError: it is larger than TOLERANCE.
    """
    with np.load(self._reference, allow_pickle=False) as stored:
      difference = float(np.abs(self(stored["input"][None])[0] - stored["probabilities"]).max())
    if not difference <= TOLERANCE:
      raise ProgramError(f"the output differs by {difference:.1e} from that in {self._reference}")
    return difference


def load(folder: str | os.PathLike) -> Program:
  """Loads a program after checking its files.

  Raises:
    ProgramError: a file is missing or damaged.
  """
  return Program(folder)


def _read(path: pathlib.Path, sha256: str = "") -> bytes:
  try:
    content = path.read_bytes()
  except OSError as error:
    raise ProgramError(f"{path} cannot be read: {error.strerror}") from error
  if sha256 and hashlib.sha256(content).hexdigest() != sha256:
    raise ProgramError(f"{path} is damaged: its SHA-256 differs from that in {DESCRIPTION_FILE}")
  return content
