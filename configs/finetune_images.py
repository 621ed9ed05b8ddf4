"""Your own photographs: a folder with labels.csv, or one folder a class.

Aligns the faces, divides people (never images) into 5 folds, trains on four of them and scores
the fifth, five times; the report pools all predictions.

  python run.py --config configs/finetune_images.py --config.data.manual_dir=FOLDER

Another model by argument: `--config configs/finetune_images.py:vit_small_patch16`.
"""

from configs.common import common


def get_config(model: str = "vit_tiny_patch16"):
  c = common()
  c.batch_size = 32
  c.epochs = 60.0
  c.model.name = model
  c.model.image_size = 112
  c.data.name = "labeled_images"
  c.data.split = "kfold"
  c.data.folds = 5
  with c.data.options.unlocked():
    c.data.options.align = True
    c.data.options.size = 128
  c.data.read_size = 128
  c.augment.crop_scale = (0.7, 1.0)
  c.augment.flip = 0.5
  c.augment.brightness = 0.25
  c.augment.contrast = 0.25
  c.optimizer.learning_rate = 5e-4
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.warmup_epochs = 5.0
  c.label_smoothing = 0.1
  c.evaluate_epochs = 0.0
  return c
