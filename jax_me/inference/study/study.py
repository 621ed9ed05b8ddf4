"""A study: all videos of a folder, read one after the other, continued after an interruption.

Each video has a folder of results, which gets its final name when the video is finished; so a
finished video is not read again, and one that was interrupted starts over. All results have
checksums: damaged ones of a video are read again, and a table that was edited is not replaced.
"""

import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import jax
import numpy as np
from flax import nnx

import jax_me
from jax_me.faces.image_files import is_image_name
from jax_me.files import exclusive_lock, has_files, write_atomically
from jax_me.inference.model_input import InputSpec
from jax_me.inference.predictor import Predictor
from jax_me.inference.study.elan_export import annotations, elan_document, elan_table
from jax_me.inference.study.participants import Participants, check_columns
from jax_me.inference.study.study_tables import VIDEOS_TABLE, result_columns, write_study_tables
from jax_me.inference.video.annotated_video import annotated_suffix
from jax_me.inference.video.frame_stream import FrameStreamSettings
from jax_me.inference.video.result_files import (
  EVENTS_TABLE,
  SUMMARY_TABLE,
  PredictionsFile,
  model_record,
  write_results,
)
from jax_me.inference.video.run import VideoSession, VideoSessionSettings
from jax_me.inference.video.sources import (
  VIDEO_SUFFIXES,
  VideoError,
  VideoSource,
  find_sources,
  natural_sort_key,
  reads_as,
)
from jax_me.inference.video.spotting import SpottingSettings
from jax_me.inference.video.video_limits import VideoLimits
from jax_me.manifest import (
  MANIFEST_FILE,
  DamagedFolder,
  read_manifest,
  verify_manifest,
  write_manifest,
)
from jax_me.models.model_folder import write_json
from jax_me.models.saved_model import SavedModel
from jax_me.reports.csv_tables import file_names
from jax_me.run_folder import RESULTS_FILE, writing_results

SETTINGS_FILE = "study.json"
RECORD_FILE = "video.json"
VIDEOS_FOLDER, ELAN_FOLDER = "videos", "elan"
TABLES = (VIDEOS_TABLE, EVENTS_TABLE, SUMMARY_TABLE)

logger = logging.getLogger(__name__)


class StudyError(ValueError):
  """An output folder that cannot be continued; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class StudySettings:
  """Settings of a study, for all of its videos.

  Attributes:
    checkpoint: folder of the model, for the records.
    stream: detection and classification.
    fps: frames per second of all videos; None for the rates of the files.
    annotate: write annotated copies.
    regions: write the displacement of each facial region to predictions.csv.
    limits: of video files; one beyond them is failed.
  """

  checkpoint: str
  stream: FrameStreamSettings
  fps: float | None = None
  annotate: bool = False
  regions: bool = False
  limits: VideoLimits = VideoLimits()


@dataclasses.dataclass(frozen=True)
class Outcome:
  """Outcome of one video.

  Attributes:
    status: "ok", "failed", "missing" (in the table only) or "pending" (not reached yet).
    reason: why it failed.
    record: of the video, as in events.json.
    earlier: whether it was read by an earlier run.
  """

  status: str
  reason: str = ""
  record: Mapping[str, Any] | None = None
  earlier: bool = False


def find_videos(folder: str | os.PathLike, output: str | os.PathLike) -> list[str]:
  """Videos and folders of frames below a folder, as relative paths in natural order.

  Hidden files and the output folder are left out.

  Raises:
    VideoError: the folder does not exist or has no video.
  """
  root, results = pathlib.Path(folder), pathlib.Path(output).resolve()
  if not root.is_dir():
    raise VideoError(f"{root} is not a folder")
  found = []
  for parent, folders, files in os.walk(root):
    folders[:] = [
      name
      for name in folders
      if not name.startswith(".") and (pathlib.Path(parent) / name).resolve() != results
    ]
    here = pathlib.Path(parent)
    visible = [name for name in files if not name.startswith(".")]
    found += [here / name for name in visible if (here / name).suffix.lower() in VIDEO_SUFFIXES]
    images = any(is_image_name(name) for name in visible)
    if here != root and images and reads_as(here) == "frames":
      found.append(here)
  if not found:
    raise VideoError(f"{root} has no video files and no folders of frames")
  names = [path.relative_to(root).as_posix() for path in found]
  return sorted(names, key=natural_sort_key)


class Study:
  """Reads the videos of a folder into an output folder.

  Args:
    folder: of the videos.
    output: output folder; one of an earlier run is continued.
    videos: of `find_videos`.
    predictor: the model.
    settings: see `StudySettings`.
    participants: data of the participants. Files that only the table names are read too.

  Attributes:
    videos: names of all videos, with those that only the table has.

  Raises:
    TableError: the table of participants has a column of the results.
  """

  def __init__(
    self,
    folder: str | os.PathLike,
    output: str | os.PathLike,
    videos: Sequence[str],
    predictor: Predictor,
    settings: StudySettings,
    participants: Participants = Participants(),  # noqa: B008 (frozen)
  ):
    check_columns(participants, result_columns(predictor.labels))
    self._folder, self._output = pathlib.Path(folder), pathlib.Path(output)
    self.videos = [*videos, *(video for video in participants.rows if video not in videos)]
    self._predictor = predictor
    self._settings = settings
    self._participants = participants
    self._names = file_names(self.videos)
    missing = Outcome("missing", f"no such file in {self._folder}")
    self._outcomes = {
      video: Outcome("pending") if (self._folder / video).exists() else missing
      for video in self.videos
    }

  def run(self) -> Iterator[tuple[str, Outcome]]:
    """Reads what an earlier run has not finished, and writes the tables at the end.

    Yields:
      each video and its outcome. KeyboardInterrupt leaves tables with pending videos.

    Raises:
      StudyError: the output folder has results of other settings or tables that were changed, or
        another process uses it.
      OSError: the output folder cannot be written.
    """
    self._output.mkdir(parents=True, exist_ok=True)

    def refuse() -> None:
      raise StudyError(f"another process writes to {self._output}")

    with exclusive_lock(self._output, refuse):
      self._check_settings()
      self._check_tables()
      # What an interruption leaves is not listed as finished.
      with writing_results(self._output, *TABLES, ELAN_FOLDER):
        for name in TABLES:  # until they are complete
          (self._output / name).unlink(missing_ok=True)
        for partial in (self._output / VIDEOS_FOLDER).glob(".*.partial"):
          shutil.rmtree(partial)
        try:
          for video, outcome in list(self._outcomes.items()):
            if outcome.status == "pending":
              self._outcomes[video] = self._finished(video) or self._read(video)
            yield video, self._outcomes[video]
        finally:
          self._write_tables()

  def _check_settings(self) -> None:
    path, current = self._output / SETTINGS_FILE, _fingerprint(self._predictor, self._settings)
    if not path.exists():
      if has_files(self._output):
        raise StudyError(f"{self._output} contains other files; choose an empty or new folder")
      write_json(path, current)
      return
    try:
      earlier = json.loads(path.read_text(encoding="utf-8"))
      keys = dict.fromkeys([*current, *earlier])
      changed = [key for key in keys if earlier.get(key) != current.get(key)]
    except (ValueError, AttributeError, TypeError) as error:
      raise StudyError(f"{path} is damaged: {error}; choose another output folder") from error
    if changed:
      differences = ", ".join(f"{key} {earlier.get(key)} -> {current.get(key)}" for key in changed)
      raise StudyError(
        f"{self._output} has results of other settings ({differences}); choose another output "
        "folder, or delete this one to read all videos again"
      )

  def _check_tables(self) -> None:
    """Raises StudyError for a table or ELAN file that was changed: it would be replaced."""
    if not (self._output / RESULTS_FILE).exists():
      return  # New, or of an earlier version.
    try:
      for name in read_manifest(self._output, RESULTS_FILE):
        if (self._output / name).exists():
          verify_manifest(self._output, name, name=RESULTS_FILE)
    except DamagedFolder as error:
      raise StudyError(
        f"{error}. The study would replace it: if you edited it, move it to another folder, else "
        "delete it, and repeat the command"
      ) from error

  def _finished(self, video: str) -> Outcome | None:
    """The outcome of an earlier run, unless the video or its results have changed since."""
    path = self._output / VIDEOS_FOLDER / self._names[video] / RECORD_FILE
    try:
      if (path.parent / MANIFEST_FILE).exists():  # Earlier versions wrote none.
        verify_manifest(path.parent)
      content = json.loads(path.read_text(encoding="utf-8"))
      if content["file"] == _file_state(self._folder / video, video):
        return Outcome("ok", record=content["record"], earlier=True)
    except DamagedFolder as error:
      logger.warning("%s. The video is read again", error)
    except (OSError, ValueError, LookupError, TypeError):
      pass
    return None

  def _read(self, video: str) -> Outcome:
    target = self._output / VIDEOS_FOLDER / self._names[video]
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(target, ignore_errors=True)
    try:
      state = _file_state(self._folder / video, video)
      record = self._read_into(partial, self._source(video))
      write_json(partial / RECORD_FILE, {"file": state, "record": record})
      write_manifest(partial)
      os.replace(partial, target)
    except (ValueError, OSError, RuntimeError, cv2.error) as error:
      return Outcome("failed", " ".join(str(error).split()))
    finally:
      shutil.rmtree(partial, ignore_errors=True)
    # The record as a later run will read it, so that the tables are the same.
    return Outcome("ok", record=json.loads(json.dumps(record)))

  def _source(self, video: str) -> VideoSource:
    path = self._folder / video
    found = find_sources([path], self._settings.fps, "frames", self._settings.limits)
    source = next((source for source in found if source.name == str(path)), None)
    if source is None or source.kind not in ("video", "frames"):
      raise VideoError(f"{path} is neither a video nor a folder of frames")
    return dataclasses.replace(source, name=video)

  def _read_into(self, folder: pathlib.Path, source: VideoSource) -> dict[str, Any]:
    predictor, settings = self._predictor, self._settings
    annotated = folder / f"annotated{annotated_suffix()}" if settings.annotate else None
    session = VideoSession(
      source,
      predictor,
      VideoSessionSettings(
        stream=settings.stream,
        spotting=SpottingSettings(),
        timeline=folder / "timeline.png",
        report=folder / "report.html",
        annotated=annotated,
      ),
    )
    predictions = PredictionsFile(
      folder, predictor.labels, affect=predictor.saved.affect, regions=settings.regions
    )
    try:
      session.run(predictions)
    finally:
      predictions.close()
    record = session.finish()
    if not set(record["statuses"]) - {"unreadable"}:
      raise VideoError("no frame is readable")
    # Failed, so that a greater limit reads it again: it had more frames than it declares.
    problem = settings.limits.problem_of_length(record["frames"])
    if problem and source.kind == "video":
      raise VideoError(problem)
    write_results(folder, model_record(predictor.saved, settings.checkpoint), [record])
    return record

  def _write_tables(self) -> None:
    outcomes = {
      video: (outcome.status, outcome.reason, outcome.record)
      for video, outcome in self._outcomes.items()
    }
    write_study_tables(self._output, outcomes, self._participants, self._predictor.labels)
    shutil.rmtree(self._output / ELAN_FOLDER, ignore_errors=True)
    for video, (_, _, record) in outcomes.items():
      if record is not None:
        self._write_elan(video, record)

  def _write_elan(self, video: str, record: Mapping[str, Any]) -> None:
    annotated = annotations(record["events"])
    target = self._output / ELAN_FOLDER / self._names[video]
    text = elan_table(annotated).encode("utf-8", "backslashreplace")
    write_atomically(target.with_name(f"{target.name}.txt"), text)
    media = (self._folder / video).resolve()
    document = elan_document(annotated, media.as_uri(), media.stat().st_mtime)
    write_atomically(target.with_name(f"{target.name}.eaf"), document)


def _file_state(path: pathlib.Path, name: str) -> dict[str, Any]:
  """Name, size and time of a video file, or of the images of a folder."""
  files = sorted(path.iterdir()) if path.is_dir() else [path]
  stats = [file.stat() for file in files]
  return {
    "name": name,
    "files": len(files),
    "bytes": sum(stat.st_size for stat in stats),
    "modified_ns": max((stat.st_mtime_ns for stat in stats), default=0),
  }


def _fingerprint(predictor: Predictor, settings: StudySettings) -> dict[str, Any]:
  """What the results depend on beside the videos."""
  stream = dataclasses.asdict(settings.stream)
  spec = InputSpec.from_model(predictor.saved, align=settings.stream.align)
  del stream["batch"]  # changes the speed only
  content = {
    "format": 1,
    "jax_me": jax_me.__version__,
    "model": _model_checksum(predictor.saved),
    "detector": spec.detector,
    "fps": settings.fps,
    "annotate": settings.annotate,
    **({"regions": True} if settings.regions else {}),
    **stream,
    "spotting": dataclasses.asdict(SpottingSettings()),
  }
  return json.loads(json.dumps(content))


def _model_checksum(saved: SavedModel) -> str:
  """SHA-256 of labels, preprocessing and weights."""
  description = [
    saved.name,
    saved.labels,
    saved.image_size,
    saved.input,
    saved.alignment,
    dataclasses.asdict(saved.preparation),
    [float(value) for value in (*saved.mean, *saved.std)],
  ]
  digest = hashlib.sha256(json.dumps(description).encode())
  for array in jax.tree.leaves(nnx.state(saved.model, nnx.Not(nnx.RngState))):
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()[:16]
