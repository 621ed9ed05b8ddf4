"""`python -m jax_me explain`: heat maps of classifiers, masked-autoencoder reconstructions."""

import argparse
import pathlib

from jax_me.bundled import PACKAGED, import_bundled
from jax_me.faces.license_notice import print_license_notice


def configure(parser: argparse.ArgumentParser) -> None:
  parser.description = (
    "Explains a model's outputs for faces: attention rollout (arXiv:2005.00928) and Grad-CAM "
    "(arXiv:1610.02391) for classifiers, reconstructions for masked autoencoders. Heat maps show "
    "what a score depends on, not why. Rollout uses attention weights only and is the same for "
    "every class."
  )
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="images or folders of images; for a motion model, folders with the frames of a clip from "
    "onset to offset",
  )
  parser.add_argument(
    "--checkpoint",
    "--model",
    dest="checkpoint",
    default=PACKAGED,
    metavar="SOURCE",
    help="model folder, run, checkpoint file, or name of weights (hf://OWNER/NAME); default: the "
    "expression model that comes with jax_me",
  )
  parser.add_argument("--offline", action="store_true", help="download no weights")
  parser.add_argument("--output", required=True, type=pathlib.Path, help="output folder")
  parser.add_argument(
    "--method",
    nargs="+",
    metavar="METHOD",
    help="rollout, gradcam or reconstruction (default: all that the model supports)",
  )
  parser.add_argument("--label", help="class to explain (default: the predicted class)")
  parser.add_argument(
    "--align",
    action=argparse.BooleanOptionalAction,
    help="detect and align faces; --no-align uses images as they are: aligned faces, or the motion "
    "images of a motion model (default: as the model was trained; a converted model gets the "
    "whole image)",
  )
  parser.add_argument(
    "--apex",
    type=int,
    metavar="N",
    help="index of the apex frame of a clip, from 0 (default: the middle frame)",
  )
  parser.add_argument(
    "--mask-ratio",
    type=float,
    metavar="RATIO",
    help="fraction of patches to remove (default: 0.75 for MAE, 0.6 for FCMAE)",
  )
  parser.add_argument(
    "--seed", type=int, default=0, help="seed of the random mask; all faces get the same mask"
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 130 after Ctrl-C, with partial results written."""
  from jax_me.inference.explain.explainer import make_explainer
  from jax_me.inference.explain.run import ExplainSession
  from jax_me.inference.model_input import InputSpec
  from jax_me.inference.video.result_files import model_record
  from jax_me.inference.video.sources import find_sources
  from jax_me.models.classifier import check_head
  from jax_me.progress import Progress

  if args.offline:
    import_bundled("convert.weight_names").go_offline()
  # The images of a folder are explained one by one, or for a motion model as one clip.
  sources = find_sources(args.inputs, read_as="frames")
  saved = import_bundled("convert.model_source").open_model(args.checkpoint)
  check_head(saved)
  spec = InputSpec.from_model(saved, align=args.align)
  for source in sources:
    if source.kind in ("video", "camera"):
      raise ValueError(
        f"{source.name} is a {source.kind}; give images, or folders that contain its frames"
      )
    if spec.is_motion and source.kind == "photograph" and args.align is not False:
      raise ValueError(
        f"the model was trained on motion ({spec.input}), but {source.name} is a single image; "
        "give folders of frames, or motion images with --no-align"
      )
  if spec.is_motion and args.align:
    raise ValueError("--align is not allowed for motion models: clips are aligned as in training")
  explainer = make_explainer(saved, args.method, args.mask_ratio, args.seed)
  if args.label is not None:
    explainer.class_index(args.label)  # raises for an unknown label
  if spec.align:
    print_license_notice()
  model = model_record(saved, args.checkpoint) | explainer.settings
  progress = Progress("explain", sum(source.length or 0 for source in sources))
  session = ExplainSession(
    saved,
    explainer,
    args.output,
    model,
    progress,
    align=args.align,
    label=args.label,
    apex=args.apex,
  )
  interrupted = False
  try:
    for source in sources:
      session.run(source)
  except KeyboardInterrupt:
    interrupted = True
  finally:
    progress.close()
    path = session.finish()
  counts = ", ".join(f"{count} {status}" for status, count in session.status_counts.items())
  print(f"status: {counts}")
  print(path)
  return 130 if interrupted else 0
