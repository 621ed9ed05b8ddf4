"""Quick start: training and evaluation in a few minutes on a CPU; needs no dataset.

  python run.py --config configs/quickstart.py

Generates synthetic micro-expression clips, computes the optical flow from onset to apex, trains a
small ViT from random weights and evaluates it on held-out subjects.

Expected: UF1 0.91 on held-out synthetic subjects, under 5 minutes on 2 CPU cores.
"""

from configs.common import common


def get_config():
  c = common()
  c.batch_size = 64
  c.epochs = 12.0
  c.model.name = "vit_tiny_patch16"
  c.model.image_size = 112
  with c.model.arguments.unlocked():
    c.model.arguments.depth = 6
  c.data.name = "demo_clips"
  c.data.split = "holdout"
  c.data.holdout = 0.25
  with c.data.options.unlocked():
    c.data.options.input = "flow"
  c.augment.crop_scale = (0.8, 1.0)
  c.augment.flip = 0.5
  c.augment.flow = True
  c.optimizer.learning_rate = 1e-3
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.warmup_epochs = 2.0
  c.evaluate_epochs = 3.0
  c.log_steps = 5
  c.checkpoint_steps = 50
  return c
