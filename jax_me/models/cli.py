"""Command line of `python -m jax_me models`: every model with its cost and its released weights."""

import argparse
import dataclasses
import json

from jax_me.models.model_summary import ModelSummary, recorded_summaries, summarize_model
from jax_me.models.registry import MODELS
from jax_me.models.released_weights import released_weights
from jax_me.terminal import format_table


def configure(parser: argparse.ArgumentParser) -> None:
  """Adds the description and arguments of the command."""
  parser.description = (
    "Lists all models, or describes one: parameters, multiply-adds (MACs) of one image, input "
    "size, keywords of the constructor (--config.model.arguments.KEYWORD of a recipe), and the "
    "weights that the original projects released. The MACs of mae_* and fcmae_* are those of the "
    "forward pass in pre-training."
  )
  parser.add_argument("name", nargs="?", metavar="NAME", help="describe this model only")
  parser.add_argument(
    "--image-size", type=int, metavar="PIXELS", help="compute the cost at another input size"
  )
  parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def main(args: argparse.Namespace) -> int:
  """Prints the table or the description. Exit code 0."""
  overrides = {} if args.image_size is None else {"image_size": args.image_size}
  if args.name is None and overrides:
    raise ValueError("--image-size needs the name of a model")
  if args.name is None:
    summaries = list(recorded_summaries().values())
  elif overrides or args.name not in MODELS:  # the latter fails with the nearest names
    summaries = [summarize_model(args.name, **overrides)]
  else:
    summaries = [recorded_summaries()[args.name]]
  if args.json:
    rows = [
      {
        **dataclasses.asdict(summary),
        "released": [dataclasses.asdict(weights) for weights in released_weights(summary.name)],
      }
      for summary in summaries
    ]
    print(json.dumps(rows))
  elif args.name is None:
    _print_table(summaries)
  else:
    _print_model(summaries[0])
  return 0


def _print_table(summaries: list[ModelSummary]) -> None:
  rows = [
    (
      summary.name,
      _millions(summary.parameters),
      _billions(summary.macs),
      summary.image_size,
      summary.smallest_image,
      len(released_weights(summary.name)) or "-",
    )
    for summary in summaries
  ]
  print(format_table(("model", "parameters", "MACs", "input", "smallest", "released"), rows))
  print("\nInputs are squares, in pixels. Details of one model: add its name.")


def _print_model(summary: ModelSummary) -> None:
  print(f"{summary.name}: {_millions(summary.parameters)} parameters")
  side = summary.image_size
  print(f"{_billions(summary.macs)} multiply-adds for an image of {side} x {side} pixels")
  print(f"smallest image: {summary.smallest_image} x {summary.smallest_image} pixels")
  print("\nkeywords and their values:")
  width = max(map(len, summary.arguments))
  for keyword, value in summary.arguments.items():
    print(f"  {keyword:{width}}  {json.dumps(value)}")
  released = released_weights(summary.name)
  print("\nreleased weights:" if released else "\nno released weights of the original projects")
  for weights in released:
    accuracy = "" if weights.top1 is None else f"ImageNet {weights.top1}%"
    about = ", ".join(filter(None, [accuracy, weights.note, f"licence {weights.licence}"]))
    print(f"  release://{weights.file}: {about}\n    {weights.address}")


def _millions(count: int) -> str:
  return f"{count / 1e6:.1f} M"


def _billions(count: int) -> str:
  return f"{count / 1e9:.2f} G"
