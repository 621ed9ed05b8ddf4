"""Analysis of an uploaded clip: report with timeline, events and annotated copy."""

import dataclasses
import os
import pathlib

from jax_me.demo.uploads import RefusedUpload, UploadLimits, check_clip_upload
from jax_me.inference.predictor import Predictor
from jax_me.inference.source_results import VideoResults
from jax_me.inference.video.result_files import EVENTS_TABLE, PREDICTIONS_FILE, SUMMARY_TABLE
from jax_me.inference.video.sources import VideoError
from jax_me.reports.document import Text, page_content, to_fragment

REPORT = "report.html"
# Offered for download, where `Results.save` writes them.
FILES = (REPORT, PREDICTIONS_FILE, EVENTS_TABLE, SUMMARY_TABLE, "timeline.png")


@dataclasses.dataclass(frozen=True)
class ClipAnalysis:
  """What the page shows of a clip.

  Attributes:
    content: HTML of the report, with the annotated copy, timeline and events.
    files: for download.
  """

  content: str
  files: list[pathlib.Path]


def analyse_clip(
  predictor: Predictor,
  path: str | os.PathLike | None,
  limits: UploadLimits,
  folder: str | os.PathLike,
) -> ClipAnalysis:
  """Reads an uploaded clip as `jax-me predict --annotate` does.

  Args:
    predictor: a classifier.
    path: of the upload; None without one.
    limits: of uploads.
    folder: for the result files.

  Returns:
    what the page shows.

  Raises:
    RefusedUpload: the clip cannot be used, or the model is no classifier.
  """
  if not predictor.labels:
    raise RefusedUpload("This model is a masked autoencoder: it takes photographs only.")
  clip = check_clip_upload(path, limits)
  try:
    results = predictor.predict(clip, seconds=limits.clip_seconds, max_pixels=limits.frame_pixels)
    assert isinstance(results, VideoResults)
    # In the files, the name that the user knows.
    source = results.source = dataclasses.replace(results.source, name=clip.name)
    results.save(folder, annotate=True)
  except VideoError as error:
    raise RefusedUpload(str(error).replace(str(clip), clip.name)) from error
  output = pathlib.Path(folder)
  content = page_content((output / REPORT).read_text(encoding="utf-8"))
  if source.length is not None and source.length / source.fps > limits.clip_seconds:
    note = Text(f"Only the first {limits.clip_seconds:g} seconds of the clip were read.")
    content = f"{to_fragment([note])}\n{content}"
  return ClipAnalysis(content, [output / name for name in FILES if (output / name).is_file()])
