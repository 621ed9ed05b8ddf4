"""Names of the files that `predict` writes for each video and photograph, and of outdated ones."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

from jax_me.inference.video.annotated_video import MIME, partial_path

# Folder with the annotated photographs.
PHOTOGRAPHS = "annotated"
# Files of videos, each "<name>.<suffix>" or "<name>_<video>.<suffix>".
_VIDEO_FILES = re.compile(r"(timeline(_.+)?\.png|report(_.+)?\.html|annotated(_.+)?\.(mp4|webm))")


@dataclasses.dataclass(frozen=True)
class VideoFiles:
  """Paths of the files of one video; `annotated` has the suffix of its format."""

  timeline: pathlib.Path
  report: pathlib.Path
  annotated: pathlib.Path


class OutputFiles:
  """Files in an output folder, with a distinct name for each video and photograph.

  Args:
    folder: output folder; need not exist.
    videos: names of the video sources.
    suffix: of annotated copies, ".mp4" or ".webm".
  """

  def __init__(self, folder: str | os.PathLike, videos: Sequence[str], suffix: str):
    self._folder = pathlib.Path(folder)
    self._videos = [
      VideoFiles(
        timeline=self._folder / f"timeline{name}.png",
        report=self._folder / f"report{name}.html",
        annotated=self._folder / f"annotated{name}{suffix}",
      )
      for name in _name_suffixes(videos)
    ]
    self._photographs: set[str] = set()

  def of_video(self, index: int) -> VideoFiles:
    """The files of a video, by its position."""
    return self._videos[index]

  def names(self) -> list[str]:
    """Names of the files and folders that this run may write, in the output folder."""
    names = [path.name for files in self._videos for path in dataclasses.astuple(files)]
    return [*names, PHOTOGRAPHS]

  def next_photograph(self, name: str) -> pathlib.Path:
    """Path of the annotated copy of the next photograph, whose file name is `name`."""
    stem = re.sub(r"[^\w.-]+", "_", pathlib.PurePath(name).stem) or "photograph"
    unique, number = stem, 2
    while unique.casefold() in self._photographs:
      unique, number = f"{stem}_{number}", number + 1
    self._photographs.add(unique.casefold())
    return self._folder / PHOTOGRAPHS / f"{unique}.jpg"

  def remove_outdated(self) -> None:
    """Removes the files of an earlier run that this run will write again, should it be killed."""
    for files in self._videos:
      copies = [files.annotated.with_suffix(suffix) for suffix in MIME]
      partials = [partial_path(copy) for copy in copies]
      for path in (files.timeline, files.report, *copies, *partials):
        path.unlink(missing_ok=True)

  def of_earlier_runs(self) -> list[str]:
    """Names of result files in the folder that do not belong to this run."""
    own = set(self.names())
    found = [
      name for name in _names(self._folder) if _VIDEO_FILES.fullmatch(name) and name not in own
    ]
    found += [
      f"{PHOTOGRAPHS}/{name}"
      for name in _names(self._folder / PHOTOGRAPHS)
      if name.endswith(".jpg") and name[:-4].casefold() not in self._photographs
    ]
    return found


def _names(folder: pathlib.Path) -> Iterable[str]:
  return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _name_suffixes(videos: Sequence[str]) -> list[str]:
  """Suffixes that make the output files of several videos unique: "" for one video."""
  if len(videos) < 2:
    return [""] * len(videos)
  stems = [pathlib.PurePath(video.replace(":", "")).stem for video in videos]
  return [
    f"_{stem}" if stems.count(stem) == 1 else f"_{number}_{stem}"
    for number, stem in enumerate(stems, start=1)
  ]
