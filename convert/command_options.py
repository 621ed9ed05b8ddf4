"""Parsers of the conversion's command-line options: sizes of the model, numbers by channel."""

import argparse
from collections.abc import Callable
from typing import Any


def _integers(text: str) -> list[int]:
  return [int(part) for part in text.split(",")]


def channel_numbers(text: str) -> list[float]:
  """Three numbers of a command line, as "0.5,0.5,0.5".

  Raises:
    argparse.ArgumentTypeError: other text.
  """
  try:
    values = [float(part) for part in text.split(",")]
  except ValueError:
    values = []
  if len(values) != 3:
    raise argparse.ArgumentTypeError("three numbers are needed, for R, G and B")
  return values


def _boolean(text: str) -> bool:
  if text.lower() not in ("true", "false"):
    raise argparse.ArgumentTypeError("true or false is needed")
  return text.lower() == "true"


# Constructor keywords of the command line: parser of the value and help text.
SIZE_OPTIONS: dict[str, tuple[Callable[[str], Any], str]] = {
  "num_classes": (int, "classes of the head; another number than the file's gives a fresh head"),
  "image_size": (int, "side of the input in pixels; resizes the position table"),
  "global_pool": (_boolean, "ViT: true pools the patch tokens, false takes the class token"),
  "token_labeling": (_boolean, "T2T-ViT: keep the auxiliary head of token labeling"),
  "patch_size": (int, "ViT, MAE: side of a patch in pixels"),
  "embed_dim": (int, "width of the tokens"),
  "depth": (int, "number of blocks"),
  "num_heads": (int, "attention heads; cannot be inferred from a file"),
  "mlp_ratio": (float, "hidden width of the MLPs over embed_dim"),
  "norm_epsilon": (float, "ViT, MAE: epsilon of the layer norms; cannot be inferred from a file"),
  "final_norm_epsilon": (float, "ConvNeXt V2: epsilon of the norm before the head"),
  "tokens_type": (str, "T2T-ViT: performer or transformer"),
  "token_dim": (int, "T2T-ViT: width of the tokens-to-token module"),
  "decoder_embed_dim": (int, "MAE, FCMAE: width of the decoder"),
  "decoder_depth": (int, "MAE, FCMAE: blocks of the decoder"),
  "decoder_num_heads": (int, "MAE: attention heads of the decoder"),
  "norm_pix_loss": (_boolean, "MAE, FCMAE: whether the loss normalises each patch"),
  "depths": (_integers, "ConvNeXt V2: blocks of the four stages, as 2,2,6,2"),
  "dims": (_integers, "ConvNeXt V2: channels of the four stages, as 40,80,160,320"),
}
