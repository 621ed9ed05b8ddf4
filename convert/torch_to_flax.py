"""Converts a torch checkpoint into a model of ours.

  python -m convert.torch_to_flax --checkpoint 81.5_T2T_ViT_14.pth.tar --output checkpoints/t2t14

The output folder holds the model (`jax_me.load` reads it) and `conversion.json`, the load report.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.check import check_arrays
from convert.conversion import Conversion
from convert.errors import ConversionError
from convert.save_conversion import REPORT_FILE, check_output, save_conversion
from convert.torch_files import TorchCheckpoint, read_checkpoint, read_torch_checkpoint

if TYPE_CHECKING:
  from flax import nnx


__all__ = [
  "ConversionError",
  "Conversion",
  "convert",
  "convert_arrays",
  "convert_checkpoint",
  "main",
  "read_checkpoint",
  "read_torch_checkpoint",
  "save_conversion",
]


def convert(
  arrays: "Mapping[str, np.ndarray]", name: str | None = None, **overrides: Any
) -> "nnx.Module":
  """Builds a model of ours with the arrays of a torch checkpoint.

  Every key on both sides is accounted for: loaded, dropped for a stated reason or initialised
  afresh for a stated reason; anything else is an error. `convert_arrays` also gives the report.

  Args:
    arrays: {torch key: array in torch's layout}, see `read_torch_checkpoint`.
    name: key of `jax_me.models.MODELS`; None takes the one model that the arrays fit.
    **overrides: constructor keywords, as for `create_model`. What the file shows (num_classes,
      image_size, global_pool, token_labeling) need not be given. Another `num_classes` than the
      file's gives a fresh head, another `image_size` resizes the position table.

  Raises:
    ConversionError: arrays that are not finite floats, an unknown family or model, or keys and
      shapes that do not fit; all problems at once.
  """
  return convert_arrays(arrays, name, **overrides).model


def convert_arrays(
  arrays: "Mapping[str, np.ndarray]", name: str | None = None, **overrides: Any
) -> Conversion:
  """As `convert`, with the load report."""
  from convert import detection
  from convert.families import FAMILIES, passage, rules_for
  from convert.matching import match_arrays
  from convert.module_arrays import abstract_model, filled_model, initial_arrays, model_arrays
  from convert.named_models import family_of, sizes
  from convert.report import LoadReport, weights_sha256

  foreign = [str(key) for key, value in arrays.items() if not isinstance(value, np.ndarray)]
  if foreign:
    raise ConversionError("these are not numpy arrays", problems=foreign)
  detected = detection.detect(arrays)
  name = name or detected.only_name()
  family_name = family_of(name)
  way = passage(detected, family_name)
  if way is None:
    raise ConversionError(
      f"the file cannot become {name}: it seems to be {detected}", remedy=_remedy(detected)
    )
  family = FAMILIES[family_name]
  inferred = {k: v for k, v in detected.arguments.items() if k in family.inferred}
  arguments = inferred | overrides

  try:
    graphdef, variables = abstract_model(name, arguments)
  except (TypeError, ValueError) as error:
    raise ConversionError(
      f"{name} cannot be built with {arguments} ({error}); the file seems to be {detected}"
    ) from error
  try:
    match = match_arrays(
      arrays,
      {path: variable.get_value().shape for path, variable in variables.items()},
      family,
      rules_for(detected.content, family_name, variables),
      way,
      new_head=_new_head(arrays, detected, family.head, overrides),
      resize="image_size" in overrides,
      problems=check_arrays(arrays),
    )
  except ConversionError as error:
    error.reason += f" {name} with {arguments}; the file seems to be {detected}"
    error.remedy = detected.other_sizes(sizes(name) | arguments) or error.remedy
    raise
  values = match.values | initial_arrays(name, arguments, [entry["path"] for entry in match.fresh])
  model = filled_model(graphdef, variables, values)
  final = model_arrays(model)
  report = LoadReport(
    model=name,
    arguments={k: v for k, v in arguments.items() if k not in ("dtype", "param_dtype")},
    detected=str(detected),
    loaded=match.loaded,
    dropped=match.dropped,
    fresh=match.fresh,
    warnings=_warnings(match.fresh, detected, name),
    weights_sha256=weights_sha256(final),
    parameters=sum(array.size for array in final.values()),
  )
  return Conversion(model, name, report.arguments, report)


def _remedy(detected: Any) -> str:
  from convert import detection

  if detected.content == detection.MAE_ENCODER:
    return (
      "this file has no decoder: convert it to a classifier's encoder (vit_...), or take MAE's "
      "'visualize' or full pre-training file, which have the decoder"
    )
  if detected.content == detection.FCMAE_DENSE:
    return "this file has no decoder: convert it to a classifier's encoder (convnextv2_...)"
  names = " or ".join(detected.names) or "a model of that family, with its sizes"
  return f"use --model {names}"


def _new_head(
  arrays: Mapping[str, Any], detected: Any, head: tuple[str, ...], overrides: Mapping[str, Any]
) -> str:
  """Why the head starts afresh, or "" when the file's head is wanted."""
  classes = overrides.get("num_classes")
  if classes is None or not head:
    return ""
  parts = [key for key in arrays if key.startswith(head)]
  if not parts:
    return f"the file has no head; a new one for {classes} classes"
  if len(parts) % 2:  # weight without bias: the file is incomplete, which matching will say
    return ""
  held = detected.arguments.get("num_classes")
  if held is None or held == classes:
    return ""
  return f"the file's head is for {held} classes; a new one for {classes}"


def _warnings(fresh: list[dict[str, Any]], detected: Any, name: str) -> list[str]:
  warnings = []
  if any(entry["path"].startswith("head.") for entry in fresh):
    warnings.append("the head is untrained: fine-tune before predicting")
  others = [other for other in detected.names if other != name]
  if name in detected.names and others:
    warnings.append(
      f"the same arrays also fit {', '.join(others)}: they differ in nothing a file shows "
      f"(such as the number of heads); {name} was asked for"
    )
  return warnings


def convert_checkpoint(
  checkpoint: TorchCheckpoint, name: str | None = None, **overrides: Any
) -> Conversion:
  """Converts a checkpoint that was read with `read_checkpoint`; the report tells of its file.

  Without a name, the architecture that a training save mentions may settle which of several
  models that fit is meant.
  """
  from convert.detection import detect

  try:
    if name is None:
      hints = (checkpoint.metadata.get("arch"), checkpoint.metadata.get("args.model"))
      names = detect(checkpoint.arrays).names
      name = next((hint for hint in hints if hint in names), None)
    conversion = convert_arrays(checkpoint.arrays, name, **overrides)
  except ConversionError as error:
    raise error.in_file(checkpoint.file) from error.__cause__
  conversion.report.notes = list(checkpoint.notes)
  conversion.report.source = {
    "file": checkpoint.file,
    "sha256": checkpoint.sha256,
    "format": checkpoint.format,
    "container": checkpoint.container,
    "weights": checkpoint.weights,
    "metadata": checkpoint.metadata,
  }
  return conversion


def _integers(text: str) -> list[int]:
  return [int(part) for part in text.split(",")]


def _numbers(text: str) -> list[float]:
  values = [float(part) for part in text.split(",")]
  if len(values) != 3:
    raise argparse.ArgumentTypeError("three numbers are needed, for R, G and B")
  return values


def _boolean(text: str) -> bool:
  if text.lower() not in ("true", "false"):
    raise argparse.ArgumentTypeError("true or false is needed")
  return text.lower() == "true"


# Constructor keywords of the command line: how the text is read, and what it says.
_SIZES: dict[str, tuple[Callable[[str], Any], str]] = {
  "num_classes": (int, "classes of the head; another number than the file's gives a fresh head"),
  "image_size": (int, "side of the input in pixels; resizes the position table"),
  "global_pool": (_boolean, "ViT: true pools the patch tokens, false takes the class token"),
  "token_labeling": (_boolean, "T2T-ViT: keep the auxiliary head of token labeling"),
  "patch_size": (int, "ViT, MAE: side of a patch in pixels"),
  "embed_dim": (int, "width of the tokens"),
  "depth": (int, "number of blocks"),
  "num_heads": (int, "attention heads; cannot be seen in a file"),
  "mlp_ratio": (float, "hidden width of the MLPs over embed_dim"),
  "tokens_type": (str, "T2T-ViT: performer or transformer"),
  "token_dim": (int, "T2T-ViT: width of the tokens-to-token module"),
  "decoder_embed_dim": (int, "MAE, FCMAE: width of the decoder"),
  "decoder_depth": (int, "MAE, FCMAE: blocks of the decoder"),
  "decoder_num_heads": (int, "MAE: attention heads of the decoder"),
  "norm_pix_loss": (_boolean, "MAE, FCMAE: whether the loss normalises each patch"),
  "depths": (_integers, "ConvNeXt V2: blocks of the four stages, as 2,2,6,2"),
  "dims": (_integers, "ConvNeXt V2: channels of the four stages, as 40,80,160,320"),
}


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m convert.torch_to_flax",
    description="Converts a torch checkpoint (.pth, .pt, .pth.tar, .safetensors) into a model "
    "folder. Nothing in the file is executed, and torch need not be installed.",
  )
  parser.add_argument("--checkpoint", required=True, metavar="FILE", help="the torch checkpoint")
  parser.add_argument("--output", required=True, metavar="DIR", help="model folder to write")
  parser.add_argument("--model", metavar="NAME", help="may be left out when the file shows it")
  parser.add_argument("--labels", metavar="A,B,C", help="class names in the order of the logits")
  parser.add_argument("--mean", type=_numbers, metavar="R,G,B", help="default: ImageNet's")
  parser.add_argument("--std", type=_numbers, metavar="R,G,B", help="default: ImageNet's")
  parser.add_argument(
    "--weights", choices=("ema", "raw"), default="ema", help="which to take of a file with both"
  )
  parser.add_argument("--force", action="store_true", help="replace a model folder at --output")
  parser.add_argument("--verbose", action="store_true", help="print a line for every key")
  group = parser.add_argument_group("sizes", "needed only where the file does not show them")
  for keyword, (read, text) in _SIZES.items():
    group.add_argument(f"--{keyword}", type=read, help=text, metavar="X")
  return parser


def main(argv: list[str] | None = None) -> int:
  """The command; 0 when the folder was written, 1 with one message when it was not."""
  args = _parser().parse_args(argv)
  overrides = {k: getattr(args, k) for k in _SIZES if getattr(args, k) is not None}
  try:
    check_output(pathlib.Path(args.output).absolute(), args.force)
    conversion = convert_checkpoint(
      read_checkpoint(args.checkpoint, prefer=args.weights), args.model, **overrides
    )
    save_conversion(
      conversion,
      args.output,
      labels=[label.strip() for label in args.labels.split(",")] if args.labels else None,
      mean=args.mean,
      std=args.std,
      force=args.force,
    )
  except ConversionError as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(conversion.report.text() if args.verbose else conversion.report.summary())
  print(f"written to {args.output} (every key: {REPORT_FILE})")
  return 0


if __name__ == "__main__":
  sys.exit(main())
