"""T2T-ViT from random weights on a large folder of labelled images, as it is trained on ImageNet.

  python run.py --config configs/t2t_imagenet_style.py --config.data.manual_dir=FOLDER

FOLDER contains <train|val|test>/<class>/<image>, or a labels.csv with a column split. T2T-ViT-14 by
default; the argument selects another model: `configs/t2t_imagenet_style.py:t2t_vit_7`.

Source: main.py of T2T-ViT (github.com/yitu-opensource/T2T-ViT): AdamW, learning rate 5e-4 (lite
models, _7 to _12: 1e-3), weight decay 0.05 (lite 0.03; _19 and _24 0.065), batch size 64 on each of
8 GPUs, 300 epochs and 10 more at the least learning rate. Hardware: GPUs or TPUs; crops are drawn
from the stored images while they are decoded, so give `--config.data.workers` on machines with many
cores. For hundreds of thousands of images; with fewer, start from released weights instead
(`--config.init_from`, configs/finetune_images.py).

Expected on ImageNet (T2T-ViT's README): 71.7 % for _7, 81.5 % for _14, 81.9 % for _19, 82.3 % for
_24.

Differences from the original: bfloat16 instead of float16; mixup and CutMix follow random erasing,
in timm they precede it, and mix each image with the previous one, not with the reversed batch.
"""

from configs import families
from configs.common import common

LITE = ("t2t_vit_7", "t2t_vit_10", "t2t_vit_12")
LARGE = ("t2t_vit_19", "t2t_vit_24", "t2t_vit_t_19", "t2t_vit_t_24")


def get_config(model: str = "t2t_vit_14"):
  c = common()
  c.batch_size = 512
  c.epochs = 310.0
  c.precision = "bfloat16"
  c.label_smoothing = 0.1
  c.ema_decay = 0.99996
  c.model.name = model
  c.model.image_size = 224
  with c.model.arguments.unlocked():
    c.model.arguments.drop_path_rate = 0.1
  c.data.name = "labeled_images"
  c.data.split = "official"
  c.data.mean = families.IMAGENET_MEAN
  c.data.std = families.IMAGENET_STD
  with c.data.options.unlocked():
    c.data.options.align = False
  families.random_resized_crop(c, 0.08)
  c.augment.crop_interpolation = "random"
  c.augment.rand_augment = "rand-m9-mstd0.5-inc1"
  c.augment.rand_interpolation = "random"
  c.augment.erase_prob = 0.25
  families.central_crop(c, 0.9)
  c.mixing.mode = "batch"
  c.mixing.mixup_alpha = 0.8
  c.mixing.cutmix_alpha = 1.0
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-3 if model in LITE else 5e-4
  c.optimizer.min_learning_rate = 1e-5
  c.optimizer.weight_decay = 0.03 if model in LITE else 0.065 if model in LARGE else 0.05
  c.optimizer.interval = "epoch"
  c.optimizer.cosine_start = "run"
  c.optimizer.cosine_epochs = 300.0
  c.optimizer.warmup_epochs = 10.0
  c.optimizer.warmup_learning_rate = 1e-6
  c.evaluate_epochs = 5.0
  c.log_steps = 50
  c.checkpoint_steps = 1000
  return c
