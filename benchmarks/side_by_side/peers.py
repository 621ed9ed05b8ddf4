"""Models of other projects that the rows are compared with."""

import contextlib
import importlib
import io
import pathlib
import subprocess
import sys
import warnings
from collections.abc import Callable

from torch import nn

from benchmarks.side_by_side.side import UnavailableError

INSTALL = 'pip install "jax_me[bench]"'
T2T_ADDRESS = "https://github.com/yitu-opensource/T2T-ViT"


def _timm(name: str, **arguments: str) -> Callable[..., tuple[nn.Module, str]]:
  def build(originals: pathlib.Path | None) -> tuple[nn.Module, str]:
    timm = _library("timm")
    return timm.create_model(name, **arguments), f"timm {timm.__version__}"

  return build


def _vit_mae(originals: pathlib.Path | None) -> tuple[nn.Module, str]:
  transformers = _library("transformers")
  # The defaults of the configuration are ViT-B with a decoder of 8 blocks and mask ratio 0.75.
  model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig())
  return model, f"transformers {transformers.__version__}"


def _masked_dense(originals: pathlib.Path | None) -> tuple[nn.Module, str]:
  timm = _library("timm")
  from benchmarks.side_by_side.masked_dense import MaskedDenseFCMAE

  layers = f"masked dense, layers of timm {timm.__version__}"
  return MaskedDenseFCMAE("convnextv2_base", mask_ratio=0.6), layers


def _t2t_vit(originals: pathlib.Path | None) -> tuple[nn.Module, str]:
  _library("timm")
  if originals is None:
    raise UnavailableError(f"needs --originals DIR with a clone of {T2T_ADDRESS} in DIR/T2T-ViT")
  folder = originals / "T2T-ViT"
  if not (folder / "models" / "t2t_vit.py").is_file():
    raise UnavailableError(f"{folder} is no clone of {T2T_ADDRESS}")
  sys.path.insert(0, str(folder))
  try:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
      warnings.simplefilter("ignore")  # Old names of modules of timm.
      from models.t2t_vit import t2t_vit_14

      model = t2t_vit_14()
  finally:
    sys.path.remove(str(folder))
  command = ["git", "-C", str(folder), "rev-parse", "--short", "HEAD"]
  commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
  return model, f"yitu-opensource/T2T-ViT {commit}"


def _library(name: str):
  try:
    return importlib.import_module(name)
  except ImportError as error:
    raise UnavailableError(f"{name} cannot be imported ({error}): {INSTALL}") from error


# (folder of originals) -> (model, its source); raises UnavailableError.
PEERS: dict[str, Callable[[pathlib.Path | None], tuple[nn.Module, str]]] = {
  # With the mean of the patch tokens, as in MAE's fine-tuning and in jax_me.
  "timm ViT-B": _timm("vit_base_patch16_224", global_pool="avg"),
  "timm ConvNeXt V2-B": _timm("convnextv2_base"),
  "timm ConvNeXt V2-atto": _timm("convnextv2_atto"),
  "transformers ViTMAE-B": _vit_mae,
  "original T2T-ViT-14": _t2t_vit,
  "masked dense FCMAE-B": _masked_dense,
}
# Models that mix float32 with the dtype of their weights, which autocast permits.
AUTOCAST_ONLY = ("original T2T-ViT-14",)
