"""Command line of `python -m jax_me doctor`: checks of an installation and of a model folder."""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import platform
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jax_me
from jax_me.models import model_folder
from jax_me.models.ensemble import find_model, model_folders
from jax_me.models.registry import create_abstract_model
from jax_me.terminal import BAD, DOUBTFUL, GOOD, styled

REQUIRED = (
  *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "safetensors", "numpy"),
  *("dlib-bin", "opencv-python", "pillow"),
)
OPTIONAL = {
  "train": ("grain", "array_record", "tensorflow-datasets", "ml_collections"),
  "convert": ("torch",),
  "hub": ("huggingface_hub",),
}
LOW_DISK_BYTES = 5 * 2**30
OK, WARNING, ERROR = "ok", "warning", "error"
STYLES = {OK: GOOD, WARNING: DOUBTFUL, ERROR: BAD}
SMOKE_MODEL = dict(image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=3)


@dataclasses.dataclass(frozen=True)
class CheckResult:
  """Result of one check.

  Attributes:
    name: what was checked.
    status: "ok", "warning" or "error".
    detail: what was found, with a remedy unless it is ok.
  """

  name: str
  status: str
  detail: str


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = (
    "Checks this installation: versions, devices, face detection and its model files, disk space, "
    "and one training step of a small model. With --checkpoint also a model folder: checksums, "
    "reference check, and the model's output on this device."
  )
  parser.add_argument(
    "--checkpoint", type=pathlib.Path, metavar="DIR", help="model folder or finished run to check"
  )
  parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def main(args: argparse.Namespace) -> int:
  """Prints the result of each check; exit code 0, or 1 if one of them failed."""
  checks: dict[str, Callable[[], CheckResult]] = {
    "packages": check_packages,
    "devices": check_devices,
    "faces": check_faces,
    "disk": check_disk,
    "training step": check_training_step,
  }
  if args.checkpoint is not None:
    checks["model"] = lambda: check_model(args.checkpoint)
  results = []
  for name, check in checks.items():
    try:
      result = check()
    except Exception as error:  # The next check may still tell something.
      result = CheckResult(name, ERROR, f"{type(error).__name__}: {error}")
    results.append(result)
    if not args.json:
      status = styled(f"{result.status:8}", STYLES[result.status], sys.stdout)
      print(f"{status} {result.name}: {result.detail}", flush=True)
  if args.json:
    print(json.dumps({"checks": [dataclasses.asdict(result) for result in results]}, indent=2))
  return 1 if any(result.status == ERROR for result in results) else 0


def next_step(args: argparse.Namespace) -> str:
  """The command after the checks."""
  model = f" --checkpoint {shlex.quote(str(args.checkpoint))}" if args.checkpoint else ""
  return f"predict PHOTO{model} --output predictions"


def check_packages() -> CheckResult:
  """Versions of Python, of jax_me and of the packages that it needs."""
  found = {name: _version(name) for name in REQUIRED}
  listed = [f"Python {platform.python_version()}", f"jax_me {jax_me.__version__}"]
  listed += [f"{name} {version}" for name, version in found.items() if version]
  for extra, names in OPTIONAL.items():
    versions = {name: _version(name) for name in names}
    if all(versions.values()):
      listed += [f"{name} {version}" for name, version in versions.items()]
    else:
      listed.append(f"without the extra {extra!r}")
  missing = [name for name, version in found.items() if not version]
  # Another distribution of the same module, such as opencv-python-headless, has another name.
  status = WARNING if missing else OK
  note = f"; not found: {', '.join(missing)}" if missing else ""
  return CheckResult("packages", status, ", ".join(listed) + note)


def check_devices() -> CheckResult:
  """Every device multiplies two matrices."""
  a = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
  wrong = []
  for device in jax.local_devices():
    with jax.default_matmul_precision("highest"):
      product = jnp.matmul(*(jax.device_put(a, device) for _ in range(2)))
    if not np.allclose(product, a @ a, rtol=1e-4, atol=1e-3):
      wrong.append(str(device))
  kinds = sorted({f"{d.device_kind} ({d.platform})" for d in jax.local_devices()})
  detail = f"{len(jax.local_devices())} x {', '.join(kinds)}"
  if wrong:
    return CheckResult("devices", ERROR, f"{detail}; wrong products on {', '.join(wrong)}")
  return CheckResult("devices", OK, detail)


def check_faces() -> CheckResult:
  """The face detector runs, and the files of its models are there."""
  import dlib

  from jax_me.faces import detector

  path = detector.landmark_model_path()
  detector.find_faces(np.full((120, 120, 3), 127, np.uint8))
  dlib.shape_predictor(str(path))
  size = path.stat().st_size / 2**20
  return CheckResult("faces", OK, f"dlib {dlib.__version__}, {path.name} ({size:.0f} MiB)")


def check_disk() -> CheckResult:
  """Free space in the working directory and in the folder for temporary files."""
  folders = {str(pathlib.Path.cwd()), tempfile.gettempdir()}
  free = {folder: shutil.disk_usage(folder).free for folder in sorted(folders)}
  detail = ", ".join(f"{size / 2**30:.1f} GiB free in {folder}" for folder, size in free.items())
  if min(free.values()) < LOW_DISK_BYTES:
    return CheckResult("disk", WARNING, f"{detail}: little for datasets and checkpoints")
  return CheckResult("disk", OK, detail)


def check_training_step() -> CheckResult:
  """Three training steps of a small model on one batch lower its loss."""
  started = time.monotonic()
  model = create_abstract_model("vit_tiny_patch16", **SMOKE_MODEL)
  graphdef, params, model_state = model_folder.split_model(model)
  # Drawn with NumPy: the initialisers of the model would compile one by one.
  generator = np.random.default_rng(0)
  params, model_state = jax.tree.map(
    lambda array: 0.1 * generator.standard_normal(array.shape).astype(np.float32),
    (params, model_state),
  )
  images = generator.standard_normal((6, 32, 32, 3)).astype(np.float32)
  labels = np.arange(6) % 3

  def loss_of(params):
    module: Callable = model_folder.merge_model(graphdef, params, model_state)  # type: ignore[assignment]
    return optax.softmax_cross_entropy_with_integer_labels(module(images), labels).mean()

  @jax.jit
  def step(params):
    loss, gradients = jax.value_and_grad(loss_of)(params)
    return jax.tree.map(lambda value, slope: value - 0.01 * slope, params, gradients), loss

  losses = []
  for _ in range(3):
    params, loss = step(params)
    losses.append(float(loss))
  detail = f"losses {', '.join(f'{loss:.4f}' for loss in losses)}"
  if not np.isfinite(losses).all() or losses[-1] >= losses[0]:
    return CheckResult("training step", ERROR, f"{detail}: the loss does not fall")
  return CheckResult("training step", OK, f"{detail}; {time.monotonic() - started:.1f} s")


def check_model(folder: pathlib.Path) -> CheckResult:
  """Checksums and reference check of a model folder or a run, and the output on this device."""
  try:
    folders = model_folders(find_model(folder))
    models = [model_folder.load_model(each) for each in folders]
    results = [
      model_folder.check_reference(each, saved) for each, saved in zip(folders, models, strict=True)
    ]
  except model_folder.SavedModelError as error:
    return CheckResult("model", ERROR, str(error))
  result = max(results, key=lambda each: each.output_difference)
  several = f", {len(folders)} folds" if len(folders) > 1 else ""
  return CheckResult(
    "model",
    OK,
    f"{models[0].name} in {folder}{several}: the output on {result.device} differs by "
    f"{result.output_difference:.1g} of its largest value (tolerance {result.tolerance:g}) from "
    f"that of {result.made_by}, the model input by {result.input_difference:.1g} grey levels",
  )


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None
