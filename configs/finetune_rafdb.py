"""Fine-tuning on RAF-DB, 7 expressions, from MAE, FCMAE or ImageNet weights.

  python run.py --config configs/finetune_rafdb.py --config.data.manual_dir=RAFDB \
      --config.init_from=CHECKPOINT

ViT-Base by default, by the recipe of MAE-SFER's main_rafdb.py (github.com/MSA-LMC/MAE-SFER); other
models by argument: `configs/finetune_rafdb.py:vit_tiny_patch16`, `:convnextv2_base` (its
main_finetune.py), `:t2t_vit_14` (T2T-ViT's transfer_learning.py, which was never published for
faces: take its score as unknown). CHECKPOINT is the workdir of a pre-training, or a converted
release. One GPU; 12,271 training images.

Expected accuracy (MAE-SFER's README, weights pre-trained on AffectNet for 300 epochs): ViT-Base
91.07 % (91.79 % with these augmentations), ViT-Small 90.03 %, ViT-Tiny 88.72 %, ConvNeXt V2-Base
89.52 %. Those are the best epoch on the test set; here the last epoch counts.

Differences from the originals: bfloat16 where they train in float16; each image draws its own
mixing, in timm one draw serves the batch; the ConvNeXt recipe's RandAugment is colour jitter here;
mean and std are ImageNet's for all, theirs came with the timm model.
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
