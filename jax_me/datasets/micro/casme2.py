"""CASME II (Yan et al. 2014): 255 micro-expressions of 26 subjects, 640 x 480 at 200 fps.

Protocols: leave-one-subject-out over five classes (246 clips, or 247 with sub24/EP02_07, which
some tables have and others lack), accuracy and macro F1.
"""

import dataclasses
import re

from jax_me.data.labels import GROUPS, MICRO_EMOTIONS
from jax_me.datasets.generation.options import option
from jax_me.datasets.micro.clip_layout import ClipFolder, Key, clip_key, format_subject
from jax_me.datasets.micro.table_dataset import TableClipDataset, TableClipOptions

COUNTS = {
  "happiness": 32,
  "disgust": 63,
  "repression": 27,
  "surprise": 25,
  "others": 99,
  "sadness": 7,
  "fear": 2,
}
# Number of classes -> class, in the order of the codes -> its expressions. The three classes follow
# MEGC 2019, where fear and sadness of CASME II are not negative.
CLASSES: dict[int, dict[str, tuple[str, ...]]] = {
  7: {name: (name,) for name in MICRO_EMOTIONS if name in COUNTS},
  5: {name: (name,) for name in ("happiness", "disgust", "repression", "surprise", "others")},
  3: dict(zip(GROUPS, (("disgust", "repression"), ("happiness",), ("surprise",)), strict=True)),
}
_OTHER_NUMBERS = "published tables differ in the frame numbers of this clip"
NOTES = {
  "sub24/EP02_07": "not among the 255 clips of the published counts; some tables list it",
  "sub16/EP01_08": "frames are missing from the release's cropped images",
  "sub07/EP06_01": _OTHER_NUMBERS,
  "sub12/EP09_02": _OTHER_NUMBERS,
}
INSTRUCTIONS = """
CASME II is given to research groups on request: see http://casme.psych.ac.cn/casme/e2. Unpack what
you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It must hold CASME2-coding-....xlsx and the frames, nested as you like:
  raw      CASME2_RAW_selected/sub01/EP02_01f/img46.jpg
  cropped  Cropped/sub01/EP02_01f/reg_img46.jpg"""


@dataclasses.dataclass(frozen=True)
class Casme2Options(TableClipOptions):
  """Options of CASME II.

  Attributes:
    classes: 5 (happiness, disgust, repression, surprise, others), 3 (negative: disgust and
      repression; positive: happiness; surprise) or 7 (all).
  """

  classes: int = option(5, choices=tuple(CLASSES), of="CASME II")


class Casme2(TableClipDataset[Casme2Options]):
  """Builder of CASME II, with `Casme2Options`."""

  name = "casme2"
  DESCRIPTION = "CASME II: spontaneous micro-expressions of 26 people at 200 frames per second."
  CITATION = (
    "W.-J. Yan, X. Li, S.-J. Wang, G. Zhao, Y.-J. Liu, Y.-H. Chen, X. Fu: CASME II: An Improved "
    "Spontaneous Micro-Expression Database and the Baseline Evaluation. PLoS ONE, 2014."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = Casme2Options
  TITLE = "CASME II"
  TABLE_NAMES = r"casme ?2.*(coding|label)"
  CLIP_NAMES = r"ep\d+\w*"  # EP02_01f, EP09_05, EP09f, EP06_02_01
  SUBJECT_NAME = ("sub", 2)
  CLASSES = CLASSES
  CLIP_COUNTS = COUNTS
  NOTES = NOTES

  @classmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """Subject and clip of .../sub01/EP02_01f."""
    if len(folder.parts) < 2 or not re.fullmatch(cls.CLIP_NAMES, folder.parts[-1].lower()):
      return None
    if not re.fullmatch(r"(sub)?\d+", folder.parts[-2].lower()):
      return None
    return format_subject(folder.parts[-2], *cls.SUBJECT_NAME) or "", clip_key(folder.parts[-1])
