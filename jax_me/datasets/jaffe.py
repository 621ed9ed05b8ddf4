"""JAFFE (Lyons et al., 1998): 213 grey pictures of ten women, seven expressions.

There is one split, "train"; it is tested by leaving one person out
(`jax_me.data.folds.leave_one_subject_out`).
"""

import pathlib
import re

from jax_me.datasets.generation.base_builder import FaceDataset
from jax_me.datasets.generation.find_files import describe_missing
from jax_me.datasets.generation.image_dataset import PictureOptions, picture_split
from jax_me.datasets.generation.process_images import Picture
from jax_me.datasets.generation.source_files import fingerprint_folder, walk_files
from jax_me.datasets.generation.split import Split
from jax_me.faces.image_files import is_image_name

# What stands in the names, in this order; published numbers of pictures.
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
JAFFE is given for research: see https://zenodo.org/records/3451524. Unpack it and give the folder
that holds the pictures, or one above it:
  KA.AN1.39.tiff    subject KA, the first of anger, picture 39"""


class Jaffe(FaceDataset):
  """See `PictureOptions`. Pictures that are no JPEG or PNG (as the release's TIFF) become PNG."""

  name = "jaffe"
  DESCRIPTION = "JAFFE: posed expressions of ten Japanese women."
  CITATION = (
    "M. Lyons, S. Akamatsu, M. Kamachi, J. Gyoba: Coding Facial Expressions with Gabor Wavelets. "
    "IEEE International Conference on Automatic Face and Gesture Recognition 1998."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = PictureOptions

  @classmethod
  def fingerprint(cls, options: PictureOptions, manual_dir: pathlib.Path) -> str:
    del options
    return fingerprint_folder(
      manual_dir, lambda name: is_image_name(pathlib.PurePosixPath(name).name)
    )

  @classmethod
  def config_title(cls, options: PictureOptions) -> str:
    return options.cut_title

  @classmethod
  def label_names(cls, options: PictureOptions, manual_dir: pathlib.Path | None) -> tuple[str, ...]:
    del options, manual_dir
    return tuple(label for label, _ in CODES.values())

  def known_counts(self) -> dict[str, dict[str, int]]:
    return {"train": dict(CODES.values())}

  def splits(self) -> dict[str, Split]:
    pictures: dict[str, Picture] = {}
    for path in walk_files(self.manual_dir):
      name = path.rpartition("/")[2]
      if not is_image_name(name):
        continue
      match = _NAME.fullmatch(name)
      if match is None:
        self.report(path, "unexpected_name", detail="not like KA.AN1.39.tiff")
        continue
      subject, emotion, number = match.groups()
      # One picture in two formats, or in two folders, is one picture.
      if number in pictures:
        self.report(path, "second_image", detail=pictures[number].file)
        continue
      label, _ = CODES[emotion.upper()]
      pictures[number] = Picture(path, label, subject=subject.upper())
    if not pictures:
      missing = describe_missing(self.manual_dir, "pictures of JAFFE", hint="jaffe")
      raise ValueError(missing + INSTRUCTIONS)
    listed = [pictures[number] for number in sorted(pictures, key=int)]
    return {"train": picture_split(self.manual_dir, listed, self.options.cut)}
