"""Masked-autoencoder pre-training on your own photographs, no labels needed for learning.

  python run.py --config configs/mae_images.py --config.data.manual_dir=FOLDER --workdir runs/mae

Then fine-tune from it with the same patches:

  python run.py --config configs/finetune_images.py --config.data.manual_dir=FOLDER \
      --config.model.arguments.patch_size=8 --config.init_from=runs/mae --workdir runs/finetuned

The report shows faces masked, painted by the model, and as they were. Another model by argument:
`configs/mae_images.py:mae_vit_small_patch16`, or `:fcmae_convnextv2_atto` (32 x 32 patches of
128 x 128 pixels), from which `configs/finetune_images.py:convnextv2_atto` starts.
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
      # Small patches, so that there is something to paint; a small decoder is enough for them.
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
  c.augment.crop_scale = (0.6, 1.0)
  c.augment.flip = 0.5
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-3
  c.optimizer.b2 = 0.95
  c.optimizer.warmup_epochs = 20.0
  return c
