"""`jax-me demo`: a page on this computer to try a model with photographs and short clips."""

import argparse
import ipaddress
import logging
import os
import pathlib
import signal
import sys
import tempfile
import threading

from jax_me.bundled import PACKAGED, expression_model
from jax_me.demo.example_inputs import ExampleInputs, example_inputs
from jax_me.demo.model_description import describe_model
from jax_me.demo.uploads import UploadLimits
from jax_me.faces.license_notice import print_license_notice
from jax_me.inference.cli import (
  add_detector_argument,
  add_model_arguments,
  load_predictor,
  silence_opencv,
)

DEFAULT_PORT = 7860


def configure(parser: argparse.ArgumentParser) -> None:
  add_model_arguments(parser)
  add_detector_argument(parser)
  parser.add_argument(
    "--host",
    default="127.0.0.1",
    help="address to listen at (default 127.0.0.1: only this computer; the page has no password)",
  )
  parser.add_argument(
    "--port", type=int, default=DEFAULT_PORT, help=f"port of the page (default {DEFAULT_PORT})"
  )


def main(args: argparse.Namespace) -> int:
  """Serves the page until ctrl-C. Exit code 0."""
  if not 1 <= args.port <= 65535:
    raise ValueError(f"a port is in [1, 65535], got {args.port}")
  silence_opencv()
  # Otherwise the uploads would stay on the disk.
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  with tempfile.TemporaryDirectory(prefix="jax_me_demo_") as uploads:
    # Read when Gradio is imported.
    os.environ["GRADIO_TEMP_DIR"] = uploads
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    return _serve(args)


def _serve(args: argparse.Namespace) -> int:
  from jax_me.demo.page import build_page, launch_options

  logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there.
  predictor = load_predictor(args, labels=False)
  source = expression_model() if args.checkpoint == PACKAGED else pathlib.Path(args.checkpoint)
  limits = UploadLimits()
  page = build_page(predictor, describe_model(predictor.saved, source), _examples(), limits)
  page.queue(max_size=16, default_concurrency_limit=1)
  try:
    page.launch(
      server_name=args.host, server_port=args.port, prevent_thread_lock=True,
      **launch_options(limits),
    )  # fmt: skip
  except OSError as error:
    raise OSError(
      f"port {args.port} of {args.host} cannot be used: choose another one with --port"
    ) from error
  print_license_notice()
  if not _is_loopback(args.host):
    print(f"warning: everybody who reaches {args.host} can use this page; it has no password")
  host = f"[{args.host}]" if ":" in args.host else args.host
  print(f"http://{host}:{args.port}  (ctrl-C stops it)", flush=True)
  try:
    threading.Event().wait()
  except KeyboardInterrupt:  # The only way to stop it, and so no failure.
    return 0
  finally:
    page.close(verbose=False)
  return 0


def _examples() -> ExampleInputs:
  try:
    return example_inputs()
  except (ModuleNotFoundError, FileNotFoundError) as error:
    print(f"demo: no example faces: {error}", file=sys.stderr)
    return ExampleInputs([], [])


def _is_loopback(host: str) -> bool:
  try:
    return ipaddress.ip_address(host).is_loopback
  except ValueError:
    return host == "localhost"
