"""Masked-autoencoder (MAE) pre-training on your own images; training does not use labels.

  python run.py --config configs/mae_images.py --config.data.manual_dir=FOLDER --workdir runs/mae

FOLDER needs no labels: without labels.csv and class folders all images below it are used, for
example those of FOLDER/train.

Fine-tuning from its weights, with the same patch size:

  python run.py --config configs/finetune_images.py --config.data.manual_dir=FOLDER \
      --config.model.arguments.patch_size=8 --config.init_from=runs/mae --workdir runs/finetuned

Quick measures of a pre-training, on labelled images: --config.freeze=backbone in this command
trains only the head (linear probing), and --mode knn --checkpoint runs/mae in place of init_from
gives the accuracy of nearest neighbours, without training.

The argument is the model: `configs/mae_images.py:mae_vit_small_patch16`, or
`:fcmae_convnextv2_atto` (32 x 32 patches of 128 x 128 pixels) to fine-tune
`configs/finetune_images.py:convnextv2_atto`. The small default model is made for a CPU.

Expected: the report shows masked, reconstructed and original faces; there is no score. Differences
from MAE's recipe: small images, patches and decoder, and an absolute learning rate.
"""

from configs.common import common


def get_config(model: str = "mae_vit_tiny_patch16"):
  c = common()
  c.task = "mae"
  c.batch_size = 32
  c.epochs = 200.0
  c.model.name = model
  c.model.image_size = 64
  with c.model.arguments.unlocked():
    c.model.arguments.norm_pix_loss = False
  if model.startswith("fcmae_"):
    c.model.image_size = 128
    c.mae.mask_ratio = 0.6
  else:
    with c.model.arguments.unlocked():
      # Small patches, so that small images have enough of them; a small decoder is sufficient.
      c.model.arguments.patch_size = 8
      c.model.arguments.depth = 4
      c.model.arguments.decoder_embed_dim = 128
      c.model.arguments.decoder_depth = 2
      c.model.arguments.decoder_num_heads = 4
  c.data.name = "labeled_images"
  c.data.split = "none"
  with c.data.options.unlocked():
    c.data.options.align = True
    c.data.options.size = 128
    c.data.options.unlabeled = True
  c.augment.crop_scale = (0.6, 1.0)
  c.augment.flip = 0.5
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-3
  c.optimizer.b2 = 0.95
  c.optimizer.warmup_epochs = 20.0
  return c
