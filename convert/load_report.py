"""Load report of a conversion: the outcome for every key on both sides, and checksums."""

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class LoadReport:
  """Outcome of a conversion, with an entry for every key of the file and of the model.

  Attributes:
    model: name of the model.
    arguments: constructor keywords it was built with.
    detected: description of the file.
    loaded: {"key", "path", "shape", "model_shape", "how"} of the keys loaded into the model; `how`
      lists the changes ("copied", "renamed", "joined", "reshaped", "transposed", "resized").
    dropped: {"key", "shape", "reason"} of the keys that are not used, on purpose.
    fresh: {"path", "shape", "reason"} of the model's arrays that keep their initial values.
    notes: decisions made while reading the file.
    warnings: limitations to consider before using the model.
    source: file name, sha256, format, container, weights (ema or raw), metadata.
    weights_sha256: checksum of the model's arrays, including names and shapes.
    parameters: number of values in the model, including fixed tables.
  """

  model: str
  arguments: dict[str, Any]
  detected: str
  loaded: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  dropped: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  fresh: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  notes: list[str] = dataclasses.field(default_factory=list)
  warnings: list[str] = dataclasses.field(default_factory=list)
  source: dict[str, Any] = dataclasses.field(default_factory=dict)
  weights_sha256: str = ""
  parameters: int = 0

  def as_dict(self) -> dict[str, object]:
    """The report as JSON values."""
    return dataclasses.asdict(self)

  def summary(self) -> str:
    """Short text for the terminal."""
    counts: dict[str, int] = {}
    for entry in self.loaded:
      counts[entry["how"]] = counts.get(entry["how"], 0) + 1
    lines = []
    if self.source:
      lines += [
        f"file:      {self.source['file']} ({self.source['format']}, {self.source['container']}, "
        f"{self.source['weights']} weights)",
        f"sha256:    {self.source['sha256']}",
      ]
    lines += [
      f"detected:  {self.detected}",
      f"model:     {self.model}, {self.parameters:,} values",
      f"loaded:    {len(self.loaded)} arrays "
      f"({', '.join(f'{n} {how}' for how, n in sorted(counts.items()))})",
      f"dropped:   {_grouped(self.dropped, 'key')}",
      f"fresh:     {_grouped(self.fresh, 'path')}",
      f"weights:   sha256 {self.weights_sha256}",
    ]
    lines += [f"note:      {note}" for note in self.notes]
    lines += [f"WARNING:   {warning}" for warning in self.warnings]
    return "\n".join(lines)

  def text(self) -> str:
    """The summary followed by a line for every key."""
    lines = [self.summary(), ""]
    for entry in self.loaded:
      line = f"{entry['key']} {_shape(entry['shape'])}"
      if entry["how"] != "copied":
        line += f" -> {entry['path']} {_shape(entry['model_shape'])} ({entry['how']})"
      lines.append(line)
    lines += [f"dropped {e['key']} {_shape(e['shape'])}: {e['reason']}" for e in self.dropped]
    lines += [f"fresh {e['path']} {_shape(e['shape'])}: {e['reason']}" for e in self.fresh]
    return "\n".join(lines) + "\n"


def _shape(shape: list[int]) -> str:
  return f"[{', '.join(map(str, shape))}]"


def _grouped(entries: list[dict[str, Any]], name: str) -> str:
  """'none', or for each reason the number of entries and the first name."""
  if not entries:
    return "none"
  reasons: dict[str, list[str]] = {}
  for entry in entries:
    reasons.setdefault(entry["reason"], []).append(entry[name])
  return "; ".join(f"{len(names)} ({names[0]}...): {why}" for why, names in reasons.items())


def weights_sha256(arrays: Mapping[str, np.ndarray]) -> str:
  """SHA-256 over names, dtypes, shapes and bytes of {path: array}, sorted by name."""
  digest = hashlib.sha256()
  for path in sorted(arrays):
    array = np.ascontiguousarray(arrays[path])
    digest.update(f"{path} {array.dtype.name} {array.shape}\n".encode())
    digest.update(array.reshape(-1).view(np.uint8).data)
  return digest.hexdigest()
