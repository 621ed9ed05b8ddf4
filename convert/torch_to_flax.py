"""Conversion of a torch checkpoint into a jax_me model.

  python -m convert.torch_to_flax --checkpoint 81.5_T2T_ViT_14.pth.tar --output checkpoints/t2t14
  python -m convert.torch_to_flax --checkpoint vit-base-patch16-224/ --output checkpoints/vit
  python -m convert.torch_to_flax --checkpoint hf://OWNER/NAME --output checkpoints/vit

The output folder has the model (for `jax_me.load`) and `conversion.json`, the load report.
"""

import argparse
import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jax_me.terminal import print_error

from . import command_options
from .conversion import REPORT_FILE, Conversion, check_output, save_conversion
from .errors import ConversionError
from .hub_model import Preprocessing
from .torch_files import TorchCheckpoint, check_arrays, read_checkpoint, read_torch_checkpoint
from .weight_names import go_offline

if TYPE_CHECKING:
  from flax import nnx

  from .detection import Detection
  from .hub_keys import Layout
  from .hub_model import HubModel

__all__ = [
  "ConversionError",
  "Conversion",
  "configure",
  "convert",
  "convert_arrays",
  "convert_checkpoint",
  "main",
  "read_checkpoint",
  "read_torch_checkpoint",
  "run",
  "save_conversion",
]


def convert(
  arrays: Mapping[str, np.ndarray], name: str | None = None, **overrides: Any
) -> "nnx.Module":
  """Builds a jax_me model with the arrays of a torch checkpoint.

  Every key on both sides is accounted for: loaded, dropped or freshly initialised, the latter two
  with a reason; anything else is an error. `convert_arrays` also returns the report.

  Args:
    arrays: {torch key: array in torch's layout}, see `read_torch_checkpoint`.
    name: key of `jax_me.models.MODELS`; None uses the one model that the arrays match.
    **overrides: constructor keywords, as for `create_model`. num_classes, image_size, global_pool,
      qkv_bias, representation_size and token_labeling are inferred from the file unless given.
      Another `num_classes` than the file's gives a fresh head, another `image_size` resizes the
      position table.

  Raises:
    ConversionError: arrays that are not finite floats, an unknown family or model, or keys and
      shapes that do not match; all problems are listed.
  """
  return convert_arrays(arrays, name, **overrides).model


def convert_arrays(
  arrays: Mapping[str, np.ndarray], name: str | None = None, **overrides: Any
) -> Conversion:
  """Like `convert`, but returns the model with its load report."""
  return _convert(arrays, name, overrides)


def _convert(
  arrays: Mapping[str, np.ndarray],
  name: str | None,
  overrides: dict[str, Any],
  *,
  hints: tuple[Any, ...] = (),
  hub: "HubModel | None" = None,
) -> Conversion:
  """`convert_arrays` with what is known beside the arrays.

  Args:
    arrays, name, overrides: see `convert`.
    hints: names of the model that decide when several match.
    hub: settings of the folder's config.json.
  """
  from jax_me.models.registry import default_arguments

  from .detection import changed_arguments, detect, family_of
  from .families import FAMILIES, mapping_to, rules_for
  from .hub_keys import OriginalArrays
  from .load_report import LoadReport, weights_sha256
  from .matching import match_arrays
  from .module_arrays import abstract_model, fill_model, initial_arrays, model_arrays

  invalid = [str(key) for key, value in arrays.items() if not isinstance(value, np.ndarray)]
  if invalid:
    raise ConversionError("these are not numpy arrays", problems=invalid)
  source = OriginalArrays(arrays)
  try:
    detected = detect(source.arrays)
  except ConversionError as error:
    if source.layout is not None:
      error.reason += f"; the keys are those of {source.layout.name}"
    raise
  name = _model_name(name, detected, hints, hub)
  family_name = family_of(name)
  mapping = mapping_to(detected, family_name)
  if mapping is None:
    raise ConversionError(
      f"the file cannot be converted to {name}: it seems to be {detected}", remedy=_remedy(detected)
    )
  family = FAMILIES[family_name]
  inferred = {k: v for k, v in detected.arguments.items() if k in family.inferred}
  if hub is not None:
    known = default_arguments(name)
    settings = {k: v for k, v in hub.settings_for(detected).items() if k in known}
    inferred |= {k: v for k, v in settings.items() if k in inferred}
    inferred |= changed_arguments(name, settings)
  elif source.layout is not None and source.layout.needs_config:
    _check_epsilon(source.layout.name, default_arguments(name), overrides)
  arguments = inferred | overrides

  try:
    graphdef, variables = abstract_model(name, arguments)
  except (TypeError, ValueError) as error:
    raise ConversionError(
      f"{name} cannot be built with {arguments} ({error}); the file seems to be {detected}"
    ) from error
  report = LoadReport(
    model=name,
    arguments={k: v for k, v in arguments.items() if k not in ("dtype", "param_dtype")},
    detected=_description(detected, source.layout, hub),
  )
  try:
    values = match_arrays(
      source,
      {path: variable.get_value().shape for path, variable in variables.items()},
      family,
      rules_for(family_name, variables, detected.content),
      mapping,
      report,
      new_head=_new_head(source.arrays, detected, family.head, overrides),
      resize="image_size" in overrides,
      problems=check_arrays(arrays),
    )
  except ConversionError as error:
    error.reason += f" {name} with {arguments}; the file seems to be {detected}"
    error.remedy = detected.size_flags(default_arguments(name) | arguments) or error.remedy
    raise
  values |= initial_arrays(name, arguments, [entry["path"] for entry in report.fresh])
  model = fill_model(graphdef, variables, values)
  final = model_arrays(model)
  report.warnings = _warnings(report.fresh, detected, name)
  if source.layout is not None and source.layout.warning:
    report.warnings.append(source.layout.warning)
  report.weights_sha256 = weights_sha256(final)
  report.parameters = sum(array.size for array in final.values())
  conversion = Conversion(model, name, report.arguments, report)
  if hub is not None:
    report.notes += hub.notes
    report.warnings += hub.warnings
    conversion.preprocessing = hub.preprocessing
    conversion.licence = hub.licence
    if hub.labels is not None and arguments.get("num_classes") == len(hub.labels):
      conversion.labels = hub.labels
  return conversion


def _model_name(
  name: str | None, detected: "Detection", hints: tuple[Any, ...], hub: "HubModel | None"
) -> str:
  """The requested model, or the one that the file or the folder determines."""
  from .detection import closest_name, family_of

  if name is None:
    name = next((hint for hint in hints if hint in detected.names), None)
  if hub is None:
    return name or detected.only_name()
  closest = closest_name(hub.family, detected.sizes() | hub.arguments)
  if name and detected.names and family_of(name) == detected.family and name not in detected.names:
    raise ConversionError(
      f"the file is {detected}, not {name}", remedy=f"leave --model out, or give {closest}"
    )
  return name or closest


def _check_epsilon(library: str, known: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
  keyword = "final_norm_epsilon" if "final_norm_epsilon" in known else "norm_epsilon"
  if keyword not in overrides:
    raise ConversionError(
      f"the file has the keys of {library}, whose models take the epsilon of the layer norms and "
      "the number of heads from config.json",
      remedy=f"give the folder that holds the file and config.json, or --{keyword} (1e-12 by "
      "default there) and --model",
    )


def _description(detected: "Detection", layout: "Layout | None", hub: "HubModel | None") -> str:
  text = str(detected)
  if layout is not None:
    text += f", keys of {layout.name}"
  return f"{text}, config.json of {hub.library} {hub.architecture}" if hub else text


def _remedy(detected: "Detection") -> str:
  from .detection import FCMAE_DENSE, MAE_ENCODER

  if detected.content == MAE_ENCODER:
    return (
      "this file has no decoder: convert it to a classifier (vit_...), or use MAE's 'visualize' or "
      "full pre-training file, which have the decoder"
    )
  if detected.content == FCMAE_DENSE:
    return "this file has no decoder: convert it to a classifier (convnextv2_...)"
  names = " or ".join(detected.names) or "a model of that family, with its sizes"
  return f"use --model {names}"


def _new_head(
  arrays: Mapping[str, Any],
  detected: "Detection",
  head: tuple[str, ...],
  overrides: Mapping[str, Any],
) -> str:
  """Reason for a fresh head, or "" when the file's head is to be loaded."""
  classes = overrides.get("num_classes")
  if classes is None or not head:
    return ""
  keys = [key for key in arrays if key.startswith(head)]
  if not keys:
    return f"the file has no head; a new one for {classes} classes"
  if len(keys) % 2:  # weight without bias: the file is incomplete, matching reports it
    return ""
  available = detected.arguments.get("num_classes")
  if available is None or available == classes:
    return ""
  return f"the file's head is for {available} classes; a new one for {classes}"


def _warnings(fresh: list[dict[str, Any]], detected: "Detection", name: str) -> list[str]:
  warnings = []
  if any(entry["path"].startswith("head.") for entry in fresh):
    warnings.append("the head is untrained: fine-tune before predicting")
  others = [other for other in detected.names if other != name]
  if name in detected.names and others:
    warnings.append(
      f"the same arrays also match {', '.join(others)}, which differ only in settings that are not "
      f"stored in the file (such as the number of heads); {name} was requested"
    )
  return warnings


def convert_checkpoint(
  checkpoint: TorchCheckpoint, name: str | None = None, *, hint: str | None = None, **overrides: Any
) -> Conversion:
  """Converts a checkpoint from `read_checkpoint`; the report includes the file's metadata.

  Args:
    checkpoint: its labels and preprocessing, if a hub folder has them, are taken over.
    name: key of `jax_me.models.MODELS`; None takes what config.json of a hub folder, or the table
      of released files, says.
    hint: without either, decides between several models that match, as does the architecture
      recorded in the checkpoint.
    **overrides: constructor keywords, see `convert`.

  Returns:
    The model with its load report.

  Raises:
    ConversionError: as `convert`; the message names the file.
  """
  release = checkpoint.release
  if release is not None and name in (None, release.model):
    name, overrides = release.model, {**release.arguments, **overrides}
  hints = (hint, checkpoint.metadata.get("arch"), checkpoint.metadata.get("args.model"))
  try:
    conversion = _convert(checkpoint.arrays, name, overrides, hints=hints, hub=checkpoint.hub)
  except ConversionError as error:
    raise error.in_file(checkpoint.file) from error.__cause__
  if release is not None:
    from .conversion import IMAGENET_MEAN, IMAGENET_STD

    conversion.licence = release.licence
    conversion.preprocessing = Preprocessing(
      mean=IMAGENET_MEAN, std=IMAGENET_STD, **dataclasses.asdict(release.preparation)
    )
  conversion.checkpoint = checkpoint
  conversion.report.notes = [*checkpoint.notes, *conversion.report.notes]
  conversion.report.source = {
    "file": checkpoint.file,
    "sha256": checkpoint.sha256,
    "format": checkpoint.format,
    "container": checkpoint.container,
    "weights": checkpoint.weights,
    "metadata": checkpoint.metadata,
  }
  return conversion


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the command's description and options."""
  parser.description = (
    "Converts a torch checkpoint (.pth, .pt, .pth.tar, .safetensors), a folder of timm or "
    "transformers, or weights by name (hf://OWNER/NAME[@REVISION], timm://NAME, release://FILE) "
    "into a model folder. Nothing in the file is executed. All but .safetensors files need torch."
  )
  parser.add_argument(
    "source", nargs="?", metavar="SOURCE", help="file, hub folder, or name of weights"
  )
  parser.add_argument("--checkpoint", metavar="SOURCE", help="another way to give the source")
  parser.add_argument("--output", required=True, metavar="DIR", help="model folder to write")
  parser.add_argument("--model", metavar="NAME", help="default: inferred from the file")
  parser.add_argument("--labels", metavar="A,B,C", help="class names in the order of the logits")
  parser.add_argument(
    "--mean",
    type=command_options.channel_numbers,
    metavar="R,G,B",
    help="default: the hub's or ImageNet's",
  )
  parser.add_argument(
    "--std", type=command_options.channel_numbers, metavar="R,G,B", help="default: as for --mean"
  )
  parser.add_argument(
    "--align", action="store_true", help="was trained on faces that jax_me aligned"
  )
  formats = ("orbax", "safetensors")
  parser.add_argument("--format", choices=formats, default=formats[0], help="of the new folder")
  parser.add_argument(
    "--weights", choices=("ema", "raw"), default="ema", help="which to use of a file with both"
  )
  parser.add_argument("--force", action="store_true", help="replace an existing model folder")
  parser.add_argument("--offline", action="store_true", help="download nothing")
  parser.add_argument("--verbose", action="store_true", help="print a line for every key")
  group = parser.add_argument_group("sizes", "needed only where the file does not determine them")
  for keyword, (parse, text) in command_options.SIZE_OPTIONS.items():
    group.add_argument(f"--{keyword}", type=parse, help=text, metavar="X")


def run(args: argparse.Namespace) -> int:
  """Converts the file; returns 0, or 1 after printing an error when nothing was written."""
  overrides = {
    k: getattr(args, k) for k in command_options.SIZE_OPTIONS if getattr(args, k) is not None
  }
  if args.offline:
    go_offline()
  sources = [source for source in (args.source, args.checkpoint) if source is not None]
  try:
    if len(sources) != 1:
      raise ConversionError("give one source: a file, a hub folder or a name of weights")
    check_output(pathlib.Path(args.output).absolute(), args.force)
    conversion = convert_checkpoint(
      read_checkpoint(sources[0], prefer=args.weights), args.model, **overrides
    )
    save_conversion(
      conversion,
      args.output,
      labels=[label.strip() for label in args.labels.split(",")] if args.labels else None,
      mean=args.mean,
      std=args.std,
      align=args.align,
      weights_format=args.format,
      force=args.force,
    )
  except ConversionError as error:
    print_error(error)
    return 1
  print(conversion.report.text() if args.verbose else conversion.report.summary())
  print(f"written to {args.output} (report of every key: {REPORT_FILE})")
  return 0


def next_step(args: argparse.Namespace) -> str:
  """The command after a conversion."""
  return f"doctor --checkpoint {shlex.quote(args.output)}"


def main(argv: list[str] | None = None) -> int:
  """Command line `python -m convert.torch_to_flax`; returns the exit status."""
  parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
  configure(parser)
  return run(parser.parse_args(argv))


if __name__ == "__main__":
  sys.exit(main())
