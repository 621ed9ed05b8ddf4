"""Reference check of a model folder: a synthetic image, its model input and the model's output.

Each folder keeps them with a description of what they were computed with. Loading compares the
description with the folder; `verify_output` computes the output again.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from flax import nnx

import jax_me
from jax_me.models.model_metadata import SavedModelError
from jax_me.models.saved_model import SavedModel, merge_model
from jax_me.models.weight_files import write_safetensors

REFERENCE_FILE = "reference.safetensors"
# Largest difference of the outputs, as a share of their largest value, by device and compute dtype.
# Matrix products are computed at the highest precision; devices differ in the order of their sums.
TOLERANCES = {
  "cpu": {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2},
  "gpu": {"float64": 1e-4, "float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1},
  "tpu": {"float64": 1e-4, "float32": 1e-3, "float16": 1e-1, "bfloat16": 1e-1},
}
# Of the model input, in grey levels: libraries round differently.
INPUT_TOLERANCE = 1.01
_MAX_SIDES = (480, 640)  # Of the image, so that the file stays small.
_DESCRIPTION = "description"
_QUICK_COMPILATION = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}


@dataclasses.dataclass(frozen=True)
class Reference:
  """A synthetic image and what becomes of it.

  Attributes:
    image: uint8 [H, W, 3].
    input: float32 [S, S, 3], prepared and normalised.
    output: float32 [C] logits; of a masked autoencoder the loss and the mean of each predicted
      patch.
    noise: float32 [N], selects the patches that a masked autoencoder sees; empty for classifiers.
    made_by: the library that computed input and output, with its version.
  """

  image: np.ndarray
  input: np.ndarray
  output: np.ndarray
  noise: np.ndarray
  made_by: str


def synthetic_image(height: int, width: int) -> np.ndarray:
  """uint8 [height, width, 3]: waves that differ in each channel, without symmetry, and noise."""
  y, x = np.mgrid[0:height, 0:width] / max(height, width)
  waves = [np.sin(9 * x + 4 * y), np.cos(13 * y - 3 * x), np.sin(17 * x * y + 1)]
  noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
  return np.clip(np.array([110, 127, 140]) + 90 * np.stack(waves, -1) + noise, 0, 255).astype(
    np.uint8
  )


def reference_image(saved: SavedModel) -> np.ndarray:
  """The synthetic image for a model: about as large as its own preparation makes images."""
  edge = saved.preparation.resize_to
  return synthetic_image(min(5 * edge // 4, _MAX_SIDES[0]), min(3 * edge // 2, _MAX_SIDES[1]))


def model_input(saved: SavedModel, image: np.ndarray) -> np.ndarray:
  """Prepares and normalises a whole image: uint8 [H, W, 3] -> float32 [S, S, 3]."""
  mean, std = np.asarray(saved.mean, np.float32), np.asarray(saved.std, np.float32)
  return (saved.prepare(image).astype(np.float32) / np.float32(255) - mean) / std


def make_reference(saved: SavedModel) -> Reference:
  """Computes the reference of a model."""
  image = reference_image(saved)
  inputs = model_input(saved, image)
  noise = np.zeros(0, np.float32)
  if hasattr(saved.model, "reconstruction_loss"):
    patch = getattr(saved.model, "patch_size", 32)
    noise = np.random.default_rng(1).random((saved.image_size // patch) ** 2).astype(np.float32)
  made_by = f"jax_me {jax_me.__version__}, jax {jax.__version__} ({jax.default_backend()})"
  return Reference(image, inputs, model_output(saved, inputs, noise), noise, made_by)


def model_output(saved: SavedModel, inputs: np.ndarray, noise: np.ndarray) -> np.ndarray:
  """The output of a model, as in `Reference`.

  Args:
    saved: the model.
    inputs: float32 [S, S, 3].
    noise: see `Reference`.

  Returns:
    float32 [C] or [1 + N].
  """
  graphdef, weights, _ = saved.split()
  with jax.default_matmul_precision("highest"):
    return np.asarray(_forward(graphdef)(weights, inputs[None], noise[None]))


@functools.cache
def _forward(graphdef: nnx.GraphDef[nnx.Module]) -> Callable[..., jax.Array]:
  """The jitted output of models of one structure."""

  # It runs once, so that compilation takes most of the time.
  cpu = jax.default_backend() == "cpu"

  @functools.partial(jax.jit, compiler_options=_QUICK_COMPILATION if cpu else None)
  def forward(weights, images, noise):
    model: Any = merge_model(graphdef, weights["params"], weights["model_state"])
    if noise.size == 0:
      return model(images)[0].astype(jnp.float32)
    result = model(images, 0.5 if noise.size > 1 else 0.0, noise=noise)
    parts = [result.loss[None], result.pred[0].mean(-1)]
    return jnp.concatenate(parts).astype(jnp.float32)

  return forward


def write_reference(
  path: str | os.PathLike, reference: Reference, document: Mapping[str, Any], weights_sha256: str
) -> None:
  """Writes the reference with what it was computed with.

  Args:
    path: the file.
    reference: its content.
    document: content of `model.json`.
    weights_sha256: digest of the files with the weights.
  """
  description = describe(document, weights_sha256) | {"made_by": reference.made_by}
  arrays = {
    field.name: getattr(reference, field.name)
    for field in dataclasses.fields(reference)
    if field.name != "made_by"
  }
  write_safetensors(path, arrays, {_DESCRIPTION: json.dumps(description)})


def describe(document: Mapping[str, Any], weights_sha256: str) -> dict[str, Any]:
  """Everything that decides a model's output, by name: {setting: JSON value}.

  Args:
    document: content of `model.json`.
    weights_sha256: digest of the files with the weights.

  Returns:
    the settings, nested ones without the name of their block.
  """
  arguments = {f"argument {key}": value for key, value in document["arguments"].items()}
  settings = {
    "name": document["name"],
    **arguments,
    "labels": document["labels"],
    **document["preprocessing"],
    "weights": weights_sha256,
  }
  return json.loads(json.dumps(settings))


def read_description(path: str | os.PathLike) -> dict[str, Any]:
  """What a reference was computed with; its arrays are not read.

  Raises:
    SavedModelError: the file is missing or damaged.
  """
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      description = json.loads(file.metadata()[_DESCRIPTION])
  except FileNotFoundError:
    raise SavedModelError(f"{path} is missing") from None
  except Exception as error:  # safetensors raises several types for a damaged file.
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  if not isinstance(description, dict):
    raise SavedModelError(f"{path} has no description of the model")
  return description


def compare_description(
  path: str | os.PathLike, document: Mapping[str, Any], weights_sha256: str
) -> None:
  """Compares a folder with the description of its reference.

  Args:
    path: file of the reference.
    document: content of `model.json`.
    weights_sha256: digest of the files with the weights.

  Raises:
    SavedModelError: a setting or the weights differ; the message names them.
  """
  stored, now = read_description(path), describe(document, weights_sha256)
  stored.pop("made_by", None)
  differ = [name for name in {**stored, **now} if stored.get(name) != now.get(name)]
  if not differ:
    return
  raise SavedModelError(
    f"{os.path.dirname(path)}: not what its reference check was computed with: "
    + "; ".join(_difference(name, stored.get(name), now.get(name)) for name in differ)
    + ". The folder was edited: convert the model again with the settings that you want"
  )


def _difference(name: str, stored: Any, now: Any) -> str:
  if name == "weights":
    return "the files of the weights are others"
  if name == "labels" and stored and now and sorted(stored) == sorted(now):
    name = "the order of the labels"
  elif name in ("mean", "std") and stored and stored == now[::-1]:
    name += " (the order of the channels)"
  return f"{name} is {json.dumps(now)[:200]} instead of {json.dumps(stored)[:200]}"


def read_reference(path: str | os.PathLike) -> Reference:
  """Reads a reference.

  Raises:
    SavedModelError: the file is missing or damaged.
  """
  description = read_description(path)
  names = [field.name for field in dataclasses.fields(Reference) if field.name != "made_by"]
  try:
    with safetensors.safe_open(path, framework="numpy") as file:
      arrays = {name: file.get_tensor(name) for name in names}
  except Exception as error:  # safetensors raises several types for a damaged file.
    raise SavedModelError(f"{path} cannot be read: {error}") from error
  shapes = [arrays[name].shape for name in ("image", "input", "output", "noise")]
  kinds = [str(arrays[name].dtype) for name in ("image", "input", "output", "noise")]
  if [len(shape) for shape in shapes] != [3, 3, 1, 1] or kinds != ["uint8"] + ["float32"] * 3:
    raise SavedModelError(f"{path} has arrays of another shape or type")
  return Reference(**arrays, made_by=str(description.get("made_by")))


@dataclasses.dataclass(frozen=True)
class ReferenceResult:
  """Result of a reference check.

  Attributes:
    input_difference: largest difference of the model inputs in grey levels.
    output_difference: largest difference of the outputs, as a share of their largest value.
    tolerance: of the latter.
    device: platform that computed the output.
    made_by: library that computed the reference.
  """

  input_difference: float
  output_difference: float
  tolerance: float
  device: str
  made_by: str


def verify_output(saved: SavedModel, reference: Reference) -> ReferenceResult:
  """Prepares the synthetic image again and computes the model's output on this device.

  Args:
    saved: the model.
    reference: of its folder.

  Returns:
    the differences, all within their tolerance.

  Raises:
    SavedModelError: the input or the output differs by more.
  """
  inputs = model_input(saved, reference.image)
  if inputs.shape != reference.input.shape:
    raise SavedModelError(
      f"the reference check: the model input is {list(inputs.shape)}, not "
      f"{list(reference.input.shape)}"
    )
  levels = np.abs(inputs - reference.input) * np.asarray(saved.std, np.float32) * 255
  output = model_output(saved, reference.input, reference.noise)
  if output.shape != reference.output.shape:
    raise SavedModelError(
      f"the reference check: the output is {list(output.shape)}, not {list(reference.output.shape)}"
    )
  result = ReferenceResult(
    input_difference=float(levels.max()),
    output_difference=relative_difference(output, reference.output),
    tolerance=tolerance_of(saved),
    device=jax.default_backend(),
    made_by=reference.made_by,
  )
  problems = []
  if not result.input_difference <= INPUT_TOLERANCE:
    problems.append(
      f"the prepared image differs by {result.input_difference:.3g} grey levels: size, resize, "
      "crop, mean or std are not those of the reference"
    )
  if not result.output_difference <= result.tolerance:
    problems.append(
      f"the output differs by {result.output_difference:.3g} of its largest value, tolerance "
      f"{result.tolerance:g}"
    )
  if problems:
    raise SavedModelError(
      f"the reference check of {saved.name} ({reference.made_by}) fails on {result.device}: "
      + "; ".join(problems)
    )
  return result


def relative_difference(output: np.ndarray, desired: np.ndarray) -> float:
  """Largest absolute difference over the largest absolute value, but at least over 1e-3."""
  scale = max(float(np.abs(desired).max()), 1e-3)
  return float(np.abs(output - desired).max()) / scale


def tolerance_of(saved: SavedModel) -> float:
  """Tolerance of the output by device and by the narrower of compute and parameter dtype."""
  given = {str(jnp.dtype(saved.arguments.get(key, "float32"))) for key in ("dtype", "param_dtype")}
  by_dtype = TOLERANCES.get(jax.default_backend(), TOLERANCES["gpu"])
  return max(by_dtype[name] for name in given)
