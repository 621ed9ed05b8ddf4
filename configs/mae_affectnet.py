"""MAE pre-training on AffectNet, the recipe of MAE-SFER (github.com/MSA-LMC/MAE-SFER).

  python run.py --config configs/mae_affectnet.py --config.data.manual_dir=AFFECTNET \
      --workdir runs/mae_affectnet

Without labels, on all images below a folder (train_set/images in the npy release):

  python run.py --config configs/mae_affectnet.py --config.data.name=labeled_images \
      --config.data.options.unlabeled=True --config.data.options.align=False \
      --config.data.manual_dir=AFFECTNET/Manually_Annotated_Images --workdir runs/mae_affectnet

ViT-Base, 300 epochs. The effective batch size is 4096 in the MAE paper and 128 (32 x 4 accumulated)
in MAE-SFER; the learning rate is scaled with it. The argument selects another size:
`configs/mae_affectnet.py:small`, `:tiny`, `:large`. Hardware: GPU or TPU; ViT-Base takes days on
one GPU.

`configs/mae_affectnet.py:demo` needs no AffectNet: the same recipe on the demo clips with a small
ViT, for a CPU.

Expected after fine-tuning (MAE-SFER's README): RAF-DB 91.07 %, AffectNet-7 66.09 % for ViT-Base.

The images of AffectNet's 2021 release have 224 pixels, so crops are drawn on the device. With
larger images, `--config.augment.crop_source=stored` crops from their resolution.

Differences from MAE-SFER: bfloat16 instead of float16 (AMP); crops have sub-pixel edges.
"""

from configs import families
from configs.common import common

SIZES = ("tiny", "small", "base", "large")


def get_config(variant: str = "base"):
  if variant not in (*SIZES, "demo"):
    raise ValueError(
      f"the argument of mae_affectnet is one of {', '.join(SIZES)}, demo; got {variant!r}"
    )
  c = common()
  c.task = "mae"
  c.batch_size = 128
  c.epochs = 300.0
  c.precision = "bfloat16"
  c.model.name = f"mae_vit_{variant}_patch16"
  c.model.image_size = 224
  with c.model.arguments.unlocked():
    c.model.arguments.norm_pix_loss = False
  c.data.name = "affectnet"
  c.data.split = "none"
  # Those of ImageNet, as in the original; measuring 287,651 images would take long.
  c.data.mean = families.IMAGENET_MEAN
  c.data.std = families.IMAGENET_STD
  families.random_resized_crop(c, 0.2)
  c.mae.mask_ratio = 0.75
  c.optimizer.base_learning_rate = 1.5e-4
  c.optimizer.weight_decay = 0.05
  c.optimizer.b2 = 0.95
  c.optimizer.warmup_epochs = 40.0
  c.log_steps = 50
  c.checkpoint_steps = 2000
  if variant == "demo":
    _shrink_to_demo(c)
  return c


def _shrink_to_demo(c) -> None:
  """Reduces the recipe to synthetic faces and minutes on two CPU cores."""
  c.batch_size = 32
  c.epochs = 20.0
  c.precision = "float32"
  c.model.name = "mae_vit_tiny_patch16"
  c.model.image_size = 64
  with c.model.arguments.unlocked():
    c.model.arguments.patch_size = 8
    c.model.arguments.depth = 4
    c.model.arguments.decoder_embed_dim = 128
    c.model.arguments.decoder_depth = 2
    c.model.arguments.decoder_num_heads = 4
  c.data.name = "demo_clips"
  with c.data.options.unlocked():
    c.data.options.input = "apex"
  c.optimizer.base_learning_rate = 4e-3  # Higher than the original's, because there are few steps.
  c.optimizer.warmup_epochs = 2.0
  c.log_steps = 10
  c.checkpoint_steps = 200
