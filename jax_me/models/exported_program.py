"""Export of a classifier as a StableHLO or ONNX program: images in, class probabilities out.

Normalisation, model and softmax are in the program, and the weights with them; alignment, resize
and crop are not. The folder describes them, and keeps an example with its output.
"""

import dataclasses
import importlib.util
import os
import pathlib
import shutil
import warnings
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

import jax_me
from jax_me.files import staging_folder
from jax_me.manifest import describe_files
from jax_me.models import program_loader
from jax_me.models.classifier import check_head, classify, split_outputs
from jax_me.models.layers import portable_operations
from jax_me.models.model_folder import write_json
from jax_me.models.model_metadata import SavedModelError
from jax_me.models.program_loader import DESCRIPTION_FILE, PROGRAM_FILE, REFERENCE_FILE
from jax_me.models.reference_check import reference_image
from jax_me.models.saved_model import SavedModel, merge_model

Form = Literal["stablehlo", "onnx"]
FILES: dict[Form, str] = {"stablehlo": PROGRAM_FILE, "onnx": "program.onnx"}
INPUTS: dict[Form, str] = {
  "stablehlo": "uint8 [B, S, S, 3], RGB",
  "onnx": "float32 [B, S, S, 3], RGB, values from 0 to 255",
}
PLATFORMS = ("cpu", "cuda", "tpu")
LOADER_FILE = "load_program.py"
# The package that is needed, and the extra with it.
_PACKAGES: dict[Form, tuple[str, str]] = {
  "stablehlo": ("flatbuffers", "export"),
  "onnx": ("jax2onnx", "onnx"),
}


def write_program(saved: SavedModel, folder: str | os.PathLike, form: Form) -> pathlib.Path:
  """Writes a program with its description and an example.

  Args:
    saved: a classifier.
    folder: created; it appears only when it is complete.
    form: "stablehlo" (for jax, on CPU, CUDA and TPU) or "onnx". Both take batches of any size.

  Returns:
    the file of the program.

  Raises:
    SavedModelError: no classifier, a package is missing, or the folder exists.
  """
  target = pathlib.Path(folder).absolute()
  if not saved.labels:
    raise SavedModelError(f"{saved.name} has no class labels: only classifiers can be exported")
  check_head(saved)
  package, extra = _PACKAGES[form]
  if importlib.util.find_spec(package) is None:
    raise SavedModelError(f'the package {package} is not installed; pip install "jax_me[{extra}]"')
  if target.exists():
    raise SavedModelError(f"{target} exists; choose another --output")
  with staging_folder(target) as staging:
    example = saved.prepare(reference_image(saved))
    probabilities = np.asarray(jax.jit(_program(saved))(example[None])[0])
    np.savez(staging / REFERENCE_FILE, input=example, probabilities=probabilities)
    if form == "stablehlo":
      (staging / PROGRAM_FILE).write_bytes(_stablehlo(saved))
      shutil.copyfile(program_loader.__file__, staging / LOADER_FILE)
    else:
      _write_onnx(saved, staging / FILES[form])
    files = describe_files(staging, FILES[form], REFERENCE_FILE)
    checksums = {"sha256": {name: entry["sha256"] for name, entry in files.items()}}
    write_json(staging / DESCRIPTION_FILE, _description(saved, form) | checksums)
    os.replace(staging, target)
  return target / FILES[form]


def _program(saved: SavedModel) -> Callable[[jax.Array], jax.Array]:
  """Images [B, S, S, 3] of 0 to 255 -> probabilities; the weights are constants.

  Valence and arousal are left out: the programs are classifiers.
  """
  graphdef, weights, normalisation = saved.split()

  def program(images):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    outputs = classify(model, images, normalisation, saved.affect)  # type: ignore[arg-type]
    return split_outputs(outputs, saved.affect)[0]

  return program


def _stablehlo(saved: SavedModel) -> bytes:
  size = saved.image_size
  (batch,) = export.symbolic_shape("batch")
  images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
  exported = export.export(jax.jit(_program(saved)), platforms=PLATFORMS)(images)
  return bytes(exported.serialize())


def _write_onnx(saved: SavedModel, path: pathlib.Path) -> None:
  import jax2onnx

  size = saved.image_size
  # jax2onnx relies on implicit promotion of ranks and dtypes.
  promotion = jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard")
  with portable_operations(), promotion[0], promotion[1], warnings.catch_warnings():
    warnings.simplefilter("ignore")  # It asks jax for float64, which is off.
    jax2onnx.to_onnx(
      _program(saved),
      inputs=[("B", size, size, 3)],
      return_mode="file",
      output_path=str(path),
      input_names=["images"],
      output_names=["probabilities"],
    )


def _description(saved: SavedModel, form: Form) -> dict[str, object]:
  return {
    "format": 1,
    "program": FILES[form],
    "input": INPUTS[form],
    "output": "float32 [B, C], probabilities of the labels",
    "labels": saved.labels,
    "image_size": saved.image_size,
    "preprocessing": {
      "input": saved.input or "photograph",
      "alignment": saved.alignment,
      "resize": dataclasses.asdict(saved.preparation),
      "normalisation": "part of the program",
    },
    "model": saved.name,
    "source": saved.source,
    "licence": saved.licence,
    "made_by": f"jax_me {jax_me.__version__}, jax {jax.__version__}",
  }
