"""Fine-tuning on FER+, 8 expressions, majority labels, from MAE, FCMAE or ImageNet weights.

  python run.py --config configs/finetune_ferplus.py --config.data.manual_dir=FERPLUS \
      --config.init_from=CHECKPOINT

Source: MAE-SFER (github.com/MSA-LMC/MAE-SFER, file cmd_run): main_ferplus.py, which is not
published, with weight decay 1e-4 and layer decay 0.75. As far as its main_rafdb.py tells, the layer
decay has no effect, because every step sets the learning rate of all groups to the same value, and
the weight decay of its FusedAdam is decoupled. This recipe does the same; `:MODEL,layer_decay`
applies the layer decay, the sensible form. ViT-Base by default; other models:
`configs/finetune_ferplus.py:vit_tiny_patch16`, `:convnextv2_base`, `:t2t_vit_14` (the last two have
no published recipe for FER+ and use those of RAF-DB). Hardware: one GPU; 28,236 training images.

Trains on the training and validation images and tests on the test images (3,137 with the votes of
label.csv), as published scores do. `--config.data.options.mode=probability` (or multi_target)
trains on the distribution of the votes instead.

Expected accuracy (MAE-SFER's README, weights pre-trained on AffectNet for 300 epochs): ViT-Base
90.18 % (90.82 % with these augmentations), ViT-Small 89.35 %, ViT-Tiny 88.67 %. These are of the
best epoch on the test set; this recipe tests the last epoch.

Differences from the originals: as in configs/finetune_rafdb.py.
"""

from configs import families


def get_config(variant: str = "vit_base_patch16"):
  model, _, form = variant.partition(",")
  if form and (form != "layer_decay" or not model.startswith("vit_")):
    raise ValueError(f"finetune_ferplus takes MODEL, or vit_...,layer_decay; got {variant!r}")
  c = families.fine_tuning(model, "ferplus")
  c.data.train_splits = ("train", "validation")
  if model.startswith("vit_"):
    families.class_token_vit(c)
    c.optimizer.weight_decay = 1e-4
    c.optimizer.layer_decay = 0.75 if form else 1.0
  elif model.startswith("convnextv2_"):
    families.convnextv2(c)
  else:
    families.t2t_transfer(c)
  return c
