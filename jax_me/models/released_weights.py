"""Weights that the original projects released: model, address, published accuracy, licence."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from jax_me.image_preparation import ImagePreparation

_SIZES = ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")


@dataclasses.dataclass(frozen=True)
class ReleasedWeights:
  """A file that an original project released.

  Attributes:
    file: its name.
    model: key of `MODELS`.
    address: URL of the file.
    licence: of the weights.
    arguments: constructor keywords that differ from the model's defaults.
    top1: published ImageNet-1k accuracy in percent, None for a pre-training.
    note: what it was trained on or for.
    md5: first digits of the file's MD5, as the project publishes them; "" where it does not.
    preparation: resize and crop of images in the original evaluation.
  """

  file: str
  model: str
  address: str
  licence: str
  arguments: Mapping[str, Any]
  top1: float | None = None
  note: str = ""
  md5: str = ""
  preparation: ImagePreparation = ImagePreparation(
    224, "shortest_edge", 256, 224 / 256, interpolation="bicubic"
  )


def _t2t_vit() -> Iterator[ReleasedWeights]:
  """github.com/yitu-opensource/T2T-ViT."""
  for file, model, top1, image_size, note in (
    ("71.7_T2T_ViT_7", "t2t_vit_7", 71.7, 224, ""),
    ("75.2_T2T_ViT_10", "t2t_vit_10", 75.2, 224, ""),
    ("76.5_T2T_ViT_12", "t2t_vit_12", 76.5, 224, ""),
    ("81.5_T2T_ViT_14", "t2t_vit_14", 81.5, 224, ""),
    ("81.9_T2T_ViT_19", "t2t_vit_19", 81.9, 224, ""),
    ("82.3_T2T_ViT_24", "t2t_vit_24", 82.3, 224, ""),
    ("83.3_T2T_ViT_14", "t2t_vit_14", 83.3, 384, ""),
    ("84.2_T2T_ViT_24", "t2t_vit_24", 84.2, 224, "token labeling"),
    ("81.7_T2T_ViTt_14", "t2t_vit_t_14", 81.7, 224, ""),
    ("82.4_T2T_ViTt_19", "t2t_vit_t_19", 82.4, 224, ""),
    ("82.6_T2T_ViTt_24", "t2t_vit_t_24", 82.6, 224, ""),
  ):
    arguments: dict[str, Any] = {"image_size": image_size} if image_size != 224 else {}
    if note:
      arguments["token_labeling"] = True
    name = f"{file}.pth.tar"
    address = f"https://github.com/yitu-opensource/T2T-ViT/releases/download/main/{name}"
    # `crop_pct` in `_cfg` of its models; timm 0.3.4 rounds the size down.
    preparation = ImagePreparation(
      image_size, "shortest_edge", int(image_size / 0.9), 0.9, interpolation="bicubic"
    )
    yield ReleasedWeights(
      name, model, address, "Clear BSD", arguments, top1, note, preparation=preparation
    )


def _mae() -> Iterator[ReleasedWeights]:
  """github.com/facebookresearch/mae; MD5 from its README.md and FINETUNE.md."""
  encoders = {
    "base": "vit_base_patch16",
    "large": "vit_large_patch16",
    "huge": "vit_huge_patch14",
  }
  top1 = {"base": 83.664, "large": 85.952, "huge": 86.928}
  pretrain_md5 = {"base": "8cad7c", "large": "b8b06e", "huge": "9bdbb0"}
  finetune_md5 = {"base": "1b25e9", "large": "51f550", "huge": "2541f2"}

  def released(
    file: str, model: str, top1: float | None, note: str, md5: str = "", **arguments: Any
  ) -> ReleasedWeights:
    address = f"https://dl.fbaipublicfiles.com/mae/{file}"
    name = file.rpartition("/")[2]
    return ReleasedWeights(name, model, address, "CC BY-NC 4.0", arguments, top1, note, md5)

  for size, model in encoders.items():
    encoder, classifier = f"mae_pretrain_vit_{size}.pth", f"mae_finetuned_vit_{size}.pth"
    yield released(f"pretrain/{encoder}", model, None, "MAE encoder", pretrain_md5[size])
    yield released(f"finetune/{classifier}", model, top1[size], "", finetune_md5[size])
  for size in ("base", "large"):
    model = f"mae_{encoders[size]}"
    yield released(
      f"pretrain/mae_pretrain_vit_{size}_full.pth", model, None, "with decoder", norm_pix_loss=True
    )
    yield released(
      f"visualize/mae_visualize_vit_{size}.pth", model, None, "with decoder, unnormalised pixels"
    )
  yield released(
    "visualize/mae_visualize_vit_large_ganloss.pth",
    "mae_vit_large_patch16",
    None,
    "with decoder, GAN loss",
  )


def _convnext_v2() -> Iterator[ReleasedWeights]:
  """github.com/facebookresearch/ConvNeXt-V2."""
  top1 = dict(zip(_SIZES, (76.7, 78.5, 80.3, 81.9, 83.0, 84.9, 85.8, 86.3), strict=True))
  top1_22k = {
    "nano": {224: 82.1, 384: 83.4},
    "tiny": {224: 83.9, 384: 85.1},
    "base": {224: 86.8, 384: 87.7},
    "large": {224: 87.3, 384: 88.2},
    "huge": {384: 88.7, 512: 88.9},
  }

  def released(
    file: str, size: str, top1: float | None, note: str, image_size: int = 224
  ) -> ReleasedWeights:
    address = f"https://dl.fbaipublicfiles.com/convnext/convnextv2/{file}"
    arguments = {"image_size": image_size} if image_size != 224 else {}
    name = file.rpartition("/")[2]
    weights = ReleasedWeights(
      name, f"convnextv2_{size}", address, "CC BY-NC", arguments, top1, note
    )
    if image_size < 384:
      return weights
    # Its evaluation stretches larger images (datasets.py).
    stretched = ImagePreparation(image_size, "stretch", interpolation="bicubic")
    return dataclasses.replace(weights, preparation=stretched)

  for size in _SIZES:
    yield released(f"pt_only/convnextv2_{size}_1k_224_fcmae.pt", size, None, "FCMAE encoder")
    yield released(f"im1k/convnextv2_{size}_1k_224_ema.pt", size, top1[size], "")
  for size, scores in top1_22k.items():
    for side, score in scores.items():
      file = f"im22k/convnextv2_{size}_22k_{side}_ema.pt"
      yield released(file, size, score, "ImageNet-22k, then 1k", side)


RELEASED_WEIGHTS: tuple[ReleasedWeights, ...] = (*_t2t_vit(), *_mae(), *_convnext_v2())


def released_weights(model: str) -> list[ReleasedWeights]:
  """The released files of a model."""
  return [weights for weights in RELEASED_WEIGHTS if weights.model == model]
