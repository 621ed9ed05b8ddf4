"""Export of a model folder as a torch checkpoint that the original code loads, or as a program.

python -m convert.flax_to_torch --checkpoint checkpoints/t2t14 --output t2t14.pth
python -m convert.flax_to_torch --checkpoint runs/rafdb/test --for mae-sfer --output vit.pth
jax-me export --checkpoint runs/rafdb --format stablehlo --output program
"""

import argparse
import os
import pathlib
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from jax_me.files import staging_folder
from jax_me.terminal import print_error

from .errors import ConversionError
from .file_formats import import_torch

if TYPE_CHECKING:
  from flax import nnx

ORIGINAL, MAE_SFER = READERS = ("original", "mae-sfer")


def torch_arrays(model: "nnx.Module", name: str) -> dict[str, np.ndarray]:
  """All arrays of a model as {torch key: array in torch's layout}.

  Args:
    model: a jax_me module.
    name: its key in `jax_me.models.MODELS`.

  Raises:
    ConversionError: unknown name, or an array that the original code does not have.
  """
  from .detection import family_of
  from .families import rules_for
  from .module_arrays import model_arrays

  ours = model_arrays(model)
  rules = rules_for(family_of(name), ours)
  arrays: dict[str, np.ndarray] = {}
  problems = []
  for path, value in ours.items():
    rule = rules.key_of(path)
    if rule is None:
      problems.append(f"{path} {list(value.shape)}: does not exist in the original")
    else:
      key, transform = rule
      arrays[key] = np.array(transform.to_torch(value), order="C")
  if problems:
    raise ConversionError(f"the model does not match the original's {name}", problems=problems)
  return arrays


def write_torch_checkpoint(
  model: "nnx.Module",
  name: str,
  path: str | os.PathLike,
  *,
  reader: str = ORIGINAL,
  force: bool = False,
) -> int:
  """Writes a torch file with the model's state dict, in the form that a project's code reads.

  Args:
    model: a jax_me module.
    name: its key in `jax_me.models.MODELS`.
    path: file to write (atomically).
    reader: "original", the project that published the model, or "mae-sfer".
    force: replace an existing file.

  Returns:
    Number of arrays written.

  Raises:
    ConversionError: torch is missing, the file exists, or the model cannot be expressed in torch.
  """
  from .detection import family_of
  from .families import FAMILIES

  torch = import_torch()
  target = pathlib.Path(path).absolute()
  if target.exists() and (not force or target.is_dir()):
    raise ConversionError(f"{target} exists", remedy="choose another --output, or use --force")
  state = {key: torch.from_numpy(a) for key, a in torch_arrays(model, name).items()}
  if reader == MAE_SFER:
    _check_for_mae_sfer(state, name)
    # Its training continues with the epoch after `epoch`.
    content = {"epoch": -1, "train_loss": float("inf"), "model_state_dict": state}
  else:
    content = {FAMILIES[family_of(name)].container: state}
  with staging_folder(target) as staging:
    written = staging / target.name
    torch.save(content, written)
    os.replace(written, target)
  return len(state)


def _check_for_mae_sfer(keys: Collection[str], name: str) -> None:
  """Raises ConversionError if MAE-SFER's loader would leave a part of its model untrained.

  The loader ignores keys that its ViT lacks, and keeps the initial values of those that the file
  lacks, without an error.
  """
  from .detection import family_of

  if family_of(name) not in ("vit", "mae"):
    raise ConversionError(
      f"{name} is no ViT or MAE, which MAE-SFER's main_rafdb.py takes",
      remedy=f"use --for {ORIGINAL}, for the code of the original project",
    )
  problems = [
    f"{key}: not read" for key in sorted(keys) if key.startswith(("fc_norm", "pre_logits"))
  ] + [f"{key}: missing" for key in ("norm.weight", "blocks.0.attn.qkv.bias") if key not in keys]
  if problems:
    raise ConversionError(
      "MAE-SFER's ViT has a class token and a bias of query, key and value, this model has not",
      problems=problems,
      remedy="train with --config.model.arguments.global_pool=False",
    )


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the command's description and options."""
  parser.description = (
    "Writes a model folder as a torch checkpoint of the original project, or as a program."
  )
  parser.add_argument("--checkpoint", required=True, metavar="DIR", help="model folder or workdir")
  parser.add_argument(
    "--output", required=True, metavar="PATH", help="torch file to write, or folder of a program"
  )
  parser.add_argument(
    "--format",
    dest="form",
    choices=("torch", "stablehlo", "onnx"),
    default="torch",
    help="torch checkpoint, or a program that turns images into class probabilities: stablehlo for "
    "jax on CPU, CUDA and TPU, or onnx (default torch)",
  )
  parser.add_argument(
    "--for",
    dest="reader",
    choices=READERS,
    default=ORIGINAL,
    help="the code that is to read the file: that of the project that published the model, or "
    "main_rafdb.py of MAE-SFER, for ViT and MAE (default original)",
  )
  parser.add_argument("--force", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> int:
  """Exports the model; returns 0, or 1 after printing an error when nothing was written."""
  from jax_me.models.ensemble import only_model
  from jax_me.models.model_folder import SavedModelError

  from .model_source import open_model

  try:
    saved = only_model(open_model(args.checkpoint), args.checkpoint)
    if args.form != "torch":
      from jax_me.models.exported_program import write_program

      print(f"{saved.name}: {write_program(saved, args.output, args.form)}")
      return 0
    count = write_torch_checkpoint(
      saved.model, saved.name, args.output, reader=args.reader, force=args.force
    )
  except (ConversionError, SavedModelError) as error:
    print_error(error)
    return 1
  print(f"{saved.name}: {count} arrays written to {args.output}")
  return 0


def main(argv: list[str] | None = None) -> int:
  """Command line `python -m convert.flax_to_torch`; returns the exit status."""
  parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name}")
  configure(parser)
  return run(parser.parse_args(argv))


if __name__ == "__main__":
  sys.exit(main())
