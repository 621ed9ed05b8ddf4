"""Leave-one-subject-out on ready images, for example 28 x 28 optical flow of micro-expressions.

  python run.py --config configs/loso_images.py:flow --config.data.manual_dir=FOLDER
  python run.py --config configs/loso_images.py:rgb,convnextv2_atto ...

FOLDER holds the images and labels.csv with the columns file, subject, label and, if there are
several, database. The images are used as they are; docs/datasets.md ("Ready images") states how
optical flow must be encoded. --config.data.split=lodo leaves one database out instead of one
subject, kfold tests several subjects together.
The argument after the colon is INPUT,MODEL: flow (u, v, strain) or rgb, and a classifier of
`jax_me.models.MODELS` (default vit_tiny_patch16, small). Images are resized to
--config.model.image_size pixels.
"""

from configs.common import common

INPUTS = ("flow", "rgb")
DEFAULT_MODEL = "vit_tiny_patch16"


def get_config(argument: str = "flow"):
  images, _, model = argument.partition(",")
  if images not in INPUTS:
    raise ValueError(f"the argument is {' or '.join(INPUTS)}, then ,MODEL; got {argument!r}")
  c = common()
  c.batch_size = 64
  c.epochs = 60.0
  c.model.name = model or DEFAULT_MODEL
  # The smallest input of T2T-ViT and ConvNeXt V2 is 32 pixels.
  c.model.image_size = 28 if c.model.name.startswith("vit_") else 32
  if c.model.name.startswith("vit_"):
    with c.model.arguments.unlocked():
      c.model.arguments.patch_size = 7
      c.model.arguments.embed_dim = 96
      c.model.arguments.depth = 2
      c.model.arguments.num_heads = 3
  c.data.name = "labeled_images"
  c.data.split = "loso"
  with c.data.options.unlocked():
    c.data.options.align = False
    c.data.options.input = "flow" if images == "flow" else "frames"
  c.augment.flip = 0.5
  c.augment.flow = images == "flow"
  c.augment.translate = 0.1
  if images == "rgb":
    c.augment.brightness = c.augment.contrast = 0.2
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-3
  c.optimizer.warmup_epochs = 5.0
  # The test subject is evaluated only once, at the end.
  c.evaluate_epochs = 0.0
  return c
