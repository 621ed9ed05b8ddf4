"""Commands of small size, as processes of their own, for faults from outside."""

import hashlib
import os
import pathlib
import subprocess
import sys

import cv2
import skimage

from jax_me.faces.image_files import read_image
from tests.helpers.checkpoint_files import TINY_VIT, save_torch, state_dict, vit_arrays
from tests.helpers.drawn_folder import write_folder
from tests.helpers.inference_models import save
from tests.helpers.quick_compilation import QUICK_ENVIRONMENT
from tests.helpers.tiny_runs import TINY
from tests.helpers.video_files import write_video

SECONDS = 600
PORTRAIT = pathlib.Path(skimage.__file__).parent / "data" / "astronaut.png"
# Files of a result that are the same in every run: the names of Orbax's files are random, and
# reports name their folder.
COMPARED = {
  "train": ("predictions.csv", "model.json"),
  "score": ("scores.json", "subjects.csv", "predictions.csv"),
  "compare": ("comparison.json", "runs.csv", "pairs.csv"),
  "convert": ("model.json", "weights.safetensors"),
  "predict": ("predictions.csv", "events.csv", "summary.csv"),
  "study": ("videos.csv", "events.csv", "summary.csv"),
}


class Commands:
  """The command lines of one folder of inputs, which are made.

  Attributes:
    source: folder of labelled images, with tables of predictions.
    inputs: its parent, with videos, a model and a checkpoint.
  """

  def __init__(self, repository: pathlib.Path, inputs: pathlib.Path):
    self.inputs, self._repository = inputs, repository
    pairs = [(f"p{i}", label) for i in range(6) for label in "xy"]
    rows = [{"subject": subject, "label": label} for subject, label in pairs]
    self.source = write_folder(inputs / "source", rows, "file,subject,label")
    for name, prediction in (("table", ""), ("other", "x")):
      lines = [f"{s}{label},{s},{label},{prediction or label}" for s, label in pairs]
      text = "\n".join(["file,subject,truth,prediction", *lines])
      (self.source / f"{name}.csv").write_text(text + "\n")
    save(inputs / "model")
    save_torch(state_dict(vit_arrays()), inputs / "weights.pth")
    portrait = cv2.resize(read_image(PORTRAIT)[:300, 60:400], (226, 200))
    for name in "ab":
      write_video(inputs / "films" / f"{name}.avi", [portrait] * 5)

  def arguments(self, name: str, output: pathlib.Path) -> list[str]:
    """The command line of a command that writes to `output`."""
    module = [sys.executable, "-m", "jax_me"]
    match name:
      case "train":
        values = {**TINY, "data.manual_dir": self.source, "data.data_dir": output / "data"}
        values |= {"steps": 8, "checkpoint_steps": 2, "data.split": "holdout"}
        changes = [f"--config.{key}={value}" for key, value in values.items()]
        recipe = self._repository / "configs/finetune_images.py"
        return [*module, "train", f"--config={recipe}", f"--workdir={output / 'run'}", *changes]
      case "build":
        options = ["--manual-dir", self.source, "--data-dir", output, "--no-align", "--workers", 2]
        return [*module, "data", "build", "labeled_images", *map(str, options)]
      case "faces":
        folders = ["--input", str(self.source), "--output", str(output)]
        return [*module, "faces", *folders, "--on-no-face", "center", "--workers", "2"]
      case "score":
        return [*module, "score", str(self.source / "table.csv"), "--output", str(output)]
      case "compare":
        tables = [str(self.source / f"{name}.csv") for name in ("table", "other")]
        return [*module, "compare", *tables, "--output", str(output)]
      case "convert":
        options = {"checkpoint": self.inputs / "weights.pth", "model": "vit_tiny_patch16"}
        options |= {**TINY_VIT, "format": "safetensors", "output": output}
        flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        return [*module, "convert", *flags]
      case "predict" | "study":
        films = self.inputs / "films"
        given = films / "a.avi" if name == "predict" else films
        model = ["--checkpoint", str(self.inputs / "model")]
        return [*module, name, str(given), *model, "--output", str(output)]
    raise ValueError(name)

  def start(self, name: str, output: pathlib.Path) -> subprocess.Popen:
    """Starts a command in a session of its own."""
    return subprocess.Popen(
      self.arguments(name, output),
      cwd=self._repository,
      env={
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        **QUICK_ENVIRONMENT,
        # One folder for all commands: to compile the same programs again takes most of their time.
        "JAX_COMPILATION_CACHE_DIR": str(self.inputs / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONPATH": str(self._repository),
      },
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      start_new_session=True,
    )

  def finish(self, name: str, output: pathlib.Path) -> tuple[int, str]:
    """Runs a command to its end: exit code and messages."""
    process = self.start(name, output)
    _, messages = process.communicate(timeout=SECONDS)
    return process.returncode, messages


def contents(name: str, output: pathlib.Path) -> dict[str, str]:
  """Checksums of what a finished command leaves, if need be of the files in COMPARED only."""
  root, kept = output / "run" if name == "train" else output, COMPARED.get(name)
  found = {}
  for path in sorted(root.rglob("*")):
    parts = path.relative_to(root).parts
    if not path.is_file() or any(part.endswith(".lock") for part in parts):
      continue
    if kept is None or set(parts) & set(kept):
      found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found
