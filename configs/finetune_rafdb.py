"""Fine-tuning on RAF-DB, 7 expressions, from MAE, FCMAE or ImageNet weights.

  python run.py --config configs/finetune_rafdb.py --config.data.manual_dir=RAFDB \
      --config.init_from=CHECKPOINT

Source: main_rafdb.py of MAE-SFER (github.com/MSA-LMC/MAE-SFER) for ViT, ViT-Base by default. The
argument selects another model: `configs/finetune_rafdb.py:vit_tiny_patch16`, `:convnextv2_base`
(MAE-SFER's main_finetune.py), `:t2t_vit_14` (T2T-ViT's transfer_learning.py; no published score on
faces). CHECKPOINT is the workdir of a pre-training or a converted checkpoint. Hardware: one GPU;
12,271 training images.

Expected accuracy (MAE-SFER's README, weights pre-trained on AffectNet for 300 epochs): ViT-Base
91.07 % (91.79 % with these augmentations), ViT-Small 90.03 %, ViT-Tiny 88.72 %, ConvNeXt V2-Base
89.52 %. These are of the best epoch on the test set; this recipe tests the last epoch.

ViT-Small has 16 x 16 patches here (`:vit_small_patch16`). MAE-SFER's models/vit.py builds it with
patches of 32, but its pre-trained file has patches of 16, and its loader then replaces the patch
embedding and the position table by untrained ones (the table by zeros, without training it); the
21.9 M parameters that it publishes are those of 16. `:vit_small_patch32` builds the other one.

Differences from the originals: bfloat16 instead of float16; mixup and CutMix mix each image with
the previous one, in timm with that of the reversed batch. For ViT, images are resized to 224 pixels
before colour jitter and shifts, not after, and the colour changes have a fixed order. For T2T-ViT,
shifts are not whole pixels.
"""

from configs import families


def get_config(model: str = "vit_base_patch16"):
  c = families.fine_tuning(model, "raf_db")
  if model.startswith("vit_"):
    families.class_token_vit(c)
  elif model.startswith("convnextv2_"):
    families.convnextv2(c)
  else:
    families.t2t_transfer(c)
  return c
