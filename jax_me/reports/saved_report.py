"""What a report is made of, and the folder in which it is kept so that it can be made again."""

from __future__ import annotations

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

from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.subject_groups import SubjectGroups, read_groups
from jax_me.files import write_atomically
from jax_me.reports.training_history import Row
from jax_me.training.logging.history import read_history

FACTS, HISTORY, PREDICTIONS = "facts.json", "history.jsonl", "predictions.csv"
GROUPS = "subject_groups.csv"
SAMPLES, RECONSTRUCTIONS = "samples.npz", "reconstructions.npz"
SAMPLE_TEXTS = ("truth", "prediction", "score", "caption")
RECONSTRUCTION_IMAGES = ("masked", "reconstructed", "original")
# What the readers of JSON, CSV and npz raise on files that are cut short or changed.
DAMAGE = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)


class IncompleteReport(ValueError):
  """A folder that holds nothing to make a report of, or damaged parts of one."""


@dataclass(frozen=True)
class Parts:
  """All that a report shows; whatever a run does not have is left out.

  Attributes:
    title: heading of the page.
    predictions: every prediction, of all folds together.
    history: rows of the metrics log; with several folds, each row names its "fold".
    samples: dicts of image uint8 [H, W, 3], truth, prediction (label names or, where there are
      predictions, numbers), score (probability of the prediction or None), caption.
    reconstructions: masked, reconstructed, original: uint8 [N, H, W, 3] each.
    groups: of the subjects, where some are known.
    facts: model, parameters, dataset, split, seed, steps, device, wall time...: name -> value.

  Raises:
    ValueError: an image array or a label that does not fit; the message names it.
  """

  title: str
  predictions: Predictions | None = None
  history: Sequence[Mapping[str, Any]] = ()
  samples: Sequence[Mapping[str, Any]] = ()
  reconstructions: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
  facts: Mapping[str, Any] = field(default_factory=dict)
  groups: SubjectGroups | None = None

  def __post_init__(self) -> None:
    object.__setattr__(self, "samples", [self._sample(sample) for sample in self.samples])
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

  def _sample(self, sample: Mapping[str, Any]) -> dict[str, Any]:
    image = np.asarray(sample["image"])
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
      raise ValueError(f"a sample's image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")

    def label(value: Any) -> str:
      if isinstance(value, (int, np.integer)):
        if self.predictions is None:
          raise ValueError(
            f"sample label {value} is a number, and there are no predictions to name it"
          )
        return self.predictions.labels[value]
      return str(value)

    score = sample.get("score")
    return {
      "image": image,
      "truth": label(sample["truth"]),
      "prediction": label(sample["prediction"]),
      "score": None if score is None else float(score),
      "caption": str(sample.get("caption") or ""),
    }


def save_parts(folder: str | os.PathLike[str], parts: Parts) -> None:
  """Keeps the parts in `folder`, each file whole; parts that are absent leave no older file."""
  folder = Path(folder)
  content: dict[str, bytes] = {}
  texts = {"title": parts.title, "facts": dict(parts.facts)}
  content[FACTS] = (json.dumps(texts, indent=2, default=_plain) + "\n").encode()
  if parts.history:
    lines = (json.dumps(row, default=_plain) + "\n" for row in parts.history)
    content[HISTORY] = "".join(lines).encode()
  if parts.samples:
    rows = [{name: sample[name] for name in SAMPLE_TEXTS} for sample in parts.samples]
    arrays = {f"image_{i}": sample["image"] for i, sample in enumerate(parts.samples)}
    content[SAMPLES] = _npz({"texts": np.array(json.dumps(rows)), **arrays})
  if parts.reconstructions:
    content[RECONSTRUCTIONS] = _npz(dict(parts.reconstructions))
  for name, data in content.items():
    write_atomically(folder / name, data)
  if parts.predictions is not None:
    parts.predictions.save(folder / PREDICTIONS)
  if parts.groups is not None:
    parts.groups.save(folder / GROUPS)
  kept = {
    HISTORY: parts.history,
    SAMPLES: parts.samples,
    RECONSTRUCTIONS: parts.reconstructions,
    PREDICTIONS: parts.predictions is not None,
    GROUPS: parts.groups is not None,
  }
  for name, there in kept.items():
    if not there:
      (folder / name).unlink(missing_ok=True)


def load_parts(folder: str | os.PathLike[str]) -> Parts:
  """Reads what `save_parts` kept.

  Raises:
    IncompleteReport: no such folder or a damaged file; the message names it.
  """
  folder = Path(folder)
  name = FACTS
  try:
    texts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    name = PREDICTIONS
    predictions = None
    if (folder / name).exists():
      predictions = Predictions.load(folder / name, allow_repeats=True)
    name = GROUPS
    groups = read_groups(folder / name) if (folder / name).exists() else None
    name = SAMPLES
    samples: list[Row] = []
    if (folder / name).exists():
      with np.load(folder / name, allow_pickle=False) as archive:
        rows = json.loads(str(archive["texts"]))
        samples = [{**row, "image": archive[f"image_{i}"]} for i, row in enumerate(rows)]
    name = RECONSTRUCTIONS
    reconstructions: dict[str, NDArray[np.uint8]] = {}
    if (folder / name).exists():
      with np.load(folder / name, allow_pickle=False) as archive:
        reconstructions = {key: archive[key] for key in RECONSTRUCTION_IMAGES}
    history = read_history(folder / HISTORY)
    return Parts(
      texts["title"], predictions, history, samples, reconstructions, texts["facts"], groups
    )
  except FileNotFoundError as error:
    raise IncompleteReport(
      f"{folder} holds no report ({name} is missing); run an evaluation first"
    ) from error
  except DAMAGE as error:
    raise IncompleteReport(
      f"{folder / name} is damaged ({error}); evaluate the run again to renew it"
    ) from error


def _npz(arrays: dict[str, NDArray[Any]]) -> bytes:
  buffer = io.BytesIO()
  np.savez_compressed(buffer, allow_pickle=False, **arrays)
  return buffer.getvalue()


def _plain(value: Any) -> Any:
  """NumPy and JAX numbers and arrays, paths and dates as JSON knows them."""
  return value.tolist() if hasattr(value, "tolist") else str(value)
