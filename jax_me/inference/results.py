"""Results of `Predictor.predict`: one type for photographs, lists of them and videos."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np

from jax_me.faces.detector import Box
from jax_me.faces.head_pose import HeadPose

if TYPE_CHECKING:
  from jax_me.inference.predictor import Predictor
  from jax_me.inference.source_results import PhotographResults, VideoResults
  from jax_me.inference.video.spotting import ExpressionEvent

_Result = TypeVar("_Result")
# Entries that `repr` shows; the others are counted.
SHOWN = 12
# Columns of `Results.to_df` before those of the scores: those of predictions.csv, and the reason.
COLUMNS = (
  "video", "frame", "file", "seconds", "person", "status", "left", "top", "right", "bottom",
  "label", "motion", "yaw", "pitch", "roll", "reason",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FaceResult:
  """The prediction for one face, or a record that an image has no face.

  Attributes:
    label: the most probable class; None without a face.
    scores: {class: probability}; empty without a face.
    box: (left, top, right, bottom) of the face in pixels of the image; None without a face, and
      where the whole image was used.
    status: "ok"; "no_face"; "unreadable"; "not_finite"; in a video also "skipped" and
      "not_searched", see `FrameDetections`.
    frame: index of the frame in a video, from 0; None for a photograph.
    seconds: time of the frame; None for a photograph.
    person: number of the person in the video, of the face in the photograph (largest first), from
      1; None without a face.
    landmarks: float32 [68, 2], (x, y) in pixels of the image, in the iBUG 300-W order; None
      without a box.
    reason: why the image is unreadable or has no scores, else "".
    file: file name of the image in its folder; "" for a video file and a single photograph.
    motion: in a video, distance of the facial regions from the neutral face in eye distances; None
      where it was not measured.
    pose: yaw, pitch and roll of the head in degrees; None without landmarks.
    valence, arousal: in (-1, 1); None of models without these outputs.
  """

  label: str | None
  scores: dict[str, float]
  box: Box | None
  status: str
  frame: int | None = None
  seconds: float | None = None
  person: int | None = None
  landmarks: np.ndarray | None = dataclasses.field(default=None, compare=False, repr=False)
  reason: str = ""
  file: str = ""
  motion: float | None = None
  pose: HeadPose | None = None
  valence: float | None = None
  arousal: float | None = None

  def to_record(self, name: str) -> dict[str, Any]:
    """{column: value} of `COLUMNS` and score_<label>; `name` is that of the image or video.

    Models with valence and arousal add these two columns.
    """
    left, top, right, bottom = self.box or (None,) * 4
    yaw, pitch, roll = dataclasses.astuple(self.pose) if self.pose else (None,) * 3
    values = (
      name, self.frame, self.file, self.seconds, self.person, self.status, left, top, right,
      bottom, self.label, self.motion, yaw, pitch, roll, self.reason,
    )  # fmt: skip
    scores = {f"score_{label}": score for label, score in self.scores.items()}
    affect = {} if self.valence is None else {"valence": self.valence, "arousal": self.arousal}
    return dict(zip(COLUMNS, values, strict=True)) | scores | affect

  def __str__(self) -> str:
    if self.label is None:
      return f"{self.status}: {self.reason}" if self.reason else self.status
    box = "" if self.box is None else f", box {self.box}"
    affect = ""
    if self.valence is not None:
      affect = f", valence {self.valence:+.2f}, arousal {self.arousal:+.2f}"
    return f"{self.label} {self.scores[self.label]:.3f}{affect}{box}"


@dataclasses.dataclass(frozen=True)
class FrameResult(FaceResult):
  """The prediction for one person in one video frame; the attributes are those of `FaceResult`."""

  frame: int = 0
  seconds: float = 0.0

  def __str__(self) -> str:
    person = "" if self.person is None else f", person {self.person}"
    return f"frame {self.frame}, {self.seconds:.3f} s{person}: {super().__str__()}"


class Results(Sequence[_Result]):
  """Results in order: a `FaceResult` per face of a photograph, a `FrameResult` per person and
  frame of a video, or `Results` per item of a list.

  Args:
    items: the results.
    name: path or description of the input, "" for a list.
    predictor: the model that they are from; None for results that cannot be saved.
    note: how the input was read where that was decided by its content, else "".
  """

  def __init__(
    self,
    items: Iterable[_Result] = (),
    name: str = "",
    predictor: "Predictor | None" = None,
    note: str = "",
  ):
    self.name = name
    self.note = note
    self._items: list[_Result] | None = list(items)
    self._predictor = predictor

  def collect(self) -> "Results[_Result]":
    """Reads a video that was not read yet, and keeps its results; returns self."""
    return self

  @property
  def _list(self) -> list[_Result]:
    self.collect()
    assert self._items is not None
    return self._items

  def __len__(self) -> int:
    return len(self._list)

  @overload
  def __getitem__(self, index: int) -> _Result: ...

  @overload
  def __getitem__(self, index: slice) -> "Results[_Result]": ...

  def __getitem__(self, index: int | slice) -> "_Result | Results[_Result]":
    if isinstance(index, slice):
      return Results(self._list[index], self.name, self._predictor)
    return self._list[index]

  def __iter__(self) -> Iterator[_Result]:
    return iter(self._list)

  def __eq__(self, other: object) -> bool:
    return isinstance(other, Results | list) and self._list == list(other)

  __hash__ = None  # type: ignore[assignment]

  def __add__(self, other: "Sequence[_Result]") -> "Results[_Result]":
    return Results([*self, *other], self.name, self._predictor)

  def __radd__(self, other: list) -> list:
    return [*other, *self]

  def __repr__(self) -> str:
    count = f"{len(self)} {'entry' if len(self) == 1 else 'entries'}"
    lines = [f"Results, {count}" + (f": {self.name}" if self.name else "")]
    lines += [f"  {self.note}"] if self.note else []
    for index, result in enumerate(self._list[:SHOWN]):
      text = repr(result) if isinstance(result, Results) else str(result)
      lines.append(f"  {index}: " + text.replace("\n", "\n  "))
    if len(self) > SHOWN:
      lines.append(f"  ... {len(self) - SHOWN} more")
    return "\n".join(lines)

  def to_records(self) -> list[dict[str, Any]]:
    """A dict per face, person and frame, or image without a face: `COLUMNS` and score_<label>."""
    records: list[dict[str, Any]] = []
    for result in self:
      if isinstance(result, Results):
        records += result.to_records()
      elif isinstance(result, FaceResult):
        records.append(result.to_record(self.name))
    return records

  def to_df(self) -> Any:
    """The rows of `to_records` as a `pandas.DataFrame`.

    Raises:
      ModuleNotFoundError: pandas is not installed.
    """
    try:
      pandas = importlib.import_module("pandas")
    except ModuleNotFoundError as error:
      raise ModuleNotFoundError(
        'to_df needs pandas: pip install "jax_me[pandas]"; to_records() works without',
        name="pandas",
      ) from error
    records, columns = self.to_records(), dict.fromkeys(COLUMNS)
    for record in records:
      columns.update(dict.fromkeys(record))
    return pandas.DataFrame(records, columns=list(columns))

  def plot(self) -> Any:
    """Draws the results.

    Returns:
      of a photograph, a `PIL.Image` with boxes and labels, None if it is unreadable; of a video,
      its timeline; of a list, a list of these.

    Raises:
      ValueError: results without an image, such as a part of the faces of a photograph.
    """
    return [_require_results(result).plot() for result in self]

  def events(self) -> "list[ExpressionEvent]":
    """The expressions that were spotted in videos; none for photographs."""
    return [event for result in self for event in _require_results(result).events()]

  def save(self, folder: str | os.PathLike, *, annotate: bool = False) -> pathlib.Path:
    """Writes the files that the command `predict` writes.

    A video is read again for this, because its frames are not kept.

    Args:
      folder: for the files; those of an earlier run are replaced.
      annotate: also write annotated photographs and videos.

    Returns:
      the path of predictions.csv.

    Raises:
      ValueError: results without an image.
    """
    # Imported here: results can be used without it.
    from jax_me.inference.prediction_run import VideoJob, write_predictions
    from jax_me.inference.source_results import PhotographResults, VideoResults

    parts = list(self._parts())
    if self._predictor is None:
      raise ValueError("these results are not from a model: save those that predict returned")
    photographs = (
      (part.name, part.detections(image=annotate))
      for part in parts
      if isinstance(part, PhotographResults)
    )
    jobs = [
      VideoJob(part.source, part.stream, part.seconds)
      for part in parts
      if isinstance(part, VideoResults)
    ]
    written = write_predictions(
      self._predictor, photographs, jobs, folder, annotate=annotate, quiet=True
    )
    if written.interrupted:
      raise KeyboardInterrupt
    return written.table

  def _parts(self) -> "Iterator[PhotographResults | VideoResults]":
    """The results of each photograph and video."""
    for result in self:
      yield from _require_results(result)._parts()


def _require_results(result: Any) -> Results:
  if not isinstance(result, Results):
    raise ValueError("these results have no image: use those that predict returned")
  return result
