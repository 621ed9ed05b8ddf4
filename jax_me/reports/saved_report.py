"""Data of a report, and the folder that stores it so that the page can be written again."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.predictions import PREDICTIONS_FILE, Predictions
from jax_me.evaluation.subject_groups import SubjectGroups, read_groups
from jax_me.files import write_atomically
from jax_me.training.logging.history import HistoryRow, merge_history, read_history

DETAILS_FILE, HISTORY_FILE = "facts.json", "history.jsonl"
GROUPS_FILE = "subject_groups.csv"
SAMPLES_FILE, RECONSTRUCTIONS_FILE = "samples.npz", "reconstructions.npz"
SAMPLE_TEXTS = ("truth", "prediction", "score", "caption")
RECONSTRUCTION_IMAGES = ("masked", "reconstructed", "original")
# Raised by the readers of JSON, CSV and npz for truncated or modified files.
DAMAGE = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


class IncompleteReport(ValueError):
  """A folder without a saved report, or with a damaged one."""


@dataclass(frozen=True)
class SamplePrediction:
  """One example with its image and prediction.

  Attributes:
    image: uint8 [H, W, 3].
    truth: true label; a class name, or its index if the report has predictions.
    prediction: predicted label, likewise.
    score: probability of the prediction, None if unknown.
    caption: text below the image.

  Raises:
    ValueError: the image has another dtype or shape.
  """

  image: NDArray[np.uint8]
  truth: str | int
  prediction: str | int
  score: float | None = None
  caption: str = ""

  def __post_init__(self) -> None:
    image = np.asarray(self.image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
      raise ValueError(f"a sample's image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    object.__setattr__(self, "image", image)
    if self.score is not None:
      object.__setattr__(self, "score", float(self.score))  # JSON has no NumPy numbers

  @property
  def correct(self) -> bool:
    return self.truth == self.prediction


@dataclass(frozen=True)
class SavedReport:
  """All data of a report; every part but the title is optional.

  Attributes:
    title: heading of the page.
    predictions: the predictions of all folds; None for a run without labels, such as MAE
      pre-training.
    history: rows of the metrics log; with several folds, each row has a "fold". Rows of the same
      step are merged.
    samples: sample predictions, as of `choose_samples`; class indices are replaced by names.
    reconstructions: masked, reconstructed, original: uint8 [N, H, W, 3] each.
    details: model, dataset, seed, device, wall time and so on: name -> value; shown in the last
      section.
    groups: attributes of the subjects.
    note: sentences at the top of the page, "" for none.

  Raises:
    ValueError: an invalid image array or label; the message names it.
  """

  title: str
  predictions: Predictions | None = None
  history: Sequence[HistoryRow] = ()
  samples: Sequence[SamplePrediction] = ()
  reconstructions: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
  details: Mapping[str, object] = field(default_factory=dict)
  groups: SubjectGroups | None = None
  note: str = ""

  def __post_init__(self) -> None:
    object.__setattr__(self, "history", merge_history(self.history))
    samples = [
      dataclasses.replace(
        sample, truth=self._label(sample.truth), prediction=self._label(sample.prediction)
      )
      for sample in self.samples
    ]
    object.__setattr__(self, "samples", samples)
    if not self.reconstructions:
      return
    images = {name: np.asarray(self.reconstructions[name]) for name in RECONSTRUCTION_IMAGES}
    shape = images["original"].shape
    for name, array in images.items():
      if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or array.shape != shape:
        raise ValueError(
          f"reconstructions[{name!r}] must be uint8 [N, H, W, 3] like the original {shape}, "
          f"got {array.dtype} {array.shape}"
        )
    object.__setattr__(self, "reconstructions", images if shape[0] else {})

  def _label(self, label: str | int) -> str:
    if not isinstance(label, (int, np.integer)):
      return str(label)
    if self.predictions is None:
      raise ValueError(f"sample label {label} is a number, but there are no predictions to name it")
    return self.predictions.labels[label]

  def save(self, folder: str | os.PathLike[str]) -> None:
    """Writes each part atomically to `folder` and deletes older files of absent parts."""
    folder = Path(folder)
    # "facts" is the key and file name of version 0.1.
    texts = {"title": self.title, "facts": dict(self.details), "note": self.note}
    content = {DETAILS_FILE: (json.dumps(texts, indent=2, default=_to_json) + "\n").encode()}
    if self.history:
      lines = (json.dumps(row, default=_to_json) + "\n" for row in self.history)
      content[HISTORY_FILE] = "".join(lines).encode()
    if self.samples:
      rows = [{name: getattr(sample, name) for name in SAMPLE_TEXTS} for sample in self.samples]
      arrays = {f"image_{i}": sample.image for i, sample in enumerate(self.samples)}
      content[SAMPLES_FILE] = _to_npz({"texts": np.array(json.dumps(rows)), **arrays})
    if self.reconstructions:
      content[RECONSTRUCTIONS_FILE] = _to_npz(dict(self.reconstructions))
    for name, data in content.items():
      write_atomically(folder / name, data)
    written = set(content)
    if self.predictions is not None:
      self.predictions.save(folder / PREDICTIONS_FILE)
      written.add(PREDICTIONS_FILE)
    if self.groups is not None:
      self.groups.save(folder / GROUPS_FILE)
      written.add(GROUPS_FILE)
    for name in (HISTORY_FILE, SAMPLES_FILE, RECONSTRUCTIONS_FILE, PREDICTIONS_FILE, GROUPS_FILE):
      if name not in written:
        (folder / name).unlink(missing_ok=True)

  @classmethod
  def load(cls, folder: str | os.PathLike[str]) -> SavedReport:
    """Reads a folder that `save` wrote.

    Raises:
      IncompleteReport: the folder or a file is missing, or a file is damaged; the message names it.
    """
    folder = Path(folder)
    name = DETAILS_FILE
    try:
      texts = json.loads((folder / name).read_text(encoding="utf-8"))
      name = PREDICTIONS_FILE
      predictions = None
      if (folder / name).exists():
        predictions = Predictions.load(folder / name, allow_duplicates=True)
      name = GROUPS_FILE
      groups = read_groups(folder / name) if (folder / name).exists() else None
      name = SAMPLES_FILE
      samples: list[SamplePrediction] = []
      if (folder / name).exists():
        with np.load(folder / name, allow_pickle=False) as archive:
          rows = json.loads(str(archive["texts"]))
          samples = [
            SamplePrediction(archive[f"image_{i}"], *(row[text] for text in SAMPLE_TEXTS))
            for i, row in enumerate(rows)
          ]
      name = RECONSTRUCTIONS_FILE
      reconstructions: dict[str, NDArray[np.uint8]] = {}
      if (folder / name).exists():
        with np.load(folder / name, allow_pickle=False) as archive:
          reconstructions = {key: archive[key] for key in RECONSTRUCTION_IMAGES}
      history = read_history(folder / HISTORY_FILE)
      return cls(
        texts["title"],
        predictions,
        history,
        samples,
        reconstructions,
        texts["facts"],
        groups,
        texts.get("note", ""),
      )
    except FileNotFoundError as error:
      raise IncompleteReport(
        f"{folder} contains no report ({name} is missing); run an evaluation first"
      ) from error
    except DAMAGE as error:
      raise IncompleteReport(
        f"{folder / name} is damaged ({error}); evaluate the run again to replace it"
      ) from error


def _to_npz(arrays: dict[str, NDArray[Any]]) -> bytes:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, allow_pickle=False, **arrays)
  return buffer.getvalue()


def _to_json(value: Any) -> Any:
  """Converts NumPy and JAX numbers and arrays to lists, other objects to text."""
  return value.tolist() if hasattr(value, "tolist") else str(value)
