"""Fine-tuning on AffectNet, 8 or 7 expressions, from MAE, FCMAE or ImageNet weights.

  python run.py --config configs/finetune_affectnet.py --config.data.manual_dir=AFFECTNET \
      --config.init_from=CHECKPOINT

ViT-Base and 8 classes by default, by MAE-SFER's recipe (github.com/MSA-LMC/MAE-SFER): few epochs,
against overfitting the noisy labels. Model and classes by argument:
`configs/finetune_affectnet.py:vit_tiny_patch16,7`, `:convnextv2_base`, `:t2t_vit_14`. One GPU;
287,651 training images (283,901 without contempt). There is no public test set: the validation
images are the ones reported.

Expected accuracy (MAE-SFER's README, weights pre-trained on AffectNet for 300 epochs), 7 and 8
classes: ViT-Base 66.09 and 62.42 % (63.81 % with more augmentation), ViT-Small 65.53 and 62.06 %,
ViT-Tiny 64.25 and 61.45 %. Those are the best epoch on the validation set; here the last one
counts.

Differences from the originals: bfloat16 where they train in float16; colour jitter where MAE's
main_finetune.py has RandAugment; each image draws its own mixing, in timm one draw serves the
batch. For ConvNeXt V2 and T2T-ViT nothing was published: the recipes of RAF-DB, cut to 10 epochs.
"""

from configs import families


def get_config(variant: str = "vit_base_patch16"):
  model, _, classes = variant.partition(",")
  if classes not in ("", "7", "8"):
    raise ValueError(f"finetune_affectnet takes MODEL, MODEL,7 or MODEL,8; got {variant!r}")
  c = families.fine_tuning(model, "affectnet")
  with c.data.options.unlocked():
    c.data.options.classes = int(classes or 8)
  if model.startswith("vit_"):
    families.mae_vit(c)
  else:
    if model.startswith("convnextv2_"):
      families.convnextv2(c)
    else:
      families.t2t_transfer(c)
    c.epochs = 10.0
    c.optimizer.warmup_epochs = 1.0
  c.checkpoint_steps = 2000
  c.log_steps = 50
  return c
