"""Number of source files that an image passes through between `run.py` and `predictions.csv`.

  python benchmarks/source_files.py              # about two minutes

Runs `run.py --config configs/finetune_images.py` on folders of drawn faces, build of the dataset
included, and records every call of a function of `jax_me` and `convert`, in all processes and
threads. Code that runs when a module is imported is not counted. The groups are:

  image    a function of the file is called on the host for each image: in a folder with twice as
           many images at least once more for each of them.
  device   it is called while the training loss or the classifier is traced, so that its operations
           run on the device for each image. The update of the parameters is not counted: no image
           reaches the optimizer or the learning-rate schedule.
  batch    it is called more often for more images, but not for each.
  set-up   it is called as often for any number of images.
  report   it is called only for the report, after predictions.csv.

A file is in the first group that applies to one of its functions. The larger folder is trained with
a batch twice as large, so that both runs have the same number of steps, and functions that are
called for each step do not count as called for each image.
"""

import argparse
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import cv2

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.datasets.synthetic import clip_rendering  # noqa: E402

SUBJECTS = 6  # Of the smaller folder, with two images each.
BATCH_SIZE = 4  # With the smaller folder.
SETTINGS = [
  "--config.epochs=4",
  "--config.log_steps=1000000",
  "--config.checkpoint_steps=1000000",
  "--config.trackers=()",
]
# Functions whose callees are counted separately: (file, qualified name) -> where they run.
CONTEXTS = {
  ("jax_me/training/steps.py", "classification_loss.<locals>.loss_function"): "device",
  ("jax_me/models/classifier.py", "_jitted_classifier.<locals>.classifier"): "device",
  ("jax_me/experiment/run.py", "_write_report"): "report",
}
WHERE = ("host", *dict.fromkeys(CONTEXTS.values()))
# Imported by every Python process at its start. Each call is written at once, as processes may be
# killed.
RECORDER = """
import os, sys, threading

ROOTS = ({roots})
CONTEXTS = {contexts!r}
OPTIMIZED = 1  # The flag of functions; bodies of modules and classes lack it.
log = os.open(os.path.join({folder!r}, str(os.getpid())), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
inside = threading.local()

def record(frame, event, argument):
  code = frame.f_code
  if event not in ("call", "return") or not code.co_filename.startswith(ROOTS):
    return
  step = 1 if event == "call" else -1
  if not code.co_flags & OPTIMIZED:
    inside.imports = getattr(inside, "imports", 0) + step
  elif not getattr(inside, "imports", 0):
    entry = (os.path.relpath(code.co_filename, {root!r}), code.co_qualname)
    contexts = inside.__dict__.setdefault("contexts", ["host"])
    if entry in CONTEXTS:
      contexts.append(CONTEXTS[entry]) if event == "call" else contexts.pop()
    if event == "call":
      where = contexts[-1]
      os.write(log, "\\t".join((*entry, where)).encode() + b"\\n")

threading.setprofile(record)
sys.setprofile(record)
"""


def draw_folder(folder: pathlib.Path, subjects: int) -> pathlib.Path:
  """Writes a neutral and an expressive face of each subject, and labels.csv."""
  folder.mkdir()
  lines = ["file,subject,label"]
  for subject in range(subjects):
    clip = clip_rendering.demo_clip(0, subject, 0)
    for label, number in (("neutral", clip.onset), ("expression", clip.apex)):
      name = f"{subject}_{label}.png"
      image = cv2.cvtColor(clip.frame(number), cv2.COLOR_RGB2BGR)
      cv2.imwrite(str(folder / name), image)
      lines.append(f"{name},s{subject},{label}")
  (folder / "labels.csv").write_text("\n".join(lines) + "\n")
  return folder


def count_calls(images: pathlib.Path, folder: pathlib.Path, batch_size: int) -> collections.Counter:
  """Runs the recipe: {(file, qualified name, where it runs): number of calls}."""
  calls, hook = folder / "calls", folder / "hook"
  calls.mkdir(parents=True)
  hook.mkdir()
  roots = ", ".join(repr(f"{REPOSITORY / package}{os.sep}") for package in ("jax_me", "convert"))
  (hook / "sitecustomize.py").write_text(
    RECORDER.format(roots=f"{roots},", contexts=CONTEXTS, folder=str(calls), root=str(REPOSITORY))
  )
  command = [sys.executable, str(REPOSITORY / "run.py"), "--config=configs/finetune_images.py"]
  command += [f"--config.data.manual_dir={images}", f"--config.data.data_dir={folder / 'data'}"]
  command += [f"--workdir={folder / 'run'}", f"--config.batch_size={batch_size}", *SETTINGS]
  paths = os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")]))
  subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": paths}, check=True)
  if not list((folder / "run").rglob("predictions.csv")):
    raise RuntimeError("the run wrote no predictions.csv")
  lines = [line for file in calls.iterdir() for line in file.read_text().splitlines()]
  return collections.Counter(tuple(line.split("\t")) for line in lines)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--output", type=pathlib.Path, help="JSON file for the lists")
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    few, many = (
      count_calls(
        draw_folder(folder / f"{factor * SUBJECTS} subjects", factor * SUBJECTS),
        folder / f"{factor}",
        factor * BATCH_SIZE,
      )
      for factor in (1, 2)
    )
  missing = [entry for entry, where in CONTEXTS.items() if (*entry, where) not in many]
  if missing:
    raise RuntimeError(f"never called: {missing}")
  more: dict[str, dict[str, int]] = {}  # File -> function -> calls for the additional images.
  for (file, name, where), count in sorted(many.items()):
    if where == "host":
      more.setdefault(file, {})[name] = count - few[file, name, where]
  most = {file: max(calls.values()) for file, calls in more.items()}
  images = 2 * SUBJECTS
  files = {where: {file for file, _, found in many if found == where} for where in WHERE}
  candidates = {
    "image": {file for file, calls in most.items() if calls >= images},
    "device": files["device"],
    "batch": {file for file, calls in most.items() if calls > 0},
    "set-up": files["host"],
    "report": files["report"],
  }
  groups: dict[str, list[str]] = {}
  for group, found in candidates.items():
    groups[group] = sorted(found.difference(*groups.values()))
    print(f"\n{group}: {len(groups[group])} files")
    for file in groups[group]:
      calls = [f"{name} +{n}" for name, n in more.get(file, {}).items() if n > 0]
      print(f"  {file}", f"({', '.join(calls)})" if calls else "")
  print()
  print(", ".join(f"{len(found)} {group}" for group, found in groups.items()))
  if args.output:
    args.output.write_text(json.dumps(groups, indent=2) + "\n")


if __name__ == "__main__":
  main()
