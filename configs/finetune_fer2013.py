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

`,pretraining` after a ViT is MAE pre-training on the images of Training. From random weights a ViT
needs several epochs to do better than the most frequent class; after 8 epochs of pre-training two
are enough for 0.46 on held-out training images:

  python run.py --config configs/finetune_fer2013.py:vit_tiny_patch16,pretraining \
    --config.data.manual_dir=FER2013 --workdir RUN
  python run.py --config configs/finetune_fer2013.py:vit_tiny_patch16 \
    --config.data.manual_dir=FER2013 --config.init_from=RUN --workdir RUN2
"""

from ml_collections import ConfigDict

from configs.common import common

DEFAULT_MODEL = "shallow_resnet"
# Of ViT and T2T-ViT: with 1.5e-3, T2T-ViT was still at the most frequent class after two epochs.
TRANSFORMER_RATE = 5e-4
SECOND, PRETRAINING = "second", "pretraining"


def get_config(argument: str = DEFAULT_MODEL):
  model, _, stage = argument.partition(",")
  if stage not in ("", SECOND, PRETRAINING):
    raise ValueError(
      f"the argument is MODEL, MODEL,{SECOND} or VIT,{PRETRAINING}; got {argument!r}"
    )
  if stage == PRETRAINING and not model.startswith("vit_"):
    raise ValueError(f"{PRETRAINING} is for a ViT, got {argument!r}")
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
  c.augment.flip = 0.5
  c.optimizer.base_learning_rate = 0.0
  c.log_steps = 50
  c.checkpoint_steps = 100
  with c.model.arguments.unlocked():
    c.model.arguments.update(_small(model))
  if stage == PRETRAINING:
    _mae(c)
  else:
    _supervised(c, stage)
  return c


def _supervised(c: ConfigDict, stage: str) -> None:
  """Training with labels; the second stage augments less."""
  if not c.model.name.startswith("shallow_"):
    with c.model.arguments.unlocked():
      c.model.arguments.drop_path_rate = 0.1
  transformer = c.model.name.startswith(("vit_", "t2t_vit_"))
  c.label_smoothing = 0.1
  c.ema_decay = 0.999
  c.augment.rotation = 12.0
  c.augment.translate = 0.08
  c.augment.zoom = (0.9, 1.1)
  c.augment.brightness = c.augment.contrast = 0.25
  c.augment.erase_prob = 0.25
  c.augment.erase_area = (0.02, 0.2)
  c.augment.erase_mode = "zero"
  c.mixing.mixup_alpha = 0.2
  c.mixing.prob = 0.5
  c.optimizer.learning_rate = TRANSFORMER_RATE if transformer else 2e-3
  c.optimizer.warmup_epochs = 3.0
  c.evaluate_epochs = 2.0
  if stage == SECOND:
    c.epochs = 24.0
    c.seed = 1
    c.augment.erase_prob = 0.1
    c.mixing.mixup_alpha = 0.0
    c.optimizer.learning_rate = TRANSFORMER_RATE if transformer else 1.5e-3
    c.optimizer.warmup_epochs = 1.0


def _mae(c: ConfigDict) -> None:
  """MAE pre-training, without labels."""
  c.task = "mae"
  c.model.name = f"mae_{c.model.name}"
  with c.model.arguments.unlocked():
    # A decoder that is small beside the six blocks of the encoder.
    c.model.arguments.update(
      norm_pix_loss=True, decoder_embed_dim=96, decoder_depth=2, decoder_num_heads=3
    )
  c.augment.crop_scale = (0.6, 1.0)
  c.optimizer.learning_rate = 1.5e-3
  c.optimizer.b2 = 0.95
  c.optimizer.warmup_epochs = 1.0


def _small(model: str) -> dict:
  """Arguments of a model for images of 48 pixels."""
  if model == DEFAULT_MODEL:
    # The zoom has the smallest negative log-likelihood of the calibration images.
    return {"mirrored": True, "drop_rate": 0.2, "zoom": 1.1}
  if model.startswith("vit_"):
    return {"patch_size": 6, "depth": 6}  # 64 tokens.
  if model.startswith("t2t_vit_"):
    return {"strides": (2, 2, 2)}  # 36 tokens.
  if model.startswith("convnextv2_"):
    return {"stem_stride": 2}
  return {}
