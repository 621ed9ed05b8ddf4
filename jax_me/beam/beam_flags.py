"""Command-line flags of the commands that can run on Apache Beam."""

import argparse
import re

from jax_me.beam.beam_runner import BeamRunner, check_runner
from jax_me.beam.exchange_files import is_remote


def add_beam_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that `beam_runner` reads."""
  add = parser.add_argument_group(
    "Apache Beam, in the environment of requirements-beam.txt"
  ).add_argument
  add(
    *("--beam_runner", "--beam-runner"),
    metavar="NAME",
    help="process the images on a Beam runner: DirectRunner, FlinkRunner, SparkRunner, "
    "DataflowRunner (default: processes of this machine)",
  )
  add(
    *("--beam_options", "--beam-options"),
    metavar="A=X,B=Y",
    default="",
    help="options of the runner, as in --beam_pipeline_options of TFDS",
  )
  add(
    *("--beam_exchange", "--beam-exchange"),
    metavar="gs://...",
    default="",
    help="bucket through which the workers pass results, if they do not see the output folder",
  )
  add(
    *("--beam_source", "--beam-source"),
    metavar="gs://...",
    default="",
    help="bucket with the content of the input folder, if the workers do not see that folder",
  )


def beam_runner(args: argparse.Namespace) -> BeamRunner | None:
  """The runner that the flags name; None without one.

  Raises:
    ValueError: Beam or a package of the runner is not installed, or a flag is wrong.
  """
  if args.beam_runner is None:
    if args.beam_options or args.beam_exchange or args.beam_source:
      raise ValueError("--beam_options, --beam_exchange and --beam_source need --beam_runner")
    return None
  check_runner(args.beam_runner)
  # A comma before a quote or a brace is part of a value.
  words = filter(None, re.split(r",(?=\w+(?:=|,|$))", args.beam_options))
  options = tuple(f"--{word.strip().removeprefix('--')}" for word in words)
  exchange, source = args.beam_exchange.rstrip("/"), args.beam_source.rstrip("/")
  for address in filter(None, (exchange, source)):
    if not is_remote(address):
      raise ValueError(f"{address} is no address of a bucket, such as gs://bucket/folder")
  return BeamRunner(args.beam_runner, options, exchange, source)
