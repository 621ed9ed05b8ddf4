"""Results of `Predictor.predict` and `Predictor.predict_video`."""

import dataclasses
from typing import TypeVar

from jax_me.faces.detector import Box

_Result = TypeVar("_Result")


@dataclasses.dataclass(frozen=True)
class FaceResult:
  """The prediction for one face, or a record that an image has no face.

  Attributes:
    label: the most probable class; None without a face.
    scores: {class: probability}; empty without a face.
    box: (left, top, right, bottom) of the face in pixels of the image; None without a face, and
      for models that use the whole image.
    status: "ok" or "no_face".
  """

  label: str | None
  scores: dict[str, float]
  box: Box | None
  status: str

  def __str__(self) -> str:
    if self.label is None:
      return self.status
    box = "" if self.box is None else f", box {self.box}"
    return f"{self.label} {self.scores[self.label]:.3f}{box}"


@dataclasses.dataclass(frozen=True)
class FrameResult(FaceResult):
  """The prediction for one person in one video frame.

  Attributes:
    status: "ok", or for a frame without faces "no_face", "unreadable" or "skipped".
    frame: index of the frame, from 0.
    seconds: time of the frame.
    person: number of the person, from 1; None without a face.
  """

  frame: int
  seconds: float
  person: int | None

  def __str__(self) -> str:
    person = "" if self.person is None else f", person {self.person}"
    return f"frame {self.frame}, {self.seconds:.3f} s{person}: {super().__str__()}"


class Results(list[_Result]):
  """List of results, one per face of an image; or of such lists, one per image."""

  def __repr__(self) -> str:
    lines = [f"Results, {len(self)} {'entry' if len(self) == 1 else 'entries'}"]
    for index, result in enumerate(self):
      text = repr(result) if isinstance(result, Results) else str(result)
      lines.append(f"  {index}: " + text.replace("\n", "\n  "))
    return "\n".join(lines)
