"""FER2013 from random weights: grey faces of 48 pixels, seven expressions.

  python run.py --config configs/finetune_fer2013.py --config.data.manual_dir=FER2013

FER2013 is the folder with fer2013.csv, or with class folders of images. Trains on Training, except
for every 20th image, which is kept for fitting a temperature (split "calibration"), and tests the
last epoch on PublicTest; `--config.data.test_splits="('test',)"` tests on PrivateTest.

The argument selects the model, by default a small residual CNN, whose tests enlarge an image a
little and average its mirrored views: `configs/finetune_fer2013.py:shallow_cnn`,
`:vit_tiny_patch16`, `:t2t_vit_7`, `:convnextv2_atto` (made smaller for 48 pixels). No original: all
settings are our own.

`,second` after the model is a second stage with less augmentation, from the weights of the first.
The expression model of the package was trained by both stages:

  python run.py --config configs/finetune_fer2013.py --config.data.manual_dir=FER2013 --workdir RUN
  python run.py --config configs/finetune_fer2013.py:shallow_resnet,second \
    --config.data.manual_dir=FER2013 --config.init_from=RUN --workdir RUN2
"""

from configs.common import common

DEFAULT_MODEL = "shallow_resnet"
SECOND = "second"


def get_config(argument: str = DEFAULT_MODEL):
  model, _, stage = argument.partition(",")
  if stage not in ("", SECOND):
    raise ValueError(f"the argument is MODEL or MODEL,{SECOND}; got {argument!r}")
  c = common()
  c.model.name = model
  c.model.image_size = 48
  c.data.name = "fer2013"
  c.data.split = "official"
  c.data.test_splits = ("validation",)
  c.data.resident = "on"
  with c.data.options.unlocked():
    c.data.options.calibration = 20
  c.batch_size = 128
  c.epochs = 30.0
  c.label_smoothing = 0.1
  c.ema_decay = 0.999
  c.augment.flip = 0.5
  c.augment.rotation = 12.0
  c.augment.translate = 0.08
  c.augment.zoom = (0.9, 1.1)
  c.augment.brightness = c.augment.contrast = 0.25
  c.augment.erase_prob = 0.25
  c.augment.erase_area = (0.02, 0.2)
  c.augment.erase_mode = "zero"
  c.mixing.mixup_alpha = 0.2
  c.mixing.prob = 0.5
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 2e-3
  c.optimizer.warmup_epochs = 3.0
  c.evaluate_epochs = 2.0
  c.log_steps = 50
  c.checkpoint_steps = 100
  with c.model.arguments.unlocked():
    c.model.arguments.update(_small(model))
  if stage == SECOND:
    c.epochs = 24.0
    c.seed = 1
    c.augment.erase_prob = 0.1
    c.mixing.mixup_alpha = 0.0
    c.optimizer.learning_rate = 1.5e-3
    c.optimizer.warmup_epochs = 1.0
  return c


def _small(model: str) -> dict:
  """Arguments of a model for images of 48 pixels."""
  if model == DEFAULT_MODEL:
    # The zoom has the smallest negative log-likelihood of the calibration images.
    return {"mirrored": True, "drop_rate": 0.2, "zoom": 1.1}
  if model.startswith("vit_"):
    return {"patch_size": 6, "depth": 6, "drop_path_rate": 0.1}  # 64 tokens.
  if model.startswith("t2t_vit_"):
    return {"strides": (2, 2, 2), "drop_path_rate": 0.1}  # 36 tokens.
  if model.startswith("convnextv2_"):
    return {"stem_stride": 2, "drop_path_rate": 0.1}
  return {}
