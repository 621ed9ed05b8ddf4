"""`python -m jax_me verify`: released weights against their published accuracy."""

import argparse
import json
import pathlib
import sys

from jax_me.bundled import import_bundled


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = (
    "Downloads and converts weights that an original project released, classifies the images of a "
    "validation folder with the resize and crop of the original evaluation, and compares the "
    "accuracy with the published one. Exit code 0: they agree; 1: they do not, or invalid input."
  )
  parser.add_argument("name", metavar="release://FILE", help="see docs/weights.md")
  parser.add_argument(
    "--data",
    required=True,
    metavar="FOLDER",
    help="a folder per class, whose sorted order is that of the classes: ImageNet's validation set "
    "with its synset folders",
  )
  parser.add_argument(
    "--images", type=int, metavar="N", help="use N evenly spaced images (default: all)"
  )
  parser.add_argument(
    "--batch", type=int, metavar="N", help="images per model call (default: 4 on a CPU, else 64)"
  )
  parser.add_argument("--offline", action="store_true", help="download no weights")
  parser.add_argument("--json", action="store_true", help="print JSON instead of lines")


def main(args: argparse.Namespace) -> int:
  """Exit code 0 if the accuracy agrees, 1 if it does not."""
  import jax

  from jax_me.inference.published_accuracy import (
    TOLERANCE,
    check_accuracy,
    find_validation_images,
  )

  names = import_bundled("convert.weight_names")
  if args.offline:
    names.go_offline()
  name = names.parse_weight_name(args.name)
  release = None if name is None else name.release
  if release is None:
    raise ValueError(f"{args.name} is not of the form release://FILE; see docs/weights.md")
  if release.top1 is None:
    raise ValueError(f"{args.name} has no published accuracy: {release.note}")
  if not pathlib.Path(args.data).is_dir():
    raise ValueError(f"{args.data} is not a folder")
  saved = import_bundled("convert.model_source").open_model(args.name)
  images = find_validation_images(args.data, len(saved.labels), args.images)
  batch = args.batch or (4 if jax.default_backend() == "cpu" else 64)
  check = check_accuracy(saved, release, images, batch=batch)
  for problem in check.unreadable:
    print(f"left out: {problem}", file=sys.stderr)
  if args.json:
    print(json.dumps({"weights": args.name, "model": saved.name, **check.as_json()}, indent=2))
    return 0 if check.agrees else 1
  preparation = release.preparation
  print(f"{args.name}: {saved.name}, licence {release.licence}")
  print(
    f"resize {preparation.resize} to {preparation.resize_to} pixels ({preparation.interpolation}), "
    f"central crop of {preparation.image_size}"
  )
  print(f"images     {check.images}, {len(check.unreadable)} unreadable")
  print(f"accuracy   {check.accuracy:.2f}%")
  print(f"published  {check.published:g}%")
  print(
    f"{'agrees' if check.agrees else 'DIFFERS'}: the difference is "
    f"{check.accuracy - check.published:+.2f} points; {check.sampling_error + TOLERANCE:.2f} are "
    f"allowed: {check.sampling_error:.2f} for the sampling error of {check.images} images (95%), "
    f"{TOLERANCE:g} for rounding and decoders"
  )
  return 0 if check.agrees else 1
