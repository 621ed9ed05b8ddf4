"""Explain session: inputs to figures, heat maps and explain.json."""

import collections
import io
import pathlib
from collections.abc import Iterator, Mapping
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
  draw_result,
  draw_sheet,
  thumbnail_strip,
)
from jax_me.inference.explain.heat_map import centre_of_mass, face_region_masks, region_shares
from jax_me.inference.model_input import (
  FaceInput,
  InputSpec,
  clip_face,
  face_inputs,
  required_clip_frames,
)
from jax_me.inference.video.sources import Frame, VideoSource
from jax_me.models.model_folder import SavedModel, write_json
from jax_me.progress import Progress

EXPLAIN_FILE = "explain.json"
MAPS_FILE = "maps.npz"
SHEET_FILE = "contact_sheet.png"
# Faces on the contact sheet; all of them are in explain.json.
MAX_SHEET_FACES = 48

# (entry of explain.json, its face or None)
EntryAndFace = tuple[dict[str, Any], FaceInput | None]


class ExplainSession:
  """Explains the faces of all inputs and writes explain.json, maps.npz and the figures.

  Args:
    saved: the model.
    explainer: computes the explanations.
    output: folder for the files; files of an earlier call are replaced.
    model: the "model" entry of explain.json.
    progress: counts the images.
    align: see `face_inputs`.
    label: the class to explain, None for the predicted one.
    apex: index of the apex frame of a clip, from 0; None for the middle frame.
  """

  def __init__(
    self,
    saved: SavedModel,
    explainer: Explainer | FaceReconstructor,
    output: pathlib.Path,
    model: Mapping[str, Any],
    progress: Progress,
    *,
    align: bool | None = None,
    label: str | None = None,
    apex: int | None = None,
  ):
    self._saved = saved
    self._explainer = explainer
    self._output = output
    self._model = dict(model)
    self._progress = progress
    self._align = align
    self._label = label
    self._apex = apex
    self._is_motion = InputSpec.from_model(saved).is_motion
    self._entries: list[dict[str, Any]] = []
    self._maps: dict[str, np.ndarray] = {}
    self._strips: list[tuple[np.ndarray, str]] = []
    self._names = {pathlib.PurePath(SHEET_FILE).stem}
    write_json(output / EXPLAIN_FILE, self._document())  # replaces that of an earlier call
    for name in (MAPS_FILE, SHEET_FILE):
      (output / name).unlink(missing_ok=True)

  def run(self, source: VideoSource) -> None:
    """Explains all faces of an image or of a folder of images, or the motion image of a clip."""
    is_clip = self._is_motion and source.kind == "frames" and self._align is not False
    for entry, face in self._clip_face(source) if is_clip else self._image_faces(source):
      if face is not None:
        entry.update(self._explain(entry, face))
      self._entries.append(entry)

  def finish(self) -> pathlib.Path:
    """Writes maps, contact sheet and explain.json; returns the path of explain.json."""
    if self._maps:
      buffer = io.BytesIO()
      np.savez_compressed(buffer, **self._maps)  # type: ignore[arg-type]
      write_atomically(self._output / MAPS_FILE, buffer.getvalue())
      heading = f"{self._saved.name}: {' | '.join(self._explainer.panels)}"
      if (left := sum(e["status"] == "ok" for e in self._entries) - len(self._strips)) > 0:
        heading += f"; {left} more faces are not shown"
      write_atomically(self._output / SHEET_FILE, draw_sheet(self._strips, heading))
    write_json(self._output / EXPLAIN_FILE, self._document())
    return self._output / EXPLAIN_FILE

  @property
  def status_counts(self) -> collections.Counter[str]:
    """{status: number of entries}."""
    return collections.Counter(entry["status"] for entry in self._entries)

  def _document(self) -> dict[str, Any]:
    return {"format": 1, "model": self._model, "images": self._entries}

  def _image_faces(self, source: VideoSource) -> Iterator[EntryAndFace]:
    for frame in self._counted_frames(source):
      entry = {"input": source.name, "file": frame.file}
      if frame.image is None:
        yield {**entry, "status": "unreadable", "reason": frame.reason}, None
        continue
      faces = face_inputs(frame.image, self._saved, align=self._align)
      if not faces:
        yield {**entry, "status": "no_face"}, None
      for number, face in enumerate(faces, start=1):
        yield {**entry, "status": "ok", "person": number}, face

  def _counted_frames(self, source: VideoSource) -> Iterator[Frame]:
    for frame in source.frames():
      yield frame
      self._progress.advance()

  def _clip_face(self, source: VideoSource) -> Iterator[EntryAndFace]:
    count = source.length or 0
    apex = count // 2 if self._apex is None else self._apex
    try:
      required = required_clip_frames(self._saved, apex=apex, count=count)
    except ValueError as error:
      raise ValueError(f"{source.name}: {error}") from error
    entry: dict[str, Any] = {"input": source.name, "file": ""}
    frames: dict[int, np.ndarray] = {}
    for frame in self._counted_frames(source):
      for name, number in (("onset", 0), ("apex", apex), ("offset", count - 1)):
        if frame.number == number:
          entry[name] = frame.file
      if frame.number not in required:
        continue
      if frame.image is None:
        reason = f"{frame.file}: {frame.reason}"
        yield {**entry, "status": "unreadable", "reason": reason}, None
        return
      frames[frame.number] = frame.image
    try:
      face = clip_face(frames, self._saved, apex=apex, count=count)
    except ValueError as error:
      yield {**entry, "status": "unreadable", "reason": str(error)}, None
      return
    if face is None:
      yield {**entry, "status": "no_face"}, None
    else:
      yield {**entry, "status": "ok", "person": 1}, face

  def _explain(self, entry: Mapping[str, Any], face: FaceInput) -> dict[str, Any]:
    """Explains one face, writes its figure and returns the keys to add to its entry."""
    path = pathlib.PurePath(entry["input"].rstrip("/"))
    stem = pathlib.PurePath(entry["file"]).stem or path.stem
    name = self._unique_name(stem if entry["person"] == 1 else f"{stem}_face{entry['person']}")
    result = self._explainer.explain(face, self._label)
    if isinstance(result, Reconstruction):
      arrays = {"masked": result.masked, "reconstructed": result.reconstructed}
      details: dict[str, Any] = {"methods": {"reconstruction": {"error": round(result.error, 6)}}}
      caption = f"{name}, error {result.error:.3f}"
    else:
      arrays = {method: heat.values for method, heat in result.maps.items()}
      details = _explanation_record(result)
      caption = f"{name}: {result.label} {result.scores[result.label]:.2f}"
    self._maps |= {f"{name}/{key}": array for key, array in arrays.items()}
    write_atomically(self._output / f"{name}.png", draw_result(result, name))
    if len(self._strips) < MAX_SHEET_FACES:
      self._strips.append((thumbnail_strip(result), caption))
    return {"name": name, "picture": f"{name}.png", "box": face.box, **details}

  def _unique_name(self, name: str) -> str:
    """The name, with a number appended if another face already uses it."""
    # File names may be invalid Unicode; names inside maps.npz may not.
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    unique, number = name, 1
    while unique in self._names:
      number += 1
      unique = f"{name}_{number}"
    self._names.add(unique)
    return unique


def _explanation_record(result: Explanation) -> dict[str, Any]:
  landmarks = result.face.landmarks
  regions = None
  if landmarks is not None:
    regions = face_region_masks(landmarks, len(result.face.image))
  methods = {}
  for method, heat in result.maps.items():
    centre = centre_of_mass(heat.pixels)
    methods[method] = {
      "shape": list(heat.values.shape),
      "highest": float(heat.values.max()),
      "centre": None if centre is None else [round(x, 4) for x in centre],
      "regions": None if regions is None else _rounded(region_shares(heat.pixels, regions)),
    }
  return {
    "label": result.label,
    "predicted": result.predicted,
    "probabilities": {name: round(score, 6) for name, score in result.scores.items()},
    "methods": methods,
  }


def _rounded(shares: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
  return {
    name: {key: round(value, 4) for key, value in share.items()} for name, share in shares.items()
  }
