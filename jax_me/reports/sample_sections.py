"""Report sections with images: sample predictions and reconstructions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.predictions import Predictions
from jax_me.reports.document import Figure, Gallery, Section, Tile
from jax_me.reports.figures import thumbnail
from jax_me.reports.plots import draw_reconstructions, draw_samples
from jax_me.reports.saved_report import RECONSTRUCTION_IMAGES, SavedReport

THUMBNAIL = 160  # Pixels of the longer side of an image on the page.


def choose_samples(predictions: Predictions, count: int = 12, seed: int = 0) -> list[int]:
  """Draws rows to show as samples, half of them wrong if there are enough.

  The rows are spread over the true classes as evenly as possible, so that a frequent class does
  not dominate; the report states the number of correct and wrong predictions.

  Args:
    predictions: the table to draw from.
    count: number of rows.
    seed: random seed.

  Returns:
    Row indices: correct predictions first, then wrong ones, each sorted by true class.
  """
  generator = np.random.default_rng(seed)
  wrong = _shuffle_by_class(predictions, ~predictions.correct, generator)
  correct = _shuffle_by_class(predictions, predictions.correct, generator)
  num_wrong = min(len(wrong), max(count // 2, count - len(correct)))
  truth = predictions.truth
  return [
    *sorted(correct[: count - num_wrong], key=lambda row: (truth[row], row)),
    *sorted(wrong[:num_wrong], key=lambda row: (truth[row], row)),
  ]


def samples_section(report: SavedReport) -> Section:
  """Builds the gallery of predictions; wrong ones are marked by frame, sign and word."""
  samples = report.samples
  correct = sum(sample.correct for sample in samples)
  caption = f"{correct} correct and {len(samples) - correct} wrong predictions"
  if report.predictions is not None:
    total = int(report.predictions.correct.sum())
    caption += f", out of {total} correct and {len(report.predictions) - total} wrong ones in total"
  caption += "."
  if any(sample.score is not None for sample in samples):
    caption += " The percentage is the probability that the model assigned to its prediction."
  tiles = []
  for sample in samples:
    score = "" if sample.score is None else f" {100 * sample.score:.0f}%"
    alt = f"A face predicted as {sample.prediction}; the true label is {sample.truth}."
    lines = [] if sample.correct else [f"truth: {sample.truth}"]
    lines += [sample.caption] if sample.caption else []
    tiles.append(
      Tile(
        [(thumbnail(sample.image, THUMBNAIL), alt)],
        f"{'✓' if sample.correct else '✗ wrong:'} {sample.prediction}{score}",
        lines,
        marked=not sample.correct,
      )
    )
  alt = "; ".join(f"{sample.truth} predicted as {sample.prediction}" for sample in samples)
  sheet = Figure("samples.png", draw_samples(samples), f"Faces with predictions: {alt}.", caption)
  return Section("Sample predictions", [Gallery(tiles, sheet)])


def reconstructions_section(images: Mapping[str, NDArray[np.uint8]]) -> Section:
  """Builds the gallery of masked, reconstructed and original images [N, H, W, 3]."""
  tiles = [
    Tile(
      [
        (thumbnail(images[name][i], THUMBNAIL), f"Example {i + 1}, {name}")
        for name in RECONSTRUCTION_IMAGES
      ],
      "",
    )
    for i in range(len(images["original"]))
  ]
  sheet = Figure(
    "reconstructions.png",
    draw_reconstructions(images),
    f"{len(tiles)} faces, each masked, reconstructed and original.",
    "From left to right: masked input, reconstruction, original.",
  )
  return Section("Reconstructions", [Gallery(tiles, sheet, tile_width=290)])


def _shuffle_by_class(
  predictions: Predictions, mask: NDArray[np.bool_], generator: np.random.Generator
) -> list[int]:
  """The rows of `mask` in random order, alternating between the true classes."""
  rows = generator.permutation(np.flatnonzero(mask))
  rank = np.zeros(len(rows), int)
  for label in range(len(predictions.labels)):
    of_class = predictions.truth[rows] == label
    rank[of_class] = np.arange(of_class.sum())
  return [int(row) for row in rows[np.argsort(rank, kind="stable")]]
