"""`jax-me push`: a model on the Hugging Face hub, with a model card."""

import argparse
import pathlib
import shlex

from jax_me.inference.predictor import load
from jax_me.inference.sharing.model_card import CARD_FILE
from jax_me.inference.sharing.shared_model import share_model, write_shared_folder


def configure(parser: argparse.ArgumentParser) -> None:
  parser.add_argument("model", metavar="MODEL", help="model folder, run, or checkpoint file")
  parser.add_argument("repository", metavar="OWNER/NAME", help="created if it does not exist")
  parser.add_argument(
    "--public",
    action="store_true",
    help="create a public repository (default: private; an existing one stays as it is)",
  )
  parser.add_argument(
    "--licence",
    default="",
    help="licence of the weights: a name such as cc-by-nc-4.0, or a sentence "
    "(default: that of the model folder)",
  )
  parser.add_argument(
    "--output",
    type=pathlib.Path,
    metavar="DIR",
    help="only write what would be uploaded to this folder, to look at it first",
  )


def main(args: argparse.Namespace) -> int:
  """Uploads the model, or writes what would be uploaded. Exit code 0."""
  predictor = load(args.model)
  share = {"origin": predictor.origin, "licence": args.licence}
  if args.output is not None:
    write_shared_folder(predictor.saved, args.output, args.repository, **share)
    print(f"{args.output / CARD_FILE}; nothing was uploaded")
  else:
    print(share_model(predictor.saved, args.repository, private=not args.public, **share))
  return 0


def next_step(args: argparse.Namespace) -> str:
  """The command that follows."""
  if args.output is not None:
    licence = ["--licence", args.licence] if args.licence else []
    return shlex.join(["push", args.model, args.repository, *licence])
  return f"predict PHOTO --checkpoint hf://{args.repository} --output predictions"
