"""One call of `explain` from its inputs to its files."""

import io
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jax_me.files import write_atomically
from jax_me.inference.explain.explainer import (
  Explainer,
  Explanation,
  FaceReconstructor,
  Reconstruction,
)
from jax_me.inference.explain.explanation_figures import (
  draw_explanation,
  draw_reconstruction,
  draw_sheet,
)
from jax_me.inference.explain.explanation_figures import strip as small_strip
from jax_me.inference.explain.heat_map import centre_of_mass, face_regions, region_shares
from jax_me.inference.face_input import ModelFace, clip_face, clip_frames, model_faces
from jax_me.inference.model_input import InputForm
from jax_me.inference.video.sources import Footage, Frame
from jax_me.models.model_folder import SavedModel, write_json
from jax_me.progress import Progress

RECORDS = "explain.json"
MAPS = "maps.npz"
SHEET = "contact_sheet.png"
# More faces than these are not on the sheet: it is for looking at.
MOST_ON_SHEET = 48

# (row of explain.json, the face it is about or None)
Found = tuple[dict[str, Any], ModelFace | None]


class ExplainSession:
  """Explains faces and keeps what explain.json, maps.npz and the sheet are made of.

  Args:
    saved: the model.
    machine: explains its faces.
    output: folder for the files; those of an older call are replaced.
    model: what explain.json says of the model.
    progress: counts the pictures.
    align: see `model_faces`.
    label: the class to explain, None for the predicted one.
    apex: of clips, which frame shows the expression at its height, from 0; None for the middle.
  """

  def __init__(
    self,
    saved: SavedModel,
    machine: Explainer | FaceReconstructor,
    output: pathlib.Path,
    model: dict[str, Any],
    progress: Progress,
    *,
    align: bool | None = None,
    label: str | None = None,
    apex: int | None = None,
  ):
    self._saved = saved
    self._machine = machine
    self._output = output
    self._model = model
    self._progress = progress
    self._align = align
    self._label = label
    self._apex = apex
    self._motion = InputForm.of_source(saved.source, saved.image_size).is_motion
    self._rows: list[dict[str, Any]] = []
    self._maps: dict[str, np.ndarray] = {}
    self._strips: list[tuple[np.ndarray, str]] = []
    self._names = {pathlib.PurePath(SHEET).stem}
    write_json(output / RECORDS, self._document())  # none of an older call
    for name in (MAPS, SHEET):
      (output / name).unlink(missing_ok=True)

  def run(self, footage: Footage) -> None:
    """Explains the faces of a photograph, of every picture of a folder, or a clip's motion."""
    clip = self._motion and footage.kind == "frames" and self._align is not False
    for row, face in self._clip(footage) if clip else self._pictures(footage):
      if face is not None:
        row.update(self._explained(row, face))
      self._rows.append(row)

  def finish(self) -> pathlib.Path:
    """Writes maps, sheet and rows; gives the path of the rows."""
    if self._maps:
      buffer = io.BytesIO()
      np.savez_compressed(buffer, **self._maps)  # type: ignore[arg-type]
      write_atomically(self._output / MAPS, buffer.getvalue())
      heading = f"{self._saved.name}: {', '.join(self._panels())}, from left to right"
      if (left := sum(row["status"] == "ok" for row in self._rows) - len(self._strips)) > 0:
        heading += f"; {left} more faces are not shown"
      write_atomically(self._output / SHEET, draw_sheet(self._strips, heading))
    write_json(self._output / RECORDS, self._document())
    return self._output / RECORDS

  @property
  def counts(self) -> dict[str, int]:
    """{status: rows}."""
    statuses = [row["status"] for row in self._rows]
    return {status: statuses.count(status) for status in dict.fromkeys(statuses)}

  def _document(self) -> dict[str, Any]:
    return {"format": 1, "model": self._model, "images": self._rows}

  def _panels(self) -> Sequence[str]:
    if isinstance(self._machine, FaceReconstructor):
      return ["masked", "reconstructed", "original"]
    return ["what the model sees", *self._machine.methods]

  def _pictures(self, footage: Footage) -> Iterator[Found]:
    for frame in self._counted(footage):
      row = {"input": footage.name, "file": frame.file}
      if frame.image is None:
        yield {**row, "status": "unreadable", "reason": frame.reason}, None
        continue
      faces = model_faces(frame.image, self._saved, align=self._align)
      if not faces:
        yield {**row, "status": "no_face"}, None
      for number, face in enumerate(faces, start=1):
        yield {**row, "status": "ok", "person": number}, face

  def _counted(self, footage: Footage) -> Iterator[Frame]:
    for frame in footage.frames():
      yield frame
      self._progress.advance()

  def _clip(self, footage: Footage) -> Iterator[Found]:
    count = footage.length or 0
    apex = count // 2 if self._apex is None else self._apex
    try:
      needed = clip_frames(self._saved, apex=apex, count=count)
    except ValueError as error:
      raise ValueError(f"{footage.name}: {error}") from error
    row: dict[str, Any] = {"input": footage.name, "file": ""}
    frames: dict[int, np.ndarray] = {}
    for frame in self._counted(footage):
      for name, number in (("onset", 0), ("apex", apex), ("offset", count - 1)):
        if frame.number == number:
          row[name] = frame.file
      if frame.number not in needed:
        continue
      if frame.image is None:
        reason = f"{frame.file}: {frame.reason}"
        yield {**row, "status": "unreadable", "reason": reason}, None
        return
      frames[frame.number] = frame.image
    try:
      face = clip_face(frames, self._saved, apex=apex, count=count)
    except ValueError as error:
      yield {**row, "status": "unreadable", "reason": str(error)}, None
      return
    if face is None:
      yield {**row, "status": "no_face"}, None
    else:
      yield {**row, "status": "ok", "person": 1}, face

  def _explained(self, row: dict[str, Any], face: ModelFace) -> dict[str, Any]:
    place = pathlib.PurePath(row["input"].rstrip("/"))
    stem = pathlib.PurePath(row["file"]).stem or place.stem
    name = self._free_name(stem if row["person"] == 1 else f"{stem}_face{row['person']}")
    found: Explanation | Reconstruction
    if isinstance(self._machine, FaceReconstructor):
      found = self._machine.reconstruct(face)
      told = _reconstruction_row(found)
      self._maps[f"{name}/masked"] = found.masked
      self._maps[f"{name}/reconstructed"] = found.reconstructed
      picture, text = draw_reconstruction(found, name), f"{name}, error {found.error:.3f}"
    else:
      found = self._machine.explain(face, self._label)
      told = _explanation_row(found)
      for method, heat in found.maps.items():
        self._maps[f"{name}/{method}"] = heat.sites
      picture = draw_explanation(found, name)
      text = f"{name}: {found.label} {found.scores[found.label]:.2f}"
    write_atomically(self._output / f"{name}.png", picture)
    if len(self._strips) < MOST_ON_SHEET:
      self._strips.append((small_strip(found), text))
    return {"name": name, "picture": f"{name}.png", "box": face.box, **told}

  def _free_name(self, name: str) -> str:
    """The name, with a number where another face has it already."""
    # Names of files need not be valid Unicode; those inside maps.npz must.
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    free, number = name, 1
    while free in self._names:
      number += 1
      free = f"{name}_{number}"
    self._names.add(free)
    return free


def _explanation_row(found: Explanation) -> dict[str, Any]:
  landmarks = found.face.landmarks
  side = len(found.face.image)
  regions = None if landmarks is None else face_regions(landmarks, side)
  methods = {}
  for method, heat in found.maps.items():
    centre = centre_of_mass(heat.pixels)
    methods[method] = {
      "shape": list(heat.sites.shape),
      "highest": float(heat.sites.max()),
      "centre": None if centre is None else [round(x, 4) for x in centre],
      "regions": None if regions is None else _rounded(region_shares(heat.pixels, regions)),
    }
  return {
    "label": found.label,
    "predicted": found.predicted,
    "probabilities": {name: round(score, 6) for name, score in found.scores.items()},
    "methods": methods,
  }


def _rounded(shares: dict[str, dict]) -> dict[str, dict]:
  return {
    name: {key: round(value, 4) for key, value in share.items()} for name, share in shares.items()
  }


def _reconstruction_row(found: Reconstruction) -> dict[str, Any]:
  return {"methods": {"reconstruction": {"error": round(found.error, 6)}}}
