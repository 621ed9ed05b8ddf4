"""Writes a model of ours as a torch checkpoint that the original code loads strictly.

python -m convert.flax_to_torch --checkpoint checkpoints/t2t14 --output t2t14.pth
"""

import argparse
import os
import pathlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from convert.errors import ConversionError

if TYPE_CHECKING:
  import numpy as np
  from flax import nnx


def torch_arrays(model: "nnx.Module", name: str) -> "dict[str, np.ndarray]":
  """{torch key: array in torch's layout} of a model, all of it.

  Args:
    model: module of ours.
    name: key of `jax_me.models.MODELS` it was built by.

  Raises:
    ConversionError: the name is unknown, or an array of the model has no name in the original.
  """
  import numpy as np

  from convert.families import FAMILIES
  from convert.module_arrays import model_arrays
  from convert.named_models import family_of

  held = model_arrays(model)
  rules = FAMILIES[family_of(name)].rules(held)
  arrays: dict[str, Any] = {}
  problems = []
  for path, value in held.items():
    rule = rules.key_of(path)
    if rule is None:
      problems.append(f"{path} {list(value.shape)}: has no name in the original")
    else:
      key, transform = rule
      arrays[key] = np.array(transform.to_torch(value), order="C")
  if problems:
    raise ConversionError(f"the model is not {name} as the original has it", problems=problems)
  return arrays


def write_torch_checkpoint(
  model: "nnx.Module", name: str, path: str | os.PathLike, *, force: bool = False
) -> int:
  """Writes a torch file with the model's state dict under the original's key.

  Args:
    model: module of ours.
    name: key of `jax_me.models.MODELS` it was built by.
    path: file to write; it appears whole or not at all.
    force: replace a file that is already there.

  Returns:
    Number of arrays written.

  Raises:
    ConversionError: torch is missing, the file exists, or the model has no form in torch.
  """
  from convert.families import FAMILIES
  from convert.named_models import family_of

  try:
    import torch
  except ImportError as error:
    raise ConversionError("writing a torch file needs torch", remedy="pip install torch") from error
  target = pathlib.Path(path).absolute()
  if target.exists() and (not force or target.is_dir()):
    raise ConversionError(f"{target} exists", remedy="choose another --output, or use --force")
  state = {key: torch.from_numpy(a) for key, a in torch_arrays(model, name).items()}
  target.parent.mkdir(parents=True, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
  try:
    with os.fdopen(handle, "wb") as stream:
      torch.save({FAMILIES[family_of(name)].container: state}, stream)
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)
  except BaseException:
    pathlib.Path(temporary).unlink(missing_ok=True)
    raise
  return len(state)


def main(argv: list[str] | None = None) -> int:
  """The command; 0 when the file was written, 1 with one message when it was not."""
  parser = argparse.ArgumentParser(
    prog="python -m convert.flax_to_torch",
    description="Writes a model folder as a torch checkpoint of the original project.",
  )
  parser.add_argument("--checkpoint", required=True, metavar="DIR", help="model folder or workdir")
  parser.add_argument("--output", required=True, metavar="FILE", help="torch file to write")
  parser.add_argument("--force", action="store_true", help="replace a file at --output")
  args = parser.parse_args(argv)
  from jax_me.models.model_folder import SavedModelError, load_model

  try:
    saved = load_model(args.checkpoint)
    count = write_torch_checkpoint(saved.model, saved.name, args.output, force=args.force)
  except (ConversionError, SavedModelError) as error:
    print(f"error: {error}", file=sys.stderr)
    return 1
  print(f"{saved.name}: {count} arrays written to {args.output}")
  return 0


if __name__ == "__main__":
  sys.exit(main())
