import io

import numpy as np
import pytest
from PIL import Image

from jax_me.reports.learning_curves import (
  Panel,
  curve_panels,
  describe_bands,
  describe_panel,
  draw_curves,
)
from jax_me.training.logging.history import merge_history

BLUE = (0, 114, 178)


def rows(folds=3, evaluations=1, training=True):
  """Folds of 40, 41, ... steps in 4 epochs, with scores 0.2, 0.5, 0.8 at the end."""
  found = []
  for fold in range(folds):
    total = 40 + fold
    for step in range(1, total + 1):
      row = {"step": step, "epoch": 4 * step / total, "fold": f"fold{fold}"}
      if training:
        row |= {"train/loss": 2 / step + fold, "images_per_second": 50.0}
      if step in np.linspace(0, total, evaluations + 1).astype(int):
        row["test/uf1"] = (0.2 + 0.3 * fold) * step / total
      found.append(row)
  return merge_history(found)


def pixels(png, colour=BLUE):
  image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
  return int((np.abs(image - colour).sum(axis=-1) < 12).sum())


def test_values_of_one_point_per_fold_are_drawn():
  history, score = rows(), Panel("score", ("test/uf1",))
  only_points = draw_curves(rows(training=False), [score])
  assert pixels(only_points) > 100
  # Beside a curve over epochs, in the next colour.
  mixed = Panel("score", ("train/loss", "test/uf1"))
  vermilion = (213, 94, 0)
  assert pixels(draw_curves(history, [mixed]), vermilion) > 100
  assert describe_panel(history, score) == (
    "score: test/uf1 mean of 3 folds 0.5 (0.2 to 0.8 at the end)"
  )


def test_the_mean_of_folds_has_a_band():
  history, panel = rows(evaluations=8), Panel("score", ("test/uf1",))
  one = [row for row in history if row["fold"] == "fold1"]
  band = (209, 228, 240)  # Blue with an opacity of 0.18 on white.
  assert pixels(draw_curves(history, [panel]), band) > 5000
  assert pixels(draw_curves(one, [panel]), band) < 500
  assert describe_panel(history, panel) == (
    "score: test/uf1 mean of 3 folds from 0.0604 to 0.5 (0.2 to 0.8 at the end)"
  )
  assert "mean of 3 folds" in describe_bands(history) and describe_bands(one) == ""


@pytest.mark.parametrize("folds, evaluations", [(1, 4), (2, 1), (30, 3)])
def test_all_panels_are_drawn(folds, evaluations):
  history = rows(folds, evaluations)
  panels = curve_panels(history)
  assert [panel.title for panel in panels] == ["loss", "score", "images per second"]
  assert draw_curves(history, panels).startswith(b"\x89PNG")
