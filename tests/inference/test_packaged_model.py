"""The model that is used where no other is given."""

import cv2
import numpy as np
import pytest

import jax_me
from jax_me import bundled
from jax_me.__main__ import main
from tests.helpers.inference_models import LABELS, save

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture
def packaged(tmp_path, monkeypatch):
  monkeypatch.setattr(bundled, "EXPRESSION_MODEL", tmp_path / "expression_model")
  return bundled.EXPRESSION_MODEL


def test_load_without_an_argument_takes_it(packaged):
  with pytest.raises(ValueError, match="no expression model comes with this version"):
    jax_me.load()
  save(packaged)
  assert jax_me.load().labels == jax_me.load(packaged).labels == LABELS


def test_predict_without_checkpoint_names_it(packaged, tmp_path, capsys):
  cv2.imwrite(str(tmp_path / "grey.png"), np.full((64, 64), 128, np.uint8))
  command = ["predict", str(tmp_path / "grey.png"), "--output", str(tmp_path / "out")]
  assert main(command) == 1
  assert "no expression model" in capsys.readouterr().err
  save(packaged)
  assert main([*command, "--no-align"]) == 0
  assert (tmp_path / "out" / "predictions.csv").exists()


def test_the_model_of_this_version_is_intact():
  if not bundled.EXPRESSION_MODEL.exists():
    pytest.skip("this version has no expression model")
  predictor = jax_me.load(verify=True)
  assert predictor.saved.alignment["grey"] and len(predictor.labels) == 7
  size = sum(path.stat().st_size for path in bundled.expression_model().iterdir())
  assert size < 8e6
