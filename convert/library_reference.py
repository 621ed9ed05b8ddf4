"""Reference check of a converted hub model, computed by timm or transformers where installed."""

import importlib.metadata
import importlib.util
import json
import pathlib
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np

from .conversion import Conversion
from .errors import ConversionError
from .hub_folder import CONFIG_FILE, read_json

if TYPE_CHECKING:
  from jax_me.models.reference_check import Reference
  from jax_me.models.saved_model import SavedModel

  from .hub_model import HubModel


def reference_of(conversion: Conversion, saved: "SavedModel") -> "Reference":
  """The reference check of a converted model.

  A classifier that is converted unchanged from a hub folder is compared with the library, which
  then computes the reference.

  Args:
    conversion: the model; its report notes who computed the reference.
    saved: the same with the metadata of its folder.

  Returns:
    the reference, of jax_me or of the library.

  Raises:
    ConversionError: the library prepares the image otherwise, or its logits differ.
  """
  from jax_me.models.reference_check import make_reference

  reference = make_reference(saved)
  hub = conversion.checkpoint.hub if conversion.checkpoint else None
  if hub is None or not _is_unchanged(conversion, hub, saved):
    return reference
  if not all(importlib.util.find_spec(name) for name in ("torch", hub.library)):
    return reference
  library = f"{hub.library} {importlib.metadata.version(hub.library)}"
  assert conversion.checkpoint is not None
  try:
    inputs, logits = _COMPUTE[hub.library](hub, conversion.checkpoint.arrays, reference)
  except Exception as error:  # of another version of the library, which then says nothing
    conversion.report.notes.append(
      f"{library} could not compute the reference check: {type(error).__name__}: {error}"[:300]
    )
    return reference
  return _compared(conversion, saved, reference, library, inputs, logits)


def _is_unchanged(conversion: Conversion, hub: "HubModel", saved: "SavedModel") -> bool:
  """Whether the library's model is the same classifier, with the same preprocessing."""
  preprocessing = conversion.preprocessing
  given = (preprocessing.mean, preprocessing.std) if preprocessing else (saved.mean, saved.std)
  return (
    saved.labels is not None
    and not conversion.report.fresh
    and hub.folder is not None
    and hub.arguments.get("num_classes") == len(saved.labels)
    and hub.arguments.get("image_size") == saved.image_size
    and (list(saved.mean), list(saved.std)) == (list(given[0]), list(given[1]))
  )


def _compared(
  conversion: Conversion,
  saved: "SavedModel",
  reference: "Reference",
  library: str,
  inputs: np.ndarray,
  logits: np.ndarray,
) -> "Reference":
  """The library's reference, if it agrees with jax_me's; else raises ConversionError."""
  from jax_me.models.model_folder import SavedModelError
  from jax_me.models.reference_check import Reference, verify_output

  theirs = Reference(reference.image, inputs, logits, reference.noise, library)
  try:
    result = verify_output(saved, theirs)
  except SavedModelError as error:
    raise ConversionError(
      f"the converted model does not answer as {library} does: {error}",
      remedy="report this with the config.json of the folder",
    ) from error
  conversion.report.notes.append(
    f"{library} gives the same logits for a synthetic image (difference "
    f"{result.output_difference:.1g} of the largest, its input {result.input_difference:.1g} grey "
    "levels)"
  )
  return theirs


def _timm(
  hub: "HubModel", arrays: dict[str, np.ndarray], reference: "Reference"
) -> tuple[np.ndarray, np.ndarray]:
  import PIL.Image
  import timm
  import timm.data

  assert hub.folder is not None
  config = read_json(hub.folder / CONFIG_FILE)
  options = dict(config.get("model_args") or {}, num_classes=hub.arguments["num_classes"])
  if config.get("global_pool") and "vit" in hub.architecture:
    options.setdefault("global_pool", config["global_pool"])
  if "vit" in hub.architecture:
    options.setdefault("img_size", hub.arguments["image_size"])
  model = timm.create_model(hub.architecture, pretrained=False, **options)
  _load(model, arrays)
  pretrained = config.get("pretrained_cfg") or config
  settings = timm.data.resolve_data_config(pretrained_cfg=pretrained)
  transform = timm.data.create_transform(**settings, is_training=False)
  return _run(model, transform(PIL.Image.fromarray(reference.image)))


def _transformers(
  hub: "HubModel", arrays: dict[str, np.ndarray], reference: "Reference"
) -> tuple[np.ndarray, np.ndarray]:
  import torch
  import transformers
  from safetensors.numpy import save_file

  assert hub.folder is not None
  with tempfile.TemporaryDirectory() as scratch:
    # The weights as they were read: nothing in the folder is loaded as a pickle.
    folder = pathlib.Path(scratch)
    shutil.copy(hub.folder / CONFIG_FILE, folder)
    contiguous = {key: np.ascontiguousarray(value) for key, value in arrays.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})
    model = getattr(transformers, hub.architecture).from_pretrained(folder)
  processor_file = hub.folder / "preprocessor_config.json"
  if hub.preprocessing is None or not processor_file.is_file():
    return _run(model, torch.from_numpy(reference.input.transpose(2, 0, 1).copy()))
  settings = json.loads(processor_file.read_text(encoding="utf-8"))
  name = settings.get("image_processor_type") or settings["feature_extractor_type"]
  name = name.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
  # With Pillow's resize, as the models were trained; torchvision's rounds otherwise.
  kind = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
  values = kind.from_dict(settings)(reference.image, return_tensors="pt")["pixel_values"][0]
  return _run(model, values)


_COMPUTE = {"timm": _timm, "transformers": _transformers}


def _load(model: Any, arrays: dict[str, np.ndarray]) -> None:
  import torch

  model.load_state_dict({key: torch.from_numpy(np.array(v)) for key, v in arrays.items()})


def _run(model: Any, image: Any) -> tuple[np.ndarray, np.ndarray]:
  """Input [S, S, 3] and logits [C] of a library's model for a normalised tensor [3, S, S]."""
  import torch

  with torch.no_grad():
    output = model.float().eval()(image[None].float())
  logits = output if isinstance(output, torch.Tensor) else output.logits
  inputs = np.ascontiguousarray(image.permute(1, 2, 0).numpy(), np.float32)
  return inputs, logits[0].numpy().astype(np.float32)
