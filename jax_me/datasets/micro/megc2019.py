"""MEGC 2019's composite (See et al., FG 2019): SMIC-HS, CASME II and SAMM under three classes.

The organisers' list of samples, `megc2019_clips.csv`, defines its clips and their labels: 442 clips
of 68 subjects. It is `images/combined_3class_gt.csv` of the repository
github.com/Facial-Micro-ExpressionGC/MEGC2019, unchanged except for the line ends: database,
subject, clip, label (0 negative, 1 positive, 2 surprise). Applying the class rules to the
annotation tables would give two or three more clips of CASME II.

Protocol: leave-one-subject-out over all 68 subjects, UF1 and UAR of the pooled predictions.
"""

import csv
import dataclasses
import importlib.resources
import pathlib
from typing import NamedTuple

from jax_me.data.labels import GROUPS
from jax_me.datasets.generation.options import option
from jax_me.datasets.generation.tasks import ReportRow
from jax_me.datasets.micro.casme2 import Casme2, Casme2Options
from jax_me.datasets.micro.clip_dataset import ClipDataset
from jax_me.datasets.micro.clip_layout import IMAGES, clip_key, format_subject
from jax_me.datasets.micro.clip_options import ClipOptions
from jax_me.datasets.micro.process_clips import Clip
from jax_me.datasets.micro.samm import Samm, SammOptions
from jax_me.datasets.micro.smic import Smic, SmicOptions

LIST_FILE = "megc2019_clips.csv"
DATABASES = ("smic", "casme2", "samm")
COUNTS = {"negative": 250, "positive": 109, "surprise": 83}
MISSING_IN_CROPPED = "copies of SMIC_all_cropped lack this clip; SMIC_all_raw has it"
_NAMES = {"smic": ("s", 2), "casme2": Casme2.SUBJECT_NAME, "samm": Samm.SUBJECT_NAME}
INSTRUCTIONS = """
MEGC 2019 joins three datasets, each given to research groups on request: SMIC (HS), CASME II and
SAMM. Unpack all three below one folder, each with its table of annotations (SMIC has none), and
name that folder:
  --config.data.manual_dir=FOLDER
It must hold, nested as you like:
  smic    SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image559740.bmp, or SMIC_all_raw
  casme2  CASME2_RAW_selected/sub01/EP02_01f/img46.jpg, or Cropped; CASME2-coding-....xlsx
  samm    SAMM/006/006_1_2/006_05562.jpg; SAMM_Micro_FACS_Codes_v2.xlsx
The list of samples comes with jax_me."""


class Sample(NamedTuple):
  """One line of the list, with the names of the files."""

  database: str
  subject: str
  clip: str
  label: str


@dataclasses.dataclass(frozen=True)
class Megc2019Options(ClipOptions):
  """Options of the composite.

  Attributes:
    images: "raw" frames, the releases' own "cropped" faces, or "auto": raw for align, else
      cropped; where one is missing, the other. SAMM has no cropped ones.
    casme2_table, samm_table: names of the annotation tables, where there are several.
  """

  images: str = option("auto", choices=IMAGES)
  casme2_table: str = ""
  samm_table: str = ""


class Megc2019(ClipDataset[Megc2019Options]):
  """Builder of MEGC 2019, with `Megc2019Options`. Classes: negative, positive, surprise."""

  name = "megc2019"
  DESCRIPTION = "The composite of MEGC 2019: 442 clips of SMIC-HS, CASME II and SAMM, 68 people."
  CITATION = (
    "J. See, M. H. Yap, J. Li, X. Hong, S.-J. Wang: MEGC 2019 - The Second Facial "
    "Micro-Expressions Grand Challenge. FG, 2019."
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = INSTRUCTIONS
  Options = Megc2019Options
  LABELS = GROUPS
  CLIP_COUNTS = COUNTS

  @classmethod
  def list_clips(
    cls, options: Megc2019Options, manual_dir: pathlib.Path
  ) -> tuple[list[Clip], list[ReportRow]]:
    shared = {**vars(options.narrowed(ClipOptions)), "images": options.images}
    listings = {
      "smic": lambda: Smic.list_clips(SmicOptions(**shared), manual_dir),
      "casme2": lambda: Casme2.list_clips(
        Casme2Options(**shared, classes=7, table=options.casme2_table), manual_dir, "casme2_table"
      ),
      "samm": lambda: Samm.list_clips(
        SammOptions(**shared, classes=8, table=options.samm_table), manual_dir, "samm_table"
      ),
    }
    on_disk: dict[tuple[str, str, str], Clip] = {}
    problems: dict[tuple[str, str, str], ReportRow] = {}
    report_rows = []
    for database in DATABASES:
      clips, rows = listings[database]()
      on_disk |= {_key(database, clip.file): clip for clip in clips}
      for row in rows:
        if row.status in ("only_raw", "only_cropped"):
          report_rows.append(row)
        else:
          problems.setdefault(_key(database, row.file), row)
    samples = read_samples()
    clips = [_clip(sample, on_disk) for sample in samples]
    for clip in clips:
      problem = problems.get(_key(clip.database, clip.file.partition("/")[2]))
      if problem is not None:
        report_rows.append(dataclasses.replace(problem, file=f"{clip.file}#annotation"))
    return clips, report_rows


def read_samples() -> list[Sample]:
  """Reads the organisers' list, in its order, with the names of the files."""
  text = importlib.resources.files(__package__).joinpath(LIST_FILE).read_text(encoding="utf-8")
  samples = []
  for database, subject, clip, code in csv.reader(text.splitlines()):
    prefix, width = _NAMES[database]
    name = format_subject(subject, prefix, width)
    assert name is not None, subject
    samples.append(Sample(database, name, clip, GROUPS[int(code)]))
  return samples


def _clip(sample: Sample, on_disk: dict[tuple[str, str, str], Clip]) -> Clip:
  """Returns the sample's clip, without frames if the files or the table lack it."""
  file = f"{sample.database}/{sample.subject}/{sample.clip}"
  found = on_disk.get((sample.database, sample.subject, clip_key(sample.clip)))
  if found is None:
    note = MISSING_IN_CROPPED if file == "smic/s18/s18_sur_03" else ""
    found = Clip(file, sample.label, sample.subject, sample.clip, note=note)
  return dataclasses.replace(
    found, file=file, label=sample.label, clip=sample.clip, database=sample.database
  )


def _key(database: str, file: str) -> tuple[str, str, str]:
  subject, _, clip = file.partition("/")
  return database, subject, clip_key(clip)
