"""Fine-tuning on AffectNet, 8 or 7 expressions, from MAE, FCMAE or ImageNet weights.

  python run.py --config configs/finetune_affectnet.py --config.data.manual_dir=AFFECTNET \
      --config.init_from=CHECKPOINT

Source: MAE-SFER (github.com/MSA-LMC/MAE-SFER), which trains for few epochs to avoid overfitting the
noisy labels. ViT-Base and 8 classes by default. The argument is MODEL or MODEL,CLASSES:
`configs/finetune_affectnet.py:vit_tiny_patch16,7`, `:convnextv2_base`, `:t2t_vit_14`. Hardware: one
GPU; 287,651 training images (283,901 without contempt). There is no public test set, so scores are
reported on the validation images.

Expected accuracy (MAE-SFER's README, weights pre-trained on AffectNet for 300 epochs), 7 and 8
classes: ViT-Base 66.09 and 62.42 % (63.81 % with more augmentation), ViT-Small 65.53 and 62.06 %,
ViT-Tiny 64.25 and 61.45 %. These are of the best epoch on the validation set; this recipe evaluates
the last epoch.

`--config.affect_weight=1` also trains valence and arousal, as two outputs beside the classes.

Differences from the originals (main_finetune_affectnet.py is not published; what the command does
not give is MAE's default): bfloat16 instead of float16; mixup and CutMix are drawn
once for a batch of 32, not for each of 2 x 16 accumulated, and mix each image with the previous
one, not with that of the reversed batch; crops are drawn on the device, since the images of the
2021 release have 224 pixels (`--config.augment.crop_source=stored` for larger ones). ConvNeXt V2
and T2T-ViT have no published recipe for AffectNet; they use those of RAF-DB with 10 epochs. The
warm-up of 5 epochs is half of the run, as in the original.
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
      c.optimizer.warmup_epochs = 1.0
    else:
      families.t2t_transfer(c)
    c.epochs = 10.0
  c.checkpoint_steps = 2000
  c.log_steps = 50
  return c
