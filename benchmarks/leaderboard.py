"""Leave-one-subject-out scores of micro-expression models on ready flow images, three columns.

  python benchmarks/leaderboard.py --manual_dir FOLDER            # trains what is missing
  python benchmarks/leaderboard.py --manual_dir FOLDER --rows t2t_vit --seeds 0 --minutes 30
  python benchmarks/leaderboard.py --manual_dir FOLDER --folds 5 --rows vit --settings epochs=80.0
  python benchmarks/leaderboard.py --table                        # docs/leaderboard.md again

FOLDER is for `configs/loso_images.py:flow`: the images of MEGC 2019's databases, labels.csv with
the columns file, subject, label, database. A row and seed is one unit: all folds in one program.
Its result is stored in benchmarks/results/leaderboard.json as soon as it is finished, and what is
stored is not trained again, so that the command can be stopped and repeated.

Columns: the published score; the score of the test epoch that is best for each person, which
published code often reports (the test labels choose the epoch); and the score of the last epoch.
"inner folds" selects the epoch on training people who are held out (`select=train`).

With --folds people are split into a few folds, for a quick comparison of settings (--settings); the
scores are stored and printed, but are not in the table.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import torch_two_layer_cnn as torch_cnn  # noqa: E402
from jax_me.data.folds import Fold  # noqa: E402
from jax_me.evaluation.metrics import confusion_matrix, scores  # noqa: E402
from jax_me.evaluation.predictions import Predictions, concatenate  # noqa: E402
from jax_me.experiment.experiment import Experiment  # noqa: E402
from jax_me.experiment.fold_batch import train_fold_batch  # noqa: E402
from jax_me.experiment.preparation import prepare  # noqa: E402
from jax_me.training import recipes, settings  # noqa: E402

RESULT = ROOT / "benchmarks/results/leaderboard.json"
PAGE = ROOT / "docs/leaderboard.md"
MARK = "<!-- Written by benchmarks/leaderboard.py --table. -->\n"
SEEDS = (0, 1, 2)
REPEATS = 2000  # Of the bootstrap.
RECIPE = "configs/loso_images.py:flow"
EVALUATIONS = "evaluations.jsonl"
TORCH = "torch"

# Results of the papers on the composite of all three databases: (UF1, UAR).
PUBLISHED = {
  "STSTNet (Liong et al. 2019)": (0.7353, 0.7605),
  "STSTNet, released weights": (0.7209, 0.7250),
  "HTNet, best test epoch (Wang et al. 2023)": (0.8603, 0.8475),
  "CausalNet, best test epoch (Zhang et al. 2025)": (0.8976, 0.9020),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the table.

  Attributes:
    title: name in the table.
    model: argument of the recipe after "flow,"; "" is its default, TORCH the peer in torch.
    settings: overrides of the recipe.
  """

  title: str
  model: str = ""
  settings: tuple[str, ...] = ()


INNER = ("select=train",)
MODELS = {
  "shallow_cnn": Row("two-layer CNN", "shallow_cnn"),
  "ststnet": Row("STSTNet's form", "shallow_ststnet"),
  "shallow_resnet": Row("residual CNN", "shallow_resnet"),
  "t2t_vit": Row("T2T-ViT", "t2t_vit_7"),
  "vit": Row("ViT", "vit_tiny_patch16"),
  "convnextv2": Row("ConvNeXt V2", "convnextv2_atto"),
}
ROWS = {
  "torch_cnn": Row("two-layer CNN in torch, flips only", TORCH),
  **MODELS,
  **{
    f"{name}_inner": Row(f"{row.title}, inner folds", row.model, INNER)
    for name, row in MODELS.items()
  },
  "balanced_weights": Row("recipe, balanced class weights", "", ("class_weights=balanced",)),
  "balanced_sampling": Row("recipe, balanced sampling", "", ("data.balanced=True",)),
}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--manual_dir", help="folder with the images and labels.csv")
  parser.add_argument("--rows", default=",".join(ROWS), help="of: " + ", ".join(ROWS))
  parser.add_argument("--folds", type=int, default=0, help="folds by people instead of LOSO")
  parser.add_argument("--settings", nargs="+", default=[], help="KEY=VALUE, with --folds")
  parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
  parser.add_argument("--minutes", type=float, default=np.inf, help="start no unit after these")
  parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/leaderboard"))
  parser.add_argument("--table", action="store_true", help="only write the table")
  args = parser.parse_args()
  if unknown := set(args.rows.split(",")) - set(ROWS):
    parser.error(f"there is no row {', '.join(sorted(unknown))}")
  if args.settings and not args.folds:
    parser.error("--settings is for comparisons with --folds; the table has the recipe's settings")
  result = json.loads(RESULT.read_text()) if RESULT.exists() else {"people": [], "units": {}}
  if not args.table:
    if not args.manual_dir:
      parser.error("--manual_dir is needed to train")
    train_missing(args, result)
  write_table(result)


def train_missing(args: argparse.Namespace, result: dict) -> None:
  """Trains the units that are not in the result, seed by seed, and stores each."""
  started = time.monotonic()
  for seed in map(int, args.seeds.split(",")):
    for name in args.rows.split(","):
      unit = f"{name}/{seed}"
      if args.folds:
        unit = " ".join((f"{unit}/{args.folds} folds", *args.settings))
      if unit in result["units"]:
        continue
      if time.monotonic() - started > 60 * args.minutes:
        return
      print(f"{unit} ...", flush=True)
      row, folder, begun = ROWS[name], args.workdir / unit, time.monotonic()
      row = dataclasses.replace(row, settings=(*row.settings, *args.settings))
      config = recipe(row, seed, args.manual_dir, str(args.workdir / "data"))
      if args.folds:
        config.data.split, config.data.folds = "kfold", args.folds
      experiment = prepare(config)
      in_torch = row.model == TORCH
      last, best = train_torch(experiment, seed) if in_torch else train(experiment, folder)
      folder.mkdir(parents=True, exist_ok=True)
      last.save(folder / "predictions.csv")
      people, tables = by_person(last)
      if result["people"] not in ([], people):
        sys.exit(f"{args.manual_dir} has other people than {RESULT}; move that file away")
      result["people"] = people
      result["units"][unit] = {
        "last": tables,
        "best": None if best is None else by_person(best)[1],
        "parameters": torch_cnn.parameters() if in_torch else parameters(experiment),
        "epochs": torch_cnn.EPOCHS if in_torch else config.epochs,
        "seconds": round(time.monotonic() - begun),
      }
      print(f"{unit}: UF1 {pooled(tables)['uf1']:.3f}", flush=True)
      ensemble(args.workdir, name, result)
      RESULT.write_text(json.dumps(result) + "\n")


def recipe(row: Row, seed: int, manual_dir: str, data_dir: str):
  """The settings of a unit; every epoch is evaluated, for the column of the best test epoch."""
  model = f",{row.model}" if row.model not in ("", TORCH) else ""
  config = recipes.load_recipe(str(ROOT / RECIPE) + model)
  given = [f"data.manual_dir={manual_dir}", f"data.data_dir={data_dir}", f"seed={seed}"]
  given += ["evaluate_epochs=1.0", "folds.weights=False", "trackers=()", "checkpoint_steps=1000000"]
  settings.override(config, [f"--config.{text}" for text in (*given, *row.settings)])
  settings.check(config)
  return config


@dataclasses.dataclass
class RecordingExperiment(Experiment):
  """Experiment that writes the predictions of every evaluation of a test person to a file."""

  file: pathlib.Path = pathlib.Path()

  def predict(self, fold: Fold, state, positions: np.ndarray | None = None) -> Predictions:
    """See `Experiment.predict`."""
    predictions = super().predict(fold, state, positions)
    if positions is None:
      line = {"fold": fold.name, "prediction": predictions.prediction.tolist()}
      with self.file.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return predictions


def train(experiment: Experiment, folder: pathlib.Path) -> tuple[Predictions, Predictions | None]:
  """Trains all folds; returns the predictions of the last and of the best test epochs."""
  folder.mkdir(parents=True, exist_ok=True)
  recording = RecordingExperiment(**vars(experiment), file=folder / EVALUATIONS)
  finished = train_fold_batch(recording, folder, print)
  missing = [fold.name for fold in experiment.folds if fold.name not in finished]
  folds = {
    fold.name: Predictions.load(folder / fold.name / "predictions.csv")
    for fold in experiment.folds
    if (folder / fold.name / "predictions.csv").exists()
  }
  if len(folds) < len(experiment.folds):
    sys.exit(f"{folder}: no predictions of {', '.join(missing)}")
  last = concatenate(list(folds.values()))
  if experiment.selects:
    return last, None
  lines = [json.loads(line) for line in recording.file.read_text().splitlines()]
  best = []
  for name, tested in folds.items():
    tried = [np.array(line["prediction"]) for line in lines if line["fold"] == name]
    best.append(dataclasses.replace(tested, scores=None, prediction=best_of(tried, tested.truth)))
  return last, concatenate(best)


def best_of(predictions: Sequence[np.ndarray], truth: np.ndarray) -> np.ndarray:
  """The predictions [N] with the most correct ones, the first of several."""
  return max(predictions, key=lambda tried: int((tried == truth).sum()))


def train_torch(experiment: Experiment, seed: int) -> tuple[Predictions, Predictions]:
  """As `train`, for the two-layer CNN in torch with the same folds."""
  images, index = experiment.training_images, experiment.training_images.index
  pixels = images.images(np.arange(len(images)))
  folds = [(fold.train, fold.test) for fold in experiment.folds]
  probabilities, tried = torch_cnn.train_folds(pixels, index.label, folds, seed=seed)
  tables = [
    experiment.table_of(fold, fold.test, probabilities[number])
    for number, fold in enumerate(experiment.folds)
  ]
  best = [
    dataclasses.replace(table, scores=None, prediction=best_of(tried[number], table.truth))
    for number, table in enumerate(tables)
  ]
  return concatenate(tables), concatenate(best)


def parameters(experiment: Experiment) -> int:
  """Trained values of the model."""
  shapes = experiment.program.abstract_state()["params"]
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes))


def by_person(predictions: Predictions) -> tuple[list[str], list[list[int]]]:
  """Names "database/subject", and the confusion matrix of each person as a flat list."""
  keys = np.array(
    [f"{d}/{s}" for d, s in zip(predictions.database, predictions.subject, strict=True)]
  )
  people = sorted(set(keys))
  classes = len(predictions.labels)
  tables = [
    confusion_matrix(predictions.truth[keys == key], predictions.prediction[keys == key], classes)
    for key in people
  ]
  return people, [table.ravel().tolist() for table in tables]


def ensemble(workdir: pathlib.Path, name: str, result: dict) -> None:
  """Stores the mean probabilities of all seeds of a row, once each has been trained here."""
  files = [workdir / f"{name}/{seed}/predictions.csv" for seed in SEEDS]
  if name.endswith("_inner") or not all(file.exists() for file in files):
    return
  tables = [Predictions.load(file) for file in files]
  orders = [np.argsort(np.array(table.file)) for table in tables]
  first = tables[0]
  mean = np.mean([t.scores[order] for t, order in zip(tables, orders, strict=True)], 0)
  prediction = np.empty(len(first), np.int64)
  prediction[orders[0]] = mean.argmax(1)
  pooled_table = dataclasses.replace(first, scores=None, prediction=prediction)
  result["units"][f"{name}/ensemble"] = {"last": by_person(pooled_table)[1], "best": None}


def pooled(tables: Sequence[Sequence[int]]) -> Mapping:
  """Scores of people together."""
  total = np.sum(tables, 0)
  side = round(len(total) ** 0.5)
  return scores(total.reshape(side, side))


def interval(units: Sequence[Sequence[Sequence[int]]]) -> tuple[float, float]:
  """95% interval over people of the mean UF1 of several seeds, by the bootstrap."""
  counts = np.array(units, float)  # [seeds, people, cells]
  seeds, people, cells = counts.shape
  random = np.random.default_rng(0)
  drawn = random.integers(0, people, (REPEATS, people))
  times = np.apply_along_axis(np.bincount, 1, drawn, minlength=people)
  side = round(cells**0.5)
  totals = np.einsum("rp,spc->rsc", times, counts).reshape(REPEATS, seeds, side, side)
  correct = np.diagonal(totals, axis1=2, axis2=3)
  with np.errstate(invalid="ignore"):  # A class without examples and predictions has no F1.
    f1 = 2 * correct / (totals.sum(2) + totals.sum(3))
  values = np.nanmean(f1, axis=(1, 2))
  low, high = np.percentile(values, [2.5, 97.5])
  return float(low), float(high)


def write_table(result: dict) -> None:
  """Writes the table into docs/leaderboard.md, below the mark."""
  databases = [key.split("/")[0] for key in result["people"]]
  names = sorted(set(databases))
  header = ["model", "parameters", "epochs", "seeds", "as published", "best test epoch"]
  header += ["last epoch", "95% interval of UF1", *names]
  lines = [header, ["---"] * len(header)]
  for title, (uf1, uar) in PUBLISHED.items():
    lines.append([title, "", "", "", f"{uf1:.3f} / {uar:.3f}", *[""] * (len(header) - 5)])

  def mean_score(units: Sequence, column: str, database: str = "") -> str:
    if any(unit[column] is None for unit in units):
      return ""
    chosen = [
      pooled([row for row, d in zip(unit[column], databases, strict=True) if database in ("", d)])
      for unit in units
    ]
    return " / ".join(f"{np.mean([s[key] for s in chosen]):.3f}" for key in ("uf1", "uar"))

  for name, row in ROWS.items():
    seeds = [result["units"][key] for s in SEEDS if (key := f"{name}/{s}") in result["units"]]
    together = result["units"].get(f"{name}/ensemble")
    for title, units in ((row.title, seeds), (f"{row.title}, mean of 3 seeds", [together])):
      if not units or units[0] is None:
        continue
      first = seeds[0]
      low, high = interval([unit["last"] for unit in units])
      cells = [title, f"{first['parameters']:,}", f"{first['epochs']:g}", str(len(seeds)), ""]
      cells += [mean_score(units, "best"), mean_score(units, "last"), f"{low:.2f} to {high:.2f}"]
      lines.append([*cells, *(mean_score(units, "last", d) for d in names)])
  table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
  text = PAGE.read_text().partition(MARK)[0] if PAGE.exists() else ""
  PAGE.write_text(f"{text}{MARK}\n{table}\n")
  print(table)


if __name__ == "__main__":
  main()
