"""The images of a report: sample predictions and reconstructions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from jax_me.evaluation.predictions import Predictions
from jax_me.reports.document import Gallery, Picture, Section, Tile
from jax_me.reports.figures import thumbnail
from jax_me.reports.plots import draw_reconstructions, draw_samples
from jax_me.reports.saved_report import RECONSTRUCTION_IMAGES, Parts

THUMBNAIL = 160  # pixels; the longer side of an image on the page


def choose_samples(predictions: Predictions, count: int = 12, seed: int = 0) -> list[int]:
  """Rows to show as samples: half of them wrong where there are as many, drawn at random.

  They are spread over the true classes as evenly as the rows allow, so that a frequent class does
  not fill the sheet; the report says how many there are of each kind. The order is right ones
  first, then wrong ones, each by class.
  """
  generator = np.random.default_rng(seed)
  wrong = _spread(predictions, ~predictions.correct, generator)
  right = _spread(predictions, predictions.correct, generator)
  take_wrong = min(len(wrong), max(count // 2, count - len(right)))
  chosen_right, chosen_wrong = right[: count - take_wrong], wrong[:take_wrong]
  order = predictions.truth
  return [
    *sorted(chosen_right, key=lambda row: (order[row], row)),
    *sorted(chosen_wrong, key=lambda row: (order[row], row)),
  ]


def samples_section(parts: Parts) -> Section:
  """Faces with what the model took them for; wrong ones stand out by frame, sign and word."""
  samples = parts.samples
  wrong = [sample for sample in samples if sample["truth"] != sample["prediction"]]
  caption = f"{len(samples) - len(wrong)} right and {len(wrong)} wrong ones"
  if parts.predictions is not None:
    right = int(parts.predictions.correct.sum())
    caption += f", out of {right} right and {len(parts.predictions) - right} wrong in all"
  tiles = []
  for sample in samples:
    missed = sample["truth"] != sample["prediction"]
    score = "" if sample["score"] is None else f" {100 * sample['score']:.0f}%"
    alt = f"A face taken for {sample['prediction']}; the truth is {sample['truth']}."
    lines = [f"truth: {sample['truth']}"] if missed else []
    lines += [sample["caption"]] if sample["caption"] else []
    tiles.append(
      Tile(
        [(thumbnail(sample["image"], THUMBNAIL), alt)],
        f"{'✗ wrong:' if missed else '✓'} {sample['prediction']}{score}",
        lines,
        marked=missed,
      )
    )
  alt = "; ".join(f"{s['truth']} taken for {s['prediction']}" for s in samples)
  sheet = Picture(
    "samples.png",
    draw_samples(samples),
    f"Faces with predictions: {alt}.",
    f"{caption}. The percentage is the probability that the model gave its answer.",
  )
  return Section("Sample predictions", [Gallery(tiles, sheet)])


def reconstructions_section(images: Mapping[str, NDArray[np.uint8]]) -> Section:
  """What a masked autoencoder saw, made of it, and should have made, side by side."""
  stacks = [images[name] for name in RECONSTRUCTION_IMAGES]
  tiles = [
    Tile(
      [
        (thumbnail(image, THUMBNAIL), f"Example {i + 1}, {name}")
        for image, name in zip(triple, RECONSTRUCTION_IMAGES, strict=True)
      ],
      "",
    )
    for i, triple in enumerate(zip(*stacks, strict=True))
  ]
  sheet = Picture(
    "reconstructions.png",
    draw_reconstructions(*stacks),
    f"{len(tiles)} faces, each masked, reconstructed and original.",
    "From left to right: what the model saw, what it made of it, the original.",
  )
  return Section("Reconstructions", [Gallery(tiles, sheet, tile_width=290)])


def _spread(
  predictions: Predictions, mask: NDArray[np.bool_], generator: np.random.Generator
) -> list[int]:
  """The rows of `mask` in a random order that takes the true classes in turn."""
  rows = generator.permutation(np.flatnonzero(mask))
  turn = np.zeros(len(rows), int)
  for label in range(len(predictions.labels)):
    of_class = predictions.truth[rows] == label
    turn[of_class] = np.arange(of_class.sum())
  return [int(row) for row in rows[np.argsort(turn, kind="stable")]]
