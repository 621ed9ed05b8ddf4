"""The report of a run: report.html and report.md, from whatever the run has to show."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.predictions import Predictions
from jax_me.evaluation.subject_groups import SubjectGroups
from jax_me.evaluation.summary import summarize
from jax_me.files import write_atomically
from jax_me.reports.calibration_sections import check_sections
from jax_me.reports.csv_tables import result_tables
from jax_me.reports.document import (
  Block,
  Document,
  Gallery,
  Picture,
  Section,
  Table,
  Text,
  Tile,
  to_html,
  to_markdown,
)
from jax_me.reports.plots import Panel, curve_panels, draw_curves
from jax_me.reports.sample_sections import reconstructions_section, samples_section
from jax_me.reports.saved_report import GROUPS, PREDICTIONS, Parts, save_parts
from jax_me.reports.score_sections import headline, score_sections
from jax_me.reports.training_history import merge_history, non_finite, series
from jax_me.training.logging.history import read_history

PARTS_FOLDER = "report"
SCORES = "scores.json"


def write_report(
  folder: str | os.PathLike[str],
  *,
  title: str,
  predictions: Predictions | None = None,
  history: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | None = None,
  samples: Sequence[Mapping[str, Any]] | None = None,
  reconstructions: Mapping[str, NDArray[np.uint8]] | None = None,
  facts: Mapping[str, Any] | None = None,
  groups: SubjectGroups | None = None,
  summary: Mapping[str, Any] | None = None,
) -> Path:
  """Writes the report of a run and keeps what it was made of.

  Args:
    folder: the run's folder. It gets `report.html` (one page that needs nothing else), `report.md`,
      and `report/` with the pictures, `predictions.csv`, `scores.json`, the tables of
      `result_files.result_tables` and the other parts.
    title: heading of the page.
    predictions: every prediction; None for a run without labels, such as MAE pre-training.
    history: the metrics log (a path, or its rows); see `training.history.read_history`.
    samples, reconstructions, facts, groups: see `parts.Parts`.
    summary: `summarize(predictions, groups=groups)`, where it has been made already.

  Returns:
    The path of `report.html`.

  Raises:
    ValueError: a part does not fit; nothing is written then.
  """
  if isinstance(history, (str, os.PathLike)):
    history = read_history(history)
  parts = Parts(
    title=title,
    predictions=predictions,
    history=merge_history(history or ()),
    samples=samples or (),
    reconstructions=reconstructions or {},
    facts=facts or {},
    groups=groups,
  )
  if predictions is not None and summary is None:
    summary = summarize(predictions, groups=groups)
  document = compose(parts, summary)
  page = to_html(document).encode("utf-8")
  text = to_markdown(document, PARTS_FOLDER).encode("utf-8")

  folder = Path(folder)
  inner = folder / PARTS_FOLDER
  save_parts(inner, parts)
  made = {picture.name: picture.png for picture in document.pictures}
  if predictions is not None and summary is not None:
    made[SCORES] = (json.dumps(summary, indent=2) + "\n").encode()
    made |= result_tables(summary, predictions.labels)
  for name, content in made.items():
    write_atomically(inner / name, content)
  old = {inner / SCORES, *inner.glob("*.png"), *inner.glob("*.csv")}
  for path in old - {inner / name for name in (*made, PREDICTIONS, GROUPS)}:
    path.unlink(missing_ok=True)
  write_atomically(folder / "report.md", text)
  write_atomically(folder / "report.html", page)
  return folder / "report.html"


def compose(parts: Parts, summary: Mapping[str, Any] | None) -> Document:
  """The report's content; `summary` is `summarize(parts.predictions)`."""
  lead: list[Block] = []
  sections: list[Section] = []
  if parts.predictions is not None and summary is not None:
    lead += headline(summary)
    sections += score_sections(parts.predictions, summary)
    sections += check_sections(summary)
  if parts.samples:
    sections.append(samples_section(parts))
  if parts.reconstructions:
    sections.append(reconstructions_section(parts.reconstructions))
  if panels := curve_panels(parts.history):
    sections.append(_curves_section(parts.history, panels))
  if parts.facts:
    rows = [(str(name), _fact(value)) for name, value in parts.facts.items()]
    sections.append(Section("Details", [Table("", ("what", "value"), rows)]))
  if not sections:
    lead.append(Text("This run has nothing to show yet: no predictions, no history, no images."))
  return Document(parts.title, lead, sections)


def _curves_section(rows: Sequence[Mapping[str, Any]], panels: Sequence[Panel]) -> Section:
  def describe(panel: Panel) -> str:
    ends = []
    for key in panel.keys:
      values = np.concatenate(list(series(rows, key).values()))[:, 1]
      ends.append(f"{key} from {values[0]:.3g} to {values[-1]:.3g}")
    return f"{panel.title}: {', '.join(ends)}"

  lost = non_finite(rows)
  caption = (
    f"Logged values that are no finite numbers and so are not drawn: {lost}." if lost else ""
  )
  tiles = [Tile([(draw_curves(rows, [p]), f"Learning curve, {describe(p)}.")], "") for p in panels]
  alt = f"Learning curves, {'; '.join(map(describe, panels))}."
  sheet = Picture("learning_curves.png", draw_curves(rows, panels), alt, caption)
  return Section("Learning curves", [Gallery(tiles, sheet, tile_width=400)])


def _fact(value: Any) -> str:
  if isinstance(value, bool) or value is None:
    return {True: "yes", False: "no", None: "–"}[value]
  if isinstance(value, int):
    return f"{value:,}" if abs(value) >= 10_000 else str(value)
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, Mapping):
    return ", ".join(f"{key}: {_fact(inner)}" for key, inner in value.items())
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_fact, value))
  return _fact(value.item()) if isinstance(value, np.generic) else str(value)
