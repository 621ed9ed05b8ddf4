"""`python -m jax_me explain`: heat maps of what a model's answers depend on, reconstructions."""

import argparse
import pathlib
import sys

from jax_me.faces.detector import LICENSE_NOTICE


def configure(parser: argparse.ArgumentParser) -> None:
  parser.description = (
    "Shows what a model's answers for faces depend on: attention rollout (arXiv:2005.00928) and "
    "Grad-CAM (arXiv:1610.02391) of classifiers, reconstructions of masked autoencoders. Heat maps "
    "show what a score depends on, not why; rollout ignores the values and is the same for every "
    "class."
  )
  parser.add_argument(
    "inputs",
    nargs="+",
    metavar="INPUT",
    help="pictures, or folders of them; for a model of motion, folders of a clip's frames from "
    "onset to offset",
  )
  parser.add_argument(
    "--checkpoint",
    "--model",
    dest="checkpoint",
    required=True,
    metavar="DIR",
    help="folder of a run or of a converted model",
  )
  parser.add_argument("--output", required=True, type=pathlib.Path, help="folder for the results")
  parser.add_argument(
    "--method",
    nargs="+",
    metavar="METHOD",
    help="rollout, gradcam or reconstruction (default: all that the model's family has)",
  )
  parser.add_argument("--label", help="the class to explain (default: the predicted one)")
  parser.add_argument(
    "--align",
    action=argparse.BooleanOptionalAction,
    help="find and align the faces, or take the pictures as they are: aligned faces, or the very "
    "inputs of a model of motion (default: as the training data was)",
  )
  parser.add_argument(
    "--apex",
    type=int,
    metavar="N",
    help="of a clip: which frame shows the expression at its height, from 0 (default: the middle)",
  )
  parser.add_argument(
    "--mask-ratio",
    type=float,
    metavar="SHARE",
    help="of the patches to remove (default: 0.75 for MAE, 0.6 for FCMAE)",
  )
  parser.add_argument(
    "--seed", type=int, default=0, help="which patches are removed, the same for all faces"
  )


def main(args: argparse.Namespace) -> int:
  """Exit code 0; 1 for what cannot be opened; 130 after ctrl-C, with the results so far."""
  try:
    return _explain(args)
  except (ValueError, OSError) as error:
    print(f"explain: {error}", file=sys.stderr)
    return 1


def _explain(args: argparse.Namespace) -> int:
  from jax_me.inference.explain.explainer import Explainer, FaceReconstructor, methods_of
  from jax_me.inference.explain.run import ExplainSession
  from jax_me.inference.model_input import InputForm
  from jax_me.inference.video.result_files import model_record
  from jax_me.inference.video.sources import find_footage
  from jax_me.models.model_folder import load_model
  from jax_me.progress import Progress

  inputs = find_footage(args.inputs)
  saved = load_model(args.checkpoint)
  methods = methods_of(saved, args.method)
  form = InputForm.of_source(saved.source, saved.image_size)
  align = form.align if args.align is None else args.align
  for footage in inputs:
    if footage.kind in ("video", "camera"):
      raise ValueError(
        f"{footage.name} is a {footage.kind}; give pictures, or folders with its frames as pictures"
      )
    if form.is_motion and footage.kind == "photograph" and args.align is not False:
      raise ValueError(
        f"the model was trained on motion ({form.input}), and {footage.name} is a single picture; "
        "give folders of frames, or with --no-align pictures of motion as the model saw in training"
      )
  if form.is_motion and args.align:
    raise ValueError("a model of motion aligns its clips as in training: leave --align away")
  machine: Explainer | FaceReconstructor
  if methods == ("reconstruction",):
    if args.label is not None:
      raise ValueError(
        f"{saved.name} is a masked autoencoder: it has no labels, leave --label away"
      )
    machine = FaceReconstructor(saved, mask_ratio=args.mask_ratio, seed=args.seed)
  else:
    if args.mask_ratio is not None:
      raise ValueError(f"{saved.name} is no masked autoencoder: leave --mask-ratio away")
    machine = Explainer(saved, methods)
    if args.label is not None:
      machine.index(args.label)
  if align:
    print(f"note: {LICENSE_NOTICE}", file=sys.stderr)
  model = model_record(saved, args.checkpoint) | {"methods": list(machine.methods)}
  if isinstance(machine, FaceReconstructor):
    model |= {"mask_ratio": machine.mask_ratio, "seed": machine.seed}
  progress = Progress("explain", sum(footage.length or 0 for footage in inputs))
  session = ExplainSession(
    saved,
    machine,
    args.output,
    model,
    progress,
    align=args.align,
    label=args.label,
    apex=args.apex,
  )
  interrupted = False
  try:
    for footage in inputs:
      session.run(footage)
  except KeyboardInterrupt:
    interrupted = True
  finally:
    progress.close()
    path = session.finish()
  print(", ".join(f"{count} {status}" for status, count in session.counts.items()))
  print(path)
  return 130 if interrupted else 0
