"""Model selection on held-out training subjects, never on test subjects."""

import json

import jax
import numpy as np
import pytest

import jax_me.models.model_folder as saved
from configs.common import common
from jax_me.data.folds import check_disjoint, leave_one_subject_out, subject_keys, with_validation
from jax_me.data.index import make_index
from jax_me.experiment import experiment
from jax_me.experiment.model_selection import Selection
from jax_me.experiment.run import run_experiment
from jax_me.training import settings
from tests.helpers.drawn_folder import write_folder

pytestmark = pytest.mark.usefixtures("quick_compilation")


def problems(**changes) -> str:
  config = common()
  config.update_from_flattened_dict(changes)
  try:
    settings.check(config)
  except settings.SettingsError as error:
    return str(error)
  return ""


@pytest.mark.parametrize("value", ["test", "best", "best_test", "Best epoch", "max"])
def test_selection_by_test_subjects_is_refused_with_a_reason(value):
  message = problems(select=value)
  assert "never chosen by their score on the test subjects" in message and "2211.11425" in message


def test_selection_settings():
  assert problems(select="train") == ""
  assert problems(select="last") == "select must be one of final, train, got 'last'"
  assert "select_holdout is in (0, 1)" in problems(select="train", select_holdout=1.0)
  assert "evaluate_epochs > 0" in problems(select="train", evaluate_epochs=0.0)
  assert "no score to select by" in problems(select="train", task="mae")


def test_validation_has_whole_training_subjects_and_keeps_the_test_side():
  rows = [{"subject": f"s{i // 4}", "label": i % 2, "file": str(i)} for i in range(40)]
  index = make_index(("a", "b"), rows)
  keys = subject_keys(index)
  for fold in leave_one_subject_out(index):
    inner = with_validation(index, fold, 0.25, seed=3)
    check_disjoint(index, inner)
    np.testing.assert_array_equal(inner.test, fold.test)
    both = np.concatenate([inner.train, inner.validation])
    np.testing.assert_array_equal(np.sort(both), fold.train)
    assert len(inner.validation) == 8
    sides = [set(keys[side]) for side in (inner.train, inner.validation, inner.test)]
    assert sum(map(len, sides)) == 10 and set.union(*sides) == set(keys)
  with pytest.raises(ValueError, match="cannot be divided"):
    two = make_index(("a", "b"), rows[:8])
    with_validation(two, leave_one_subject_out(two)[0], 0.25)


def weights(value):
  return {"params": {"w": jax.numpy.full(3, float(value))}, "model_state": {}}


def kept_value(selection):
  state = {"step": 0, **weights(-1)}
  return float(selection.apply(state)["params"]["w"][0])


def test_best_evaluation_is_kept_and_the_first_of_equals(tmp_path):
  selection = Selection(tmp_path)
  with pytest.raises(saved.SavedModelError, match="before its first evaluation"):
    kept_value(selection)
  for step, score in ((10, 0.3), (20, 0.6), (30, 0.6), (40, 0.1)):
    selection.offer(weights(step), step, score)
  assert (selection.best().step, selection.best().score) == (20, 0.6)
  assert kept_value(selection) == 20
  assert [path.name for path in (tmp_path / "selected").iterdir()] == ["20"]


def test_selection_survives_kills_and_rollbacks(tmp_path):
  selection = Selection(tmp_path)
  selection.offer(weights(10), 10, 0.3)
  incomplete = tmp_path / "selected" / "20"
  (incomplete / "weights").mkdir(parents=True)  # Killed before the record was written.
  assert kept_value(Selection(tmp_path)) == 10
  Selection(tmp_path).offer(weights(20), 20, 0.5)  # The resumed run repeats this step.
  assert kept_value(Selection(tmp_path)) == 20
  selection.offer(weights(21), 20, 0.7)  # After a rollback, the same step has other weights.
  assert kept_value(selection) == 21
  (incomplete / "record.json").write_text("{")
  with pytest.raises(saved.SavedModelError, match="record.json cannot be read"):
    selection.best()


def test_moving_average_is_evaluated_and_kept(tmp_path):
  selection = Selection(tmp_path)
  selection.offer(weights(5), 1, 0.5)
  state = {"step": 0, **weights(-1), "ema": {"w": jax.numpy.zeros(3)}}
  applied = selection.apply(state)
  assert applied["ema"]["w"][0] == 5 and applied["params"]["w"][0] == -1


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  """24 images of 12 subjects; a model of one block, evaluated every two steps."""
  folder = tmp_path_factory.mktemp("drawings")
  rows = [{"label": "ab"[i % 2], "subject": f"p{i // 2:02}"} for i in range(24)]
  c = common()
  c.unlock()
  c.update(steps=8, batch_size=8, evaluate_epochs=1.0, checkpoint_steps=4, trackers=())
  c.update(select="train", select_holdout=0.25)
  c.data.update(name="labeled_images", options={"align": False}, split="holdout")
  c.data.manual_dir = str(write_folder(folder / "source", rows, "file,label,subject"))
  c.data.data_dir = str(folder / "built")
  c.model.image_size = 16
  c.model.arguments.update(patch_size=8, embed_dim=24, num_heads=2, depth=1)
  return c.lock()


@pytest.mark.slow
def test_run_tests_the_selected_weights(config, tmp_path, monkeypatch):
  evaluated_sides = []
  predict = experiment.Experiment.predict

  def recording(self, fold, state, positions=None):
    evaluated_sides.append("test" if positions is None else "validation")
    return predict(self, fold, state, positions)

  monkeypatch.setattr(experiment.Experiment, "predict", recording)
  assert run_experiment(config, workdir=str(tmp_path)) == 0
  assert evaluated_sides == ["validation"] * 4 + ["test"]
  rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
  validated = {row["step"]: row["validation/uf1"] for row in rows if "validation/uf1" in row}
  assert not any(key.startswith("test/") for row in rows for key in row)
  best = Selection(tmp_path).best()
  assert best.score == max(validated.values())
  assert best.step == min(step for step, score in validated.items() if score == best.score)
  assert (
    "the training subjects, who were kept from training" in (tmp_path / "report.md").read_text()
  )

  before = (tmp_path / "predictions.csv").read_bytes()
  assert run_experiment(config, workdir=str(tmp_path), mode="eval") == 0
  assert (tmp_path / "predictions.csv").read_bytes() == before
  _, params, _ = saved.split_model(saved.load_model(tmp_path).model)
  stored = saved.read_weights(best.folder, {"params": params, "model_state": {}})["params"]
  jax.tree.map(np.testing.assert_array_equal, params, stored)
