"""Expression classifiers of other packages and of jax_me on the same images.

  python benchmarks/expression_models.py --fer2013 FOLDER --london ../shared/data/london_faces \
      --peer fer=ENVIRONMENT/bin/python --peer facex=ENVIRONMENT/bin/python \
      --peer face-api=FOLDER_WITH_NODE_MODULES --model ours [--model NAME=MODEL_FOLDER]

--fer2013 is FER2013's PublicTest as class folders of PublicTest_*.jpg; other files are ignored.
--london is the Face Research Lab London Set with labels.csv, neutral and happy.
Each peer runs in its own environment (pip install fer==25.10.3; facex==1.1.0;
npm install @vladmandic/face-api @tensorflow/tfjs @tensorflow/tfjs-backend-wasm sharp), through
expression_runner.py or .js and its public interface, image after image. `--model ours` is the model
of the package.

FER2013's images are crops, so that no face is searched in them; in the London photographs each
package finds the face by its own default, and the largest one counts. An image without a face is
an error. "Restricted" takes the more probable of neutral and happy. Macro F1 is the mean over the
classes that occur in the set. Images a second include reading and detection, on two cores; they
are only comparable when measured on an idle machine, one after the other in one call.

Results of earlier calls are kept in --output when they are of the same images, so that models can
be added later. The table is written into docs/expression_models.md.
"""

import argparse
import csv
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.data.labels import canonical_label  # noqa: E402
from jax_me.files import write_atomically  # noqa: E402

RESULT = REPOSITORY / "benchmarks/results/expression_models.json"
PAGE = REPOSITORY / "docs/expression_models.md"
MARK = "<!-- The table is written by benchmarks/expression_models.py. -->"
PEERS = ("fer", "facex", "face-api")
LONDON_LABELS = ("neutral", "happiness")
CORES = 2


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__.splitlines()[0],
    epilog="\n".join(__doc__.splitlines()[1:]),
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--fer2013", type=pathlib.Path, help="class folders of PublicTest_*.jpg")
  parser.add_argument("--london", type=pathlib.Path, help="folder with images/ and labels.csv")
  parser.add_argument("--peer", action="append", default=[], help="NAME=INTERPRETER or folder")
  parser.add_argument("--model", action="append", default=[], help="NAME=FOLDER, or NAME")
  parser.add_argument("--limit", type=int, default=0, help="only every nth image, so many of a set")
  parser.add_argument("--output", type=pathlib.Path, default=RESULT, help="JSON file")
  args = parser.parse_args()
  images = list_images(args.fer2013, args.london, args.limit)
  if not images:
    parser.error("give --fer2013 or --london")
  models = joined(args.output, images)
  for text in [*args.peer, *args.model]:
    name, _, place = text.partition("=")
    if text in args.peer and (name not in PEERS or not place):
      parser.error(f"--peer takes NAME=PLACE with NAME one of {', '.join(PEERS)}, not {text!r}")
    package = name if text in args.peer else "jax_me"
    models[name] = measure(package, place, images)
    result = {"images": {key: describe(value) for key, value in images.items()}, "models": models}
    write_atomically(args.output, (json.dumps(result, indent=2) + "\n").encode())
  table = markdown(models)
  print(table)
  if args.output == RESULT:
    write_page(table)


def list_images(
  fer2013: pathlib.Path | None, london: pathlib.Path | None, limit: int
) -> dict[str, dict[str, Any]]:
  """{set: {"files", "labels", "crops"}} in a fixed order; `limit` takes that many, evenly."""
  found: dict[str, list[tuple[pathlib.Path, str]]] = {}
  if fer2013:
    paths = sorted(fer2013.glob("*/PublicTest_*.jpg"))
    found["fer2013"] = [(path, canonical_label(path.parent.name)) for path in paths]
  if london:
    with (london / "labels.csv").open(encoding="utf-8-sig") as file:
      rows = list(csv.DictReader(file))
    found["london"] = [
      (london / "images" / row["file"], canonical_label(row["expression"])) for row in rows
    ]
  sets = {}
  for name, images in found.items():
    if not images:
      raise SystemExit(f"no images of {name}: see --help for the layout of its folder")
    if limit and limit < len(images):
      images = [images[i] for i in np.linspace(0, len(images) - 1, limit).astype(int)]
    sets[name] = {
      "files": [str(path.resolve()) for path, _ in images],
      "labels": [label for _, label in images],
      "crops": name == "fer2013",
    }
  return sets


def describe(images: dict[str, Any]) -> dict[str, Any]:
  """Number and digest of the images of a set, with their labels."""
  digest = hashlib.sha256()
  for file, label in zip(images["files"], images["labels"], strict=True):
    path = pathlib.Path(file)
    digest.update(f"{path.name} {label} ".encode() + path.read_bytes())
  return {"count": len(images["files"]), "sha256": digest.hexdigest()}


def joined(output: pathlib.Path, images: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Results of an earlier call on the same images."""
  if not output.exists():
    return {}
  earlier = json.loads(output.read_text())
  if earlier["images"] != {name: describe(value) for name, value in images.items()}:
    raise SystemExit(f"{output} has results on other images; give another --output, or remove it")
  return earlier["models"]


def measure(package: str, place: str, images: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Runs a package on all images and scores it.

  Args:
    package: one of PEERS, or "jax_me".
    place: interpreter of the peer, folder with node_modules, or model folder ("" for the packaged).
    images: from `list_images`.

  Returns:
    JSON values: version, installed bytes, and the scores of each set.
  """
  task = {
    "package": package,
    "model": place,
    "folder": place,
    "sets": {name: {k: value[k] for k in ("files", "crops")} for name, value in images.items()},
  }
  here = pathlib.Path(__file__).resolve().parent
  command = [place if package in PEERS else sys.executable, str(here / "expression_runner.py")]
  if package == "face-api":
    command = ["node", str(here / "expression_runner.js")]
  with tempfile.TemporaryDirectory() as folder:
    paths = [pathlib.Path(folder, name) for name in ("task.json", "result.json")]
    paths[0].write_text(json.dumps(task))
    subprocess.run([*command, *map(str, paths)], check=True, preexec_fn=use_two_cores)
    found = json.loads(paths[1].read_text())
  sets = {}
  for name, value in images.items():
    scores, seconds = found["sets"][name]["scores"], found["sets"][name]["seconds"]
    entry = score(scores, value["labels"])
    if name == "london":
      restricted = score(scores, value["labels"], LONDON_LABELS)
      entry |= {f"restricted_{key}": restricted[key] for key in ("accuracy", "macro_f1")}
    sets[name] = {**entry, "images_per_second": round(len(scores) / seconds, 1)}
  return {**found, "sets": sets}


def use_two_cores() -> None:
  if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])


def score(
  scores: Sequence[dict[str, float] | None], truth: Sequence[str], among: Sequence[str] = ()
) -> dict[str, Any]:
  """Accuracy, macro F1 and recall of each class.

  Args:
    scores: {label in any spelling: probability} of each image; None without a face.
    truth: canonical labels.
    among: the labels to choose from; empty for all.

  Returns:
    JSON values; `no_face` is the number of images without a face, which count as errors.
  """
  predicted = []
  for each in scores:
    named = {canonical_label(label): value for label, value in (each or {}).items()}
    named = {label: value for label, value in named.items() if not among or label in among}
    predicted.append(max(named, key=named.__getitem__) if named else "")
  pairs = list(zip(truth, predicted, strict=True))
  classes = sorted(set(truth))
  hits = {c: sum(t == p == c for t, p in pairs) for c in classes}
  f1 = [2 * hits[c] / (list(truth).count(c) + predicted.count(c)) for c in classes]
  return {
    "accuracy": round(sum(hits.values()) / len(pairs), 4),
    "macro_f1": round(sum(f1) / len(f1), 4),
    "recall": {c: round(hits[c] / list(truth).count(c), 4) for c in classes},
    "no_face": sum(each is None for each in scores),
  }


def markdown(models: dict[str, Any]) -> str:
  """The table of all models."""
  columns = (
    ("fer2013", "accuracy", "PublicTest accuracy"),
    ("fer2013", "macro_f1", "macro F1"),
    ("fer2013", "images_per_second", "images/s"),
    ("london", "accuracy", "London accuracy"),
    ("london", "macro_f1", "macro F1"),
    ("london", "restricted_accuracy", "restricted: accuracy"),
    ("london", "restricted_macro_f1", "macro F1"),
    ("london", "no_face", "no face"),
    ("london", "images_per_second", "images/s"),
  )
  header = ["model", *(title for _, _, title in columns), "installed, MB"]
  rows = [header, ["---"] * len(header)]
  for name, model in models.items():
    cells = [cell(model["sets"].get(images, {}).get(key)) for images, key, _ in columns]
    size = f"{model['installed_bytes'] / 1e6:.0f}"
    rows.append([f"{name} {model['version']}".strip(), *cells, size])
  return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(value: float | None) -> str:
  if value is None:
    return ""
  return f"{value:.{1 if value > 1 else 3}f}" if isinstance(value, float) else str(value)


def write_page(table: str) -> None:
  """Replaces the table of the page, which is below the mark."""
  text, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
  if not mark:
    raise SystemExit(f"{PAGE} lacks the line {MARK}")
  PAGE.write_text(f"{text}{MARK}\n\n{table}\n", encoding="utf-8")


if __name__ == "__main__":
  main()
