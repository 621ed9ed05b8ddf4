"""JAFFE builder (Lyons et al., 1998): 213 grey images of ten women, seven expressions.

There is one split, "train", for leave-one-subject-out cross-validation
(`jax_me.data.folds.leave_one_subject_out`).
"""

import re

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.options import ImageOptions
from jax_me.datasets.generation.process_images import SourceImage, image_split
from jax_me.datasets.generation.source_files import describe_missing, walk_files
from jax_me.datasets.generation.tasks import Split
from jax_me.faces.image_files import is_image_name

# Code in the file names -> label and published image count, in label order.
CODES = {
  "AN": ("anger", 30),
  "DI": ("disgust", 29),
  "FE": ("fear", 32),
  "HA": ("happiness", 31),
  "NE": ("neutral", 30),
  "SA": ("sadness", 31),
  "SU": ("surprise", 30),
}
_NAME = re.compile(rf"([A-Z]{{2}})\.({'|'.join(CODES)})\d*\.(\d+)\..*", re.IGNORECASE)
INSTRUCTIONS = """
JAFFE is available for research: see https://zenodo.org/records/3451524. Unpack it and pass the
folder that holds the images, or one above it:
  KA.AN1.39.tiff    subject KA, first anger image, image number 39"""


class Jaffe(FaceDataset[ImageOptions]):
  """JAFFE; see `ImageOptions`. The release's TIFF images are stored as PNG."""

  name = "jaffe"
  DESCRIPTION = "JAFFE: posed expressions of ten Japanese women."
  CITATION = (
    "M. Lyons, S. Akamatsu, M. Kamachi, J. Gyoba: Coding Facial Expressions with Gabor Wavelets. "
    "IEEE International Conference on Automatic Face and Gesture Recognition 1998."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = ImageOptions

  LABELS = tuple(label for label, _ in CODES.values())
  KNOWN_COUNTS = {"train": tuple(count for _, count in CODES.values())}

  @classmethod
  def is_source(cls, name: str) -> bool:
    return is_image_name(name)

  def splits(self) -> dict[str, Split]:
    by_number: dict[str, SourceImage] = {}
    for path in walk_files(self.manual_dir):
      name = path.rpartition("/")[2]
      if not is_image_name(name):
        continue
      match = _NAME.fullmatch(name)
      if match is None:
        self.report(path, "unexpected_name", "expected a name like KA.AN1.39.tiff")
        continue
      subject, emotion, number = match.groups()
      # The same image may occur in two formats or two folders.
      if number in by_number:
        self.report(path, "second_image", by_number[number].file)
        continue
      label, _ = CODES[emotion.upper()]
      by_number[number] = SourceImage(path, label, subject=subject.upper())
    if not by_number:
      missing = describe_missing(self.manual_dir, "images of JAFFE", hint="jaffe")
      raise ValueError(missing + INSTRUCTIONS)
    listed = [by_number[number] for number in sorted(by_number, key=int)]
    return {"train": image_split(self.manual_dir, listed, self.options)}
