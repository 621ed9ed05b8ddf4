"""FCMAE pre-training of ConvNeXt V2 on AffectNet, the recipe of MAE-SFER (github.com/MSA-LMC).

  python run.py --config configs/fcmae_affectnet.py --config.data.manual_dir=AFFECTNET \
      --workdir runs/fcmae_affectnet

Without labels, on all images below a folder (train_set/images in the npy release):

  python run.py --config configs/fcmae_affectnet.py --config.data.name=labeled_images \
      --config.data.options.unlabeled=True --config.data.options.align=False \
      --config.data.manual_dir=AFFECTNET/Manually_Annotated_Images --workdir runs/fcmae_affectnet

ConvNeXt V2-Base, 400 epochs, batch size 512 (64 x 8 accumulated on one RTX 3090), as in MAE-SFER's
README. Its earlier README had 1600 epochs on 8 GPUs, that is a batch of 4096 (64 x 8 x 8), like the
paper: `configs/fcmae_affectnet.py:base,1600`. The argument is SIZE or SIZE,1600 with the sizes
atto, femto, pico, nano, tiny, base, large and huge. Hardware: GPU or TPU; if the batch does not
fit, `--config.accum_steps=8`.

The images of AffectNet's 2021 release have 224 pixels, so crops are drawn on the device. With
larger images, `--config.augment.crop_source=stored` crops from their resolution.

Expected after fine-tuning (MAE-SFER's README): RAF-DB 89.52 % for ConvNeXt V2-Base.

Differences from MAE-SFER: dense instead of sparse convolutions, with the same result; the norm of
GRN is over each image, as in fine-tuning, whereas the sparse library computes it over the batch of
a device (`--config.model.arguments.grn=batch` does too); bfloat16 instead of float16; crops have
sub-pixel edges.
"""

from configs import families
from configs.common import common

SIZES = ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")


def get_config(variant: str = "base"):
  size, _, epochs = variant.partition(",")
  if size not in SIZES or epochs not in ("", "400", "1600"):
    raise ValueError(
      f"fcmae_affectnet takes SIZE or SIZE,1600 with one of {', '.join(SIZES)}; got {variant!r}"
    )
  c = common()
  c.task = "mae"
  c.batch_size = 4096 if epochs == "1600" else 512
  c.epochs = float(epochs or 400)
  c.precision = "bfloat16"
  c.model.name = f"fcmae_convnextv2_{size}"
  c.model.image_size = 224
  with c.model.arguments.unlocked():
    c.model.arguments.norm_pix_loss = True
  c.data.name = "affectnet"
  c.data.split = "none"
  # Those of ImageNet, as in the original; measuring 287,651 images would take long.
  c.data.mean = families.IMAGENET_MEAN
  c.data.std = families.IMAGENET_STD
  families.random_resized_crop(c, 0.2)
  c.mae.mask_ratio = 0.6
  c.optimizer.base_learning_rate = 1.5e-4
  c.optimizer.weight_decay = 0.05
  c.optimizer.b2 = 0.95
  c.optimizer.warmup_epochs = 40.0
  c.evaluate_epochs = 20.0  # Between sheets of reconstructed faces.
  c.log_steps = 50
  c.checkpoint_steps = 1000
  return c
