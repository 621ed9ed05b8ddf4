"""Training on your own images: a folder with labels.csv, or with one subfolder per class.

  python run.py --config configs/finetune_images.py --config.data.manual_dir=FOLDER

Aligns the faces and evaluates by 5-fold cross-validation with disjoint subjects; the report pools
the predictions of all folds.

For a few hundred images and a CPU: small inputs, by default a ViT-Tiny with four blocks and 4 x 4
patches. The argument selects another model, with inputs of 112 x 112 pixels:
`configs/finetune_images.py:t2t_vit_7`, `:convnextv2_atto`, `:vit_small_patch16`, ...

Expected from random weights: accuracy 0.86 to 0.90 on 62 subjects of the Face Research Lab London
Set, neutral against smiling. No original: all settings are our own.
"""

from configs.common import common

DEFAULT_MODEL = "vit_tiny_patch16"


def get_config(model: str = DEFAULT_MODEL):
  c = common()
  c.batch_size = 16
  c.epochs = 100.0
  c.model.name = model
  if model == DEFAULT_MODEL:
    c.model.image_size = 64
    with c.model.arguments.unlocked():
      c.model.arguments.depth = 4
  else:
    c.model.image_size = 112
  c.data.name = "labeled_images"
  c.data.split = "kfold"
  c.data.folds = 5
  with c.data.options.unlocked():
    c.data.options.align = True
    c.data.options.size = 128
  c.augment.crop_scale = (0.9, 1.0)
  c.augment.flip = 0.5
  c.augment.brightness = 0.25
  c.augment.contrast = 0.25
  c.optimizer.learning_rate = 1e-3
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.warmup_epochs = 5.0
  c.evaluate_epochs = 0.0
  return c
