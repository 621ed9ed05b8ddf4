"""Nearest neighbours on the features of a model: votes, and a run by the command line."""

import csv

import numpy as np
import pytest
from flax import nnx

from configs.common import common
from jax_me.experiment.nearest_neighbours import TEMPERATURE, neighbour_scores, run_neighbours
from jax_me.models.model_folder import save_model
from jax_me.models.registry import create_model
from tests.helpers.drawn_folder import write_light_and_dark

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_votes_are_weighted_by_similarity():
  known = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
  scores = neighbour_scores(known, np.array([0, 1, 1]), np.array([[2.0, 0.0]]), 3, neighbours=2)
  # Cosines 1 and 0.6; the third neighbour, with cosine 0, has no vote.
  weight = np.exp((0.6 - 1) / TEMPERATURE)
  np.testing.assert_allclose(scores, [[1 / (1 + weight), weight / (1 + weight), 0]], rtol=1e-12)


def test_fewer_examples_than_neighbours():
  scores = neighbour_scores(np.eye(2), np.array([1, 0]), np.eye(2), 2, neighbours=20)
  assert scores.argmax(1).tolist() == [1, 0]
  np.testing.assert_allclose(scores.sum(1), 1)


@pytest.fixture
def config(tmp_path):
  """Dark and light images of six subjects."""
  folder = write_light_and_dark(tmp_path / "images", 20)
  c = common()
  with c.unlocked():
    c.data.options.align = False
    c.model.arguments.update(patch_size=8, embed_dim=24, num_heads=2, depth=1)
  c.data.update(name="labeled_images", manual_dir=str(folder), data_dir=str(tmp_path / "built"))
  c.data.split = "loso"
  c.model.update(image_size=16, name="vit_tiny_patch16")
  return c


@pytest.mark.slow
def test_a_pretrained_encoder_is_measured_without_training(config, tmp_path, capsys):
  arguments = dict(patch_size=8, embed_dim=24, num_heads=2, depth=1, image_size=16)
  arguments |= dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
  name = "mae_vit_tiny_patch16"
  model = create_model(name, rngs=nnx.Rngs(0), **arguments)
  save_model(
    tmp_path / "mae",
    model,
    name=name,
    arguments=arguments,
    labels=None,
    image_size=16,
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={},
  )
  config.init_from = str(tmp_path / "mae")
  assert run_neighbours(config, workdir=str(tmp_path / "knn")) == 0
  rows = list(csv.DictReader((tmp_path / "knn/predictions.csv").open()))
  assert len(rows) == 12 and {row["fold"] for row in rows} == {f"p{n}" for n in range(6)}
  # Brightness is plain in the features of random weights.
  assert all(row["truth"] == row["prediction"] for row in rows)
  assert "20 nearest neighbours: UF1 1.000" in capsys.readouterr().out
  assert (tmp_path / "knn/report.html").exists()


def test_a_model_is_needed(config, tmp_path, capsys):
  assert run_neighbours(config, workdir=str(tmp_path / "knn")) == 2
  assert "--checkpoint" in capsys.readouterr().err
