"""Commands of small size, as processes of their own, for faults from outside."""

import hashlib
import os
import pathlib
import subprocess
import sys

from tests.helpers.quick_compilation import QUICK_ENVIRONMENT
from tests.helpers.tiny_runs import TINY

SECONDS = 600


class Commands:
  """The command lines of one folder of images.

  Attributes:
    source: folder of the images.
  """

  def __init__(self, repository: pathlib.Path, source: pathlib.Path):
    self.source, self._repository = source, repository

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
        "JAX_COMPILATION_CACHE_DIR": str(self.source.parent / "compiled"),
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
  """Checksums of what a finished command leaves; of a run, of its predictions and model.json.

  The names of the files of Orbax are random, and the scores tell the weights apart.
  """
  root = output / "run" if name == "train" else output
  kept = ("predictions.csv", "model.json") if name == "train" else None
  if name == "score":
    kept = ("scores.json", "subjects.csv", "predictions.csv")
  found = {}
  for path in sorted(root.rglob("*")):
    parts = path.relative_to(root).parts
    if not path.is_file() or any(part.endswith(".lock") for part in parts):
      continue
    if kept is None or set(parts) & set(kept):
      found["/".join(parts)] = hashlib.sha256(path.read_bytes()).hexdigest()
  return found
