"""Shared settings of the fine-tuning recipes for each model family; not a recipe."""

from ml_collections import ConfigDict

from configs.common import common

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# The statistics with which T2T-ViT's transfer_learning.py normalises.
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)
FAMILIES = ("vit_", "convnextv2_", "t2t_vit_")


def fine_tuning(model: str, dataset: str) -> ConfigDict:
  """Settings of fine-tuning on a public face dataset, for all model families."""
  if not model.startswith(FAMILIES):
    raise ValueError(
      f"a fine-tuning recipe takes a classifier, {', '.join(f + '*' for f in FAMILIES)}; "
      f"got {model!r}"
    )
  c = common()
  c.model.name = model
  c.model.image_size = 224
  c.precision = "bfloat16"
  c.data.name = dataset
  c.data.split = "official"
  c.data.mean = IMAGENET_MEAN
  c.data.std = IMAGENET_STD
  c.evaluate_epochs = 1.0
  c.checkpoint_steps = 500
  return c


def class_token_vit(c: ConfigDict) -> None:
  """MAE-SFER's main_rafdb.py: ViT with class token, fixed positions, Adam, step schedule.

  Its Adam is apex's FusedAdam, whose weight decay is decoupled, as in AdamW.
  """
  with c.model.arguments.unlocked():
    c.model.arguments.global_pool = False
    c.model.arguments.train_positions = False
  c.batch_size = 32
  c.epochs = 120.0
  c.label_smoothing = 0.1  # The default of timm's Mixup.
  c.mixing.mode = "batch"
  c.mixing.mixup_alpha = 1.0
  c.augment.flip = 0.5
  c.augment.jitter_prob = 0.5  # Of colour and affine changes together.
  c.augment.brightness = c.augment.contrast = c.augment.saturation = c.augment.hue = 0.25
  c.augment.translate = 0.1
  c.augment.zoom = (1.0, 1.25)
  c.augment.erase_prob = 0.5
  c.augment.erase_area = (0.02, 0.25)
  c.augment.erase_ratio = (0.3, 3.3)
  c.augment.erase_mode = "zero"
  c.eval.interpolation = "bilinear"
  c.optimizer.name = "adamw"
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-5
  c.optimizer.weight_decay = 0.0
  c.optimizer.schedule = "step"
  c.optimizer.milestones = (35, 65, 95)
  c.optimizer.warmup_epochs = 0.0


def mae_vit(c: ConfigDict) -> None:
  """MAE's main_finetune.py as used by MAE-SFER on AffectNet: global pooling, AdamW, cosine."""
  with c.model.arguments.unlocked():
    c.model.arguments.global_pool = True
    c.model.arguments.drop_path_rate = 0.1
  c.head_std = 2e-5
  c.batch_size = 32
  c.epochs = 10.0
  c.label_smoothing = 0.1
  c.mixing.mode = "batch"
  c.mixing.mixup_alpha = 0.8
  c.mixing.cutmix_alpha = 1.0
  _imagenet_augmentation(c)
  c.optimizer.base_learning_rate = 5e-4
  c.optimizer.min_learning_rate = 1e-6
  c.optimizer.weight_decay = 0.05
  c.optimizer.layer_decay = 0.65
  c.optimizer.warmup_epochs = 5.0


def convnextv2(c: ConfigDict) -> None:
  """ConvNeXt V2's main_finetune.py as used by MAE-SFER on RAF-DB."""
  with c.model.arguments.unlocked():
    c.model.arguments.drop_path_rate = 0.1
  c.head_std = 2e-5
  c.batch_size = 128
  c.accum_steps = 4
  c.epochs = 100.0
  c.label_smoothing = 0.1
  c.ema_decay = 0.9999
  c.mixing.mode = "batch"
  c.mixing.mixup_alpha = 0.8
  c.mixing.cutmix_alpha = 1.0
  _imagenet_augmentation(c)
  c.optimizer.base_learning_rate = 6.25e-4
  c.optimizer.min_learning_rate = 1e-6
  c.optimizer.weight_decay = 0.05
  c.optimizer.layer_decay = 0.6
  c.optimizer.layer_decay_type = "group"
  c.optimizer.warmup_epochs = 20.0


def t2t_transfer(c: ConfigDict) -> None:
  """T2T-ViT's transfer_learning.py: SGD, cosine, backbone learning rate divided by 100."""
  with c.model.arguments.unlocked():
    c.model.arguments.drop_path_rate = 0.1
  c.batch_size = 64
  c.epochs = 60.0
  # The class token and the last norm are in no parameter group.
  c.freeze = "token_and_norm"
  c.data.mean = CIFAR_MEAN
  c.data.std = CIFAR_STD
  c.augment.flip = 0.5
  c.augment.translate = 1 / 8
  c.eval.interpolation = "bilinear"
  c.eval.resize = "shortest_edge"
  c.optimizer.name = "sgd"
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 0.05
  c.optimizer.min_learning_rate = 2e-4
  c.optimizer.scale_minimum = False
  c.optimizer.interval = "epoch"
  c.optimizer.weight_decay = 5e-4
  c.optimizer.decay_all = True
  c.optimizer.layer_decay = 0.01
  c.optimizer.layer_decay_type = "backbone"
  c.optimizer.warmup_epochs = 0.0


def random_resized_crop(c: ConfigDict, least: float) -> None:
  """torchvision's RandomResizedCrop, from at least a share of the stored image's area."""
  c.augment.crop_scale = (least, 1.0)
  c.augment.crop_ratio = (3 / 4, 4 / 3)
  # The images of AffectNet's 2021 release have 224 pixels: crops on the device are the same.
  c.augment.crop_source = "read" if c.data.name == "affectnet" else "stored"
  c.augment.flip = 0.5


def central_crop(c: ConfigDict, fraction: float) -> None:
  """Evaluation: resize of the shorter side (bicubic), then the central crop."""
  c.eval.resize = "shortest_edge"
  c.eval.crop = fraction
  c.eval.interpolation = "bicubic"


def _imagenet_augmentation(c: ConfigDict) -> None:
  """Training and evaluation images of MAE's and ConvNeXt V2's main_finetune.py."""
  random_resized_crop(c, 0.08)
  c.augment.rand_augment = "rand-m9-mstd0.5-inc1"
  c.augment.erase_prob = 0.25
  central_crop(c, 224 / 256)
