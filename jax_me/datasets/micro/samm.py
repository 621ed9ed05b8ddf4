"""SAMM (Davison et al. 2018): 159 micro-expressions of 29 subjects, grey 960 x 650 at 200 fps.

Protocol: leave-one-subject-out over five classes (136 clips). The last number in a clip's name
counts the clips; it is not an emotion code.
"""

import dataclasses
import re

from jax_me.data.labels import GROUPS, MICRO_EMOTIONS
from jax_me.datasets.generation.options import option
from jax_me.datasets.micro.clip_layout import ClipFolder, Key, clip_key, format_subject
from jax_me.datasets.micro.table_dataset import TableClipDataset, TableClipOptions

COUNTS = {
  "anger": 57,
  "happiness": 26,
  "others": 26,
  "surprise": 15,
  "contempt": 12,
  "disgust": 9,
  "fear": 8,
  "sadness": 6,
}
# Number of classes -> class, in the order of the codes -> its expressions. The three classes follow
# MEGC 2019.
CLASSES: dict[int, dict[str, tuple[str, ...]]] = {
  8: {name: (name,) for name in MICRO_EMOTIONS if name in COUNTS},
  5: {name: (name,) for name in ("anger", "happiness", "contempt", "surprise", "others")},
  3: dict(
    zip(
      GROUPS,
      (("anger", "contempt", "disgust", "fear", "sadness"), ("happiness",), ("surprise",)),
      strict=True,
    )
  ),
}
_APEX = "the published apex is not between onset and offset"
NOTES = {"028/028_4_1": _APEX, "032/032_3_1": _APEX}
INSTRUCTIONS = """
SAMM is given to research groups on request: see http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php.
Unpack what you receive below one folder and name that folder:
  --config.data.manual_dir=FOLDER
It must hold SAMM_Micro_FACS_Codes_v2.xlsx and the frames, nested as you like:
  SAMM/006/006_1_2/006_05562.jpg"""


@dataclasses.dataclass(frozen=True)
class SammOptions(TableClipOptions):
  """Options of SAMM.

  Attributes:
    classes: 5 (anger, happiness, contempt, surprise, others), 3 (negative: anger, contempt,
      disgust, fear, sadness; positive: happiness; surprise) or 8 (all).
  """

  classes: int = option(5, choices=tuple(CLASSES), of="SAMM")


class Samm(TableClipDataset[SammOptions]):
  """Builder of SAMM, with `SammOptions`."""

  name = "samm"
  DESCRIPTION = "SAMM: spontaneous micro-expressions of 29 people at 200 frames per second."
  CITATION = (
    "A. K. Davison, C. Lansley, N. Costen, K. Tan, M. H. Yap: SAMM: A Spontaneous Micro-Facial "
    "Movement Dataset. IEEE Transactions on Affective Computing, 2018."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = SammOptions
  TITLE = "SAMM"
  TABLE_NAMES = r"samm.*micro.*facs"
  CLIP_NAMES = r"\d+_\d+_\d+"
  SUBJECT_NAME = ("", 3)
  CLASSES = CLASSES
  CLIP_COUNTS = COUNTS
  NOTES = NOTES

  @classmethod
  def folder_key(cls, folder: ClipFolder) -> Key | None:
    """Subject and clip of .../006_1_2; the clip's name begins with the subject."""
    if not folder.parts or not re.fullmatch(cls.CLIP_NAMES, folder.parts[-1]):
      return None
    subject = folder.parts[-1].partition("_")[0]
    return format_subject(subject, *cls.SUBJECT_NAME) or "", clip_key(folder.parts[-1])
