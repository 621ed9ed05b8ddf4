"""MMEW (Ben et al., TPAMI 2021): 300 micro-expressions at 90 fps.

Protocols differ: leave-one-subject-out over the six basic emotions (234 clips) or over four
classes (263 clips), or subject-independent folds. The dataset's page says "repression" where the
table and most folders say "others": they are one class here, called others.
"""

import dataclasses
import re

from jax_me.data.labels import MICRO_EMOTIONS
from jax_me.datasets.generation.options import option
from jax_me.datasets.micro.clip_layout import IMAGES, ClipFolder, Key, clip_key
from jax_me.datasets.micro.table_dataset import TableClipDataset, TableClipOptions

COUNTS = {
  "happiness": 36,
  "sadness": 13,
  "surprise": 89,
  "fear": 16,
  "disgust": 72,
  "anger": 8,
  "others": 66,
  "repression": 0,
}
_BASIC = tuple(name for name in MICRO_EMOTIONS if name in COUNTS)[:6]
_OTHERS = ("others", "repression")
# Number of classes -> class, in the order of the codes -> its expressions.
CLASSES: dict[int, dict[str, tuple[str, ...]]] = {
  7: {**{name: (name,) for name in _BASIC}, "others": _OTHERS},
  6: {name: (name,) for name in _BASIC},
  4: {**{name: (name,) for name in ("happiness", "surprise", "disgust")}, "others": _OTHERS},
  3: {
    "negative": ("sadness", "fear", "disgust", "anger"),
    "positive": ("happiness",),
    "surprise": ("surprise",),
  },
}
_CLIP = re.compile(r"s(\d+)-\d+-\d+", re.IGNORECASE)
INSTRUCTIONS = """
MMEW is given to research groups on request: see http://www.dpailab.com/database.html. Unpack what
you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It must hold MMEW_Micro_Exp.xlsx and the frames, nested as you like, with or without a folder a
subject:
  Micro_Expression/happiness/S03-01-002/1.jpg
  Micro_Expression/S03/happiness/S03-01-002/1.jpg"""


@dataclasses.dataclass(frozen=True)
class MmewOptions(TableClipOptions):
  """Options of MMEW.

  Attributes:
    images: as in the base class; the release has no cropped faces, so such frames are user-made.
    classes: 7 (happiness, sadness, surprise, fear, disgust, anger, others), 6 (without others),
      4 (happiness, surprise, disgust, others) or 3 (negative: sadness, fear, disgust, anger;
      positive: happiness; surprise).
  """

  images: str = option("raw", choices=IMAGES)
  classes: int = option(7, choices=tuple(CLASSES), of="MMEW")


class Mmew(TableClipDataset[MmewOptions]):
  """Builder of MMEW, with `MmewOptions`."""

  name = "mmew"
  DESCRIPTION = "MMEW: spontaneous micro-expressions at 90 frames per second."
  CITATION = (
    "X. Ben, Y. Ren, J. Zhang, S.-J. Wang, K. Kpalma, W. Meng, Y.-J. Liu: Video-based Facial "
    "Micro-Expression Analysis: A Survey of Datasets, Features and Algorithms. IEEE TPAMI, 2021."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = MmewOptions
  TITLE = "MMEW"
  TABLE_NAMES = r"mmew_micro"
  SUBJECT_NAME = ("S", 2)
  CLASSES = CLASSES
  CLIP_COUNTS = COUNTS

  @classmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """Subject and clip of .../S03-01-002; single images of macro-expressions are not clips."""
    match = _CLIP.fullmatch(folder.parts[-1]) if folder.parts else None
    return (f"S{int(match[1]):02d}", clip_key(match[0])) if match else None
