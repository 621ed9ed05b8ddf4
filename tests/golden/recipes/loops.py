"""The training programs of the originals, started with small models and the recipes' commands.

Each function starts the program of one recipe as its command line would: the originals' own
argument parsers, parameter groups, schedulers and loops run unchanged. Left out are mixup and
stochastic depth, whose random numbers are not ours, dropout, and the files of images.
"""

import functools
import pathlib
import runpy
import sys
from collections.abc import Callable

import torch
from torch import nn

from tests.golden.recipes import stand_ins
from tests.golden.recipes.stand_ins import FixedBatches, FixedImages
from tests.helpers.recipe_loops import loop_noise, loop_weights

# The widths are small, the depths those of the recipes' models, so that all their groups occur.
VIT = {"embed_dim": 24, "depth": 12, "num_heads": 3, "mlp_ratio": 2}
CONVNEXT = {"depths": [3, 3, 27, 3], "dims": [8, 8, 16, 16]}
T2T = {"embed_dim": 24, "depth": 14, "num_heads": 3, "mlp_ratio": 3.0, "token_dim": 8}
# (model made) -> None; `record.py` sets it.
watch: Callable[[nn.Module], None] = lambda model: None  # noqa: E731


def small(build: Callable[..., nn.Module], **fixed: object) -> Callable[..., nn.Module]:
  """A constructor in place of a large model's; the weights are those of `loop_weights`."""

  def construct(**keywords: object) -> nn.Module:
    model = build(**{**keywords, **fixed}).double()
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    weights = {key: torch.from_numpy(value) for key, value in loop_weights(shapes).items()}
    model.load_state_dict(weights)
    for layer in model.modules():
      if isinstance(layer, nn.Dropout):
        layer.p = 0.0
    watch(model)
    return model

  return construct


def register(name: str, construct: Callable[..., nn.Module]) -> None:
  """Makes `construct` known to timm's create_model."""
  from timm.models.registry import register_model

  def build(pretrained: bool = False, in_chans: int = 3, **keywords: object) -> nn.Module:
    return construct(**keywords)

  build.__name__ = name
  register_model(build)


def enter(folder: pathlib.Path) -> None:
  """Lets the modules of an original be imported."""
  sys.path.insert(0, str(folder))


def draw_recorded_noise() -> None:
  """Masks of MAE and FCMAE from `loop_noise`."""
  drawn = 0

  def draw(images: int, patches: int, device: object = None) -> torch.Tensor:
    nonlocal drawn
    drawn += 1
    return torch.from_numpy(loop_noise(drawn - 1, (images, patches)))

  torch.rand = torch.randn = draw


def mae_affectnet(originals: pathlib.Path) -> None:
  enter(originals / "mae")
  import main_pretrain as program
  from models_mae import MaskedAutoencoderViT

  program.models_mae.small = small(
    MaskedAutoencoderViT,
    img_size=32,
    patch_size=8,
    decoder_embed_dim=16,
    decoder_depth=8,
    decoder_num_heads=2,
    norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    **VIT,
  )
  command = "--model small --batch_size 32 --accum_iter 4 --mask_ratio 0.75 --blr 1.5e-4"
  command += " --weight_decay 0.05 --epochs 6 --warmup_epochs 2 --device cpu --output_dir="
  draw_recorded_noise()
  program.main(program.get_args_parser().parse_args(command.split()))


def fcmae_affectnet(originals: pathlib.Path) -> None:
  FixedBatches.side = 64
  stand_ins.install_minkowski()
  enter(originals / "ConvNeXt-V2")
  import main_pretrain as program

  program.fcmae.small = small(program.fcmae.FCMAE, img_size=64, **CONVNEXT)
  command = "--model small --batch_size 64 --update_freq 8 --blr 1.5e-4 --decoder_embed_dim 16"
  command += " --epochs 6 --warmup_epochs 2 --device cpu"
  draw_recorded_noise()
  program.main(program.get_args_parser().parse_args(command.split()))


def _main_rafdb(originals: pathlib.Path, options: str) -> None:
  FixedBatches.with_index = True
  stand_ins.install_cuda()
  stand_ins.install_apex()
  enter(originals / "MAE-SFER")
  import main_rafdb as program
  from models.vit import ViTFixedPE, _cfg

  def build(**keywords: object) -> nn.Module:
    model = ViTFixedPE(**keywords)
    model.default_cfg = _cfg(mean=(0.5,) * 3, std=(0.5,) * 3)
    return model

  norm = functools.partial(nn.LayerNorm, eps=1e-6)
  vit = dict(img_size=32, patch_size=8, qkv_bias=True, norm_layer=norm, **VIT)
  register("small_vit", small(build, **vit))
  program.prepare_dataset = lambda arguments, settings: (FixedImages(), FixedImages())
  program.logs.configure = lambda arguments: None
  pathlib.Path("checkpoint").mkdir()
  command = "--learning-rate 1e-5 --epochs 100 --model-name small_vit --loss-fn smoothCE"
  sys.argv = ["main_rafdb.py", *f"{command} {options}".split()]
  program.main()


def finetune_rafdb(originals: pathlib.Path) -> None:
  _main_rafdb(originals, "")


def finetune_ferplus(originals: pathlib.Path) -> None:
  _main_rafdb(originals, "--weight-decay 1e-4 --layer-decay 0.75")


def finetune_affectnet(originals: pathlib.Path) -> None:
  enter(originals / "mae")
  import main_finetune as program
  from models_vit import VisionTransformer

  norm = functools.partial(nn.LayerNorm, eps=1e-6)
  vit = dict(img_size=32, patch_size=8, qkv_bias=True, norm_layer=norm, **VIT)
  program.models_vit.small = small(VisionTransformer, **vit)
  command = "--model small --nb_classes 7 --batch_size 16 --accum_iter 2 --blr 5e-4"
  command += " --layer_decay 0.65 --weight_decay 0.05 --drop_path 0 --reprob 0.25 --epochs 10"
  command += " --device cpu --output_dir="
  program.main(program.get_args_parser().parse_args(command.split()))


def finetune_rafdb_convnextv2(originals: pathlib.Path) -> None:
  stand_ins.install_minkowski()
  enter(originals / "ConvNeXt-V2")
  import main_finetune as program

  program.convnextv2.small = small(program.convnextv2.ConvNeXtV2, **CONVNEXT)
  command = "--model small --batch_size 32 --update_freq 4 --blr 6.25e-4 --epochs 6"
  command += " --warmup_epochs 2 --layer_decay_type group --layer_decay 0.6 --weight_decay 0.05"
  command += " --drop_path 0 --reprob 0.25 --smoothing 0.1 --model_ema True --model_ema_eval True"
  command += " --use_amp True --data_set image_folder --nb_classes 7 --eval_data_path val"
  command += " --device cpu"
  program.main(program.get_args_parser().parse_args(command.split()))


def finetune_rafdb_t2t(originals: pathlib.Path) -> None:
  FixedBatches.classes = 10
  stand_ins.install_cuda()
  enter(originals / "T2T-ViT")
  from models.t2t_vit import T2T_ViT

  register("small_t2t", small(T2T_ViT, **T2T))
  weights = small(T2T_ViT, **T2T)(num_classes=10, img_size=32).state_dict()
  pathlib.Path("file.pth").touch()
  torch.load = lambda path, map_location: {"state_dict_ema": weights}
  command = "--lr 0.05 --b 64 --img-size 32 --transfer-learning True --transfer-model file.pth"
  command += " --model small_t2t --drop-path 0"
  program = str(originals / "T2T-ViT" / "transfer_learning.py")
  sys.argv = [program, *command.split()]
  runpy.run_path(program, run_name="__main__")


def t2t_imagenet_style(originals: pathlib.Path) -> None:
  enter(originals / "T2T-ViT")
  import main as program
  from models.t2t_vit import T2T_ViT

  register("small_t2t", small(T2T_ViT, **T2T))
  program.Dataset = FixedImages
  for name in ("train", "val"):
    pathlib.Path(name).mkdir()
  command = ". --model small_t2t --num-classes 7 --img-size 32 -b 64 --lr 5e-4 --weight-decay .05"
  command += " --epochs 10 --warmup-epochs 3 --cooldown-epochs 4 --drop-path 0 --mixup 0 --cutmix 0"
  sys.argv = ["main.py", *f"{command} --amp --no-prefetcher".split()]
  program.main()


def t2t_microexpression(originals: pathlib.Path) -> None:
  FixedBatches.classes = 3
  enter(originals / "ViT_MicroExpression")
  import timm
  import torchtoolbox.tools
  from models.t2t_vit import T2T_ViT

  # train.py has the lines of T2T-ViT as comments and creates a Swin transformer.
  construct = small(T2T_ViT, img_size=32, **T2T)
  timm.models.swin_base_patch4_window7_224 = lambda pretrained, num_classes: construct(
    num_classes=num_classes
  )
  torchtoolbox.tools.mixup_data = lambda images, labels: (images, labels, labels, 1.0)
  pathlib.Path("savedModels").mkdir()
  runpy.run_path(str(originals / "ViT_MicroExpression" / "train.py"), run_name="__main__")


# Recipe -> (its program, steps of an epoch, microbatches of a step).
PROGRAMS: dict[str, tuple[Callable[[pathlib.Path], None], int, int]] = {
  "mae_affectnet": (mae_affectnet, 4, 4),
  "fcmae_affectnet": (fcmae_affectnet, 4, 8),
  "finetune_rafdb": (finetune_rafdb, 1, 1),
  "finetune_ferplus": (finetune_ferplus, 1, 1),
  "finetune_affectnet": (finetune_affectnet, 4, 2),
  "finetune_rafdb.py:convnextv2_base": (finetune_rafdb_convnextv2, 4, 4),
  "finetune_rafdb.py:t2t_vit_14": (finetune_rafdb_t2t, 1, 1),
  "t2t_imagenet_style": (t2t_imagenet_style, 4, 1),
  "t2t_microexpression": (t2t_microexpression, 2, 1),
}
