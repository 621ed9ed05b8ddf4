"""Report of a run: composes the page and writes report.html, report.md and the data folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jax_me.evaluation.predictions import PREDICTIONS_FILE
from jax_me.evaluation.summary import ScoreSummary, summarize
from jax_me.files import write_atomically
from jax_me.reports.csv_tables import result_tables
from jax_me.reports.document import (
  Block,
  Document,
  Figure,
  Gallery,
  Section,
  Table,
  Text,
  Tile,
  to_html,
  to_markdown,
)
from jax_me.reports.learning_curves import (
  Panel,
  curve_panels,
  describe_bands,
  describe_panel,
  draw_curves,
)
from jax_me.reports.sample_sections import reconstructions_section, samples_section
from jax_me.reports.saved_report import GROUPS_FILE, SavedReport
from jax_me.reports.score_sections import headline, score_sections
from jax_me.run_folder import writing_results
from jax_me.training.logging.history import HistoryRow, count_non_finite

DATA_FOLDER = "report"
SCORES_FILE = "scores.json"
PAGE_FILE, TEXT_FILE = "report.html", "report.md"
REPORT_FILES = (PAGE_FILE, TEXT_FILE, DATA_FOLDER)  # All that `write_report` writes.


def write_report(
  folder: str | os.PathLike[str], report: SavedReport, summary: ScoreSummary | None = None
) -> Path:
  """Writes the report of a run and the data from which it can be written again.

  Args:
    folder: the run's folder, to which `report.html` (self-contained), `report.md` and `report/` are
      written. `report/` has the figures, `predictions.csv`, `scores.json`, the tables of
      `csv_tables.result_tables`, and the other data of `SavedReport`.
    report: its content.
    summary: `summarize` of the report's predictions and groups, if already computed.

  Returns:
    The path of `report.html`.
  """
  predictions = report.predictions
  if predictions is not None and summary is None:
    summary = summarize(predictions, groups=report.groups)
  document = compose(report, summary)
  page = to_html(document).encode("utf-8")
  text = to_markdown(document, DATA_FOLDER).encode("utf-8")

  folder = Path(folder)
  data_folder = folder / DATA_FOLDER
  with writing_results(folder, *REPORT_FILES):
    report.save(data_folder)
    files = {figure.name: figure.png for figure in document.figures}
    if predictions is not None and summary is not None:
      files[SCORES_FILE] = (json.dumps(summary, indent=2) + "\n").encode()
      files |= result_tables(summary, predictions.labels)
    for name, content in files.items():
      write_atomically(data_folder / name, content)
    old = {data_folder / SCORES_FILE, *data_folder.glob("*.png"), *data_folder.glob("*.csv")}
    for path in old - {data_folder / name for name in (*files, PREDICTIONS_FILE, GROUPS_FILE)}:
      path.unlink(missing_ok=True)
    write_atomically(folder / TEXT_FILE, text)
    write_atomically(folder / PAGE_FILE, page)
  return folder / PAGE_FILE


def read_scores(folder: str | os.PathLike[str]) -> dict[str, object]:
  """The scores of a folder of `write_report` with what was scored, as `score_document` has them.

  Raises:
    ValueError: there is no report, or it has no scores; the message says why.
  """
  data_folder = Path(folder) / DATA_FOLDER
  report = SavedReport.load(data_folder)
  if report.predictions is None:
    raise ValueError(f"{folder} has no scores. {report.note or 'The model has no classes.'}")
  summary = json.loads((data_folder / SCORES_FILE).read_text(encoding="utf-8"))
  return score_document(report, summary)


def score_document(report: SavedReport, summary: ScoreSummary) -> dict[str, object]:
  """What commands print with --json: the details of a report, its classes, and its scores."""
  assert report.predictions is not None
  return {"source": dict(report.details), "labels": report.predictions.labels, **summary}


def compose(report: SavedReport, summary: ScoreSummary | None) -> Document:
  """Builds the page; `summary` is that of `report.predictions`."""
  lead: list[Block] = [Text(report.note)] if report.note else []
  sections: list[Section] = []
  if report.predictions is not None and summary is not None:
    lead += headline(summary)
    sections += score_sections(report.predictions, summary)
  if report.samples:
    sections.append(samples_section(report))
  if report.reconstructions:
    sections.append(reconstructions_section(report.reconstructions))
  if panels := curve_panels(report.history):
    sections.append(_curves_section(report.history, panels))
  if report.details:
    rows = [(str(name), _format_value(value)) for name, value in report.details.items()]
    sections.append(Section("Details", [Table("", ("property", "value"), rows)]))
  if not sections:
    lead.append(
      Text("This run has no results yet: no predictions, no training history, no images.")
    )
  return Document(report.title, lead, sections)


def _curves_section(rows: Sequence[HistoryRow], panels: Sequence[Panel]) -> Section:
  omitted = count_non_finite(rows)
  caption = describe_bands(rows)
  if omitted:
    caption += f" Logged values that are NaN or infinite and not drawn: {omitted}."
  texts = [describe_panel(rows, panel) for panel in panels]
  tiles = [
    Tile([(draw_curves(rows, [panel]), f"Learning curve, {text}.")], "")
    for panel, text in zip(panels, texts, strict=True)
  ]
  alt = f"Learning curves, {'; '.join(texts)}."
  sheet = Figure("learning_curves.png", draw_curves(rows, panels), alt, caption.strip())
  return Section("Learning curves", [Gallery(tiles, sheet, tile_width=400, charts=True)])


def _format_value(value: object) -> str:
  if isinstance(value, bool) or value is None:
    return {True: "yes", False: "no", None: "–"}[value]
  if isinstance(value, int):
    return f"{value:,}" if abs(value) >= 10_000 else str(value)
  if isinstance(value, float):
    return f"{value:.6g}"
  if isinstance(value, Mapping):
    return ", ".join(f"{key}: {_format_value(inner)}" for key, inner in value.items())
  if isinstance(value, (list, tuple)):
    return ", ".join(map(_format_value, value))
  return _format_value(value.item()) if isinstance(value, np.generic) else str(value)
