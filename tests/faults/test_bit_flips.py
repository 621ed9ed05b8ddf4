"""Flipped bytes in model folders, runs and datasets: each is reported, or changes no result."""

import contextlib
import shutil

import jax
import numpy as np
import pytest

from jax_me.data.image_store import ImageStore
from jax_me.datasets.built_datasets import find_build, open_build
from jax_me.evaluation.prediction_reader import read_predictions
from jax_me.experiment.preparation import prepare
from jax_me.experiment.resumption import changes_of, check_changes
from jax_me.models.ensemble import load_folder, model_folders
from jax_me.models.model_folder import load_model, save_model
from jax_me.models.model_metadata import read_model_metadata
from jax_me.reports.saved_report import SavedReport
from jax_me.run_folder import verify_results
from jax_me.training.checkpoint import Checkpoints
from jax_me.training.logging.history import read_history
from tests.faults.conftest import count
from tests.helpers.drawn_folder import write_folder
from tests.helpers.inference_models import save
from tests.helpers.tiny_runs import tiny_recipe, tiny_run

pytestmark = pytest.mark.usefixtures("quick_compilation")

FLIPS = 500  # Over weights and checkpoints, and as many over everything else.


@pytest.fixture(scope="module")
def run(repository, tmp_path_factory):
  """A finished run of two folds with a final model, which keeps its checkpoints."""
  folder = tmp_path_factory.mktemp("run")
  rows = [{"subject": f"p{i}", "label": label} for i in range(4) for label in "xy"]
  source = write_folder(folder / "source", rows, "file,subject,label")
  assert tiny_run(repository, source, folder / "run", data__folds=2, final="all") == 0
  return folder / "run", tiny_recipe(repository, source, data__folds=2, final="all")


@pytest.fixture(scope="module")
def program(run):
  """The program of the run, which has the shapes of its checkpoints."""
  return prepare(run[1]).program


@contextlib.contextmanager
def flipped(file, random):
  """Flips bits of one byte of a file."""
  good = file.read_bytes()
  damaged = bytearray(good)
  offset = int(random.integers(len(good)))
  damaged[offset] ^= int(random.integers(1, 256))
  file.write_bytes(damaged)
  try:
    yield f"{file.name}, byte {offset}"
  finally:
    file.write_bytes(good)


def try_flips(fault, random, folder, files, outcome, tries):
  """Compares what is read from a damaged folder with what is read from the good one."""
  good = outcome()
  files = sorted(file for file in files if file.stat().st_size)
  for _ in range(tries):
    file = files[int(random.integers(len(files)))]
    with flipped(file, random) as what:
      try:
        found = outcome()
      except (ValueError, OSError) as error:
        readable = str(folder) in str(error) and "\n" not in str(error)
        fault.record(what, "" if readable else f"no readable message: {error}")
        continue
      fault.record(what, "" if found == good else "another result")


def arrays(tree):
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def files_of(folder, *, without=()):
  return [p for p in folder.rglob("*") if p.is_file() and not set(without) & set(p.parts)]


def model_outcome(folder):
  saved = load_model(folder)
  _, weights, normalisation = saved.split()
  return arrays(weights), arrays(normalisation), saved.labels, read_model_metadata(folder)


@pytest.mark.parametrize("form", ["orbax", "safetensors"])
def test_flips_in_weights(fault, random, tmp_path, form):
  folder = save(tmp_path / "model")
  if form == "safetensors":
    saved = load_model(folder)
    fields = {key: getattr(saved, key) for key in ("name", "arguments", "labels", "image_size")}
    save_model(
      tmp_path / "other",
      saved.model,
      weights_format=form,
      mean=list(saved.mean),
      std=list(saved.std),
      source=saved.source,
      **fields,
    )
    folder = tmp_path / "other"
  files = [file for file in files_of(folder) if "weights" in str(file.relative_to(folder))]
  try_flips(fault, random, folder, files, lambda: model_outcome(folder), count(FLIPS // 4))


def test_flips_in_checkpoints(fault, random, run, program, caplog):
  folder = run[0] / "final"
  checkpoints = folder / "checkpoints"

  def outcome():
    """State and position; passing over a checkpoint must be said."""
    caplog.clear()
    reader = Checkpoints(folder, read_only=True)
    newest = reader.latest_step()
    try:
      state, position = reader.restore(program.abstract_state())
    finally:
      reader.close()
    if "going on from the one before" in caplog.text:
      raise ValueError(f"{folder}: passed over")
    return arrays(state), position, newest

  try_flips(fault, random, folder, files_of(checkpoints), outcome, count(FLIPS // 2))


def test_flips_in_other_files_of_a_model(fault, random, tmp_path):
  folder = save(tmp_path / "model")
  files = files_of(folder, without=["weights"])
  try_flips(fault, random, folder, files, lambda: model_outcome(folder), count(FLIPS // 4))


def test_flips_in_a_run(fault, random, run):
  folder, config = run

  def outcome():
    results = [folder, *(folder / f"fold{n}" for n in (1, 2))]
    for one in results:
      verify_results(one)
    report = SavedReport.load(folder / "report")
    tables = [read_predictions(one / "predictions.csv") for one in results]
    load_folder(folder / "ensemble")
    check_changes(folder, config, changes_of(folder, config))  # As the run does.
    return (
      [(t.labels, t.truth.tolist(), t.prediction.tolist(), t.scores.tolist()) for t in tables],
      [read_history(one / "metrics.jsonl") for one in results],
      (report.title, report.details, report.history),
      [str(path) for path in model_folders(folder / "ensemble")],
    )

  names = ("results.json", "predictions.csv", "metrics.jsonl", "config.json", "folds.json")
  files = [p for p in files_of(folder) if p.name in names or "report" in p.parts]
  try_flips(fault, random, folder, files, outcome, count(FLIPS // 2))


def test_flips_in_a_dataset(fault, random, run, tmp_path):
  built = run[0].parent / "built"
  shutil.copytree(built, tmp_path / "data")
  (folder,) = (path.parent for path in (tmp_path / "data").rglob("manifest.json"))

  def outcome():
    build = find_build("labeled_images", tmp_path / "data", {})
    store = ImageStore(open_build(build), "train", image_size=16, cache_bytes=0)
    index = store.index
    rows = [list(getattr(index, name)) for name in ("file", "subject", "label")]
    return rows, index.label_names, [store.encoded(n) for n in range(len(index))]

  try_flips(fault, random, folder, files_of(folder), outcome, count(FLIPS // 4))
