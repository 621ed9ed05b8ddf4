"""Leave-one-subject-out on ready images, for example 28 x 28 optical flow of micro-expressions.

  python run.py --config configs/loso_images.py:flow --config.data.manual_dir=FOLDER
  python run.py --config configs/loso_images.py:rgb,convnextv2_atto ...

FOLDER holds the images and labels.csv with the columns file, subject, label and, if there are
several, database. The images are used as they are; docs/datasets.md ("Ready images") states how
optical flow must be encoded. --config.data.split=lodo leaves one database out instead of one
subject, kfold tests several subjects together.
The argument after the colon is INPUT,MODEL: flow (u, v, strain) or rgb, and a classifier of
`jax_me.models.MODELS` (default shallow_cnn). T2T-ViT, ViT and ConvNeXt V2 are narrow and shallow,
for a few hundred images; other sizes with --config.model.arguments. Images are resized to
--config.model.image_size pixels.

Expected: docs/leaderboard.md; UF1 0.783 (0.70 to 0.87), UAR 0.782 with the defaults and
--config.data.split=kfold on 309 images of SMIC and CASME II (seed 0, last epoch). No original: all
settings are our own.
"""

from typing import Any

from configs.common import common

INPUTS = ("flow", "rgb")
# Family -> (side of the input in pixels, epochs, arguments of the constructor).
SMALL: dict[str, tuple[int, float, dict[str, Any]]] = {
  # 16 tokens: better than 64 pixels with the original strides (five folds by people).
  "t2t_vit_": (
    32,
    40.0,
    dict(strides=(4, 2, 1), embed_dim=96, depth=2, num_heads=3, token_dim=32),
  ),
  "vit_": (28, 60.0, dict(patch_size=7, embed_dim=96, depth=2, num_heads=3)),
  # The original stem of stride 4: no worse than stride 2 in five folds (UF1 0.765 and 0.756, two
  # seeds), in half the time.
  "convnextv2_": (32, 40.0, dict(depths=(1, 1, 1, 1), dims=(32, 48, 64, 96))),
}
OTHERS: tuple[int, float, dict[str, Any]] = (28, 40.0, {})


def get_config(argument: str = "flow"):
  images, _, model = argument.partition(",")
  if images not in INPUTS:
    raise ValueError(f"the argument is {' or '.join(INPUTS)}, then ,MODEL; got {argument!r}")
  c = common()
  c.batch_size = 64
  c.model.name = model or "shallow_cnn"
  size, epochs, arguments = next(
    (small for family, small in SMALL.items() if c.model.name.startswith(family)), OTHERS
  )
  c.epochs = epochs
  c.model.image_size = size
  with c.model.arguments.unlocked():
    c.model.arguments.update(arguments)
  c.data.name = "labeled_images"
  c.data.split = "loso"
  with c.data.options.unlocked():
    c.data.options.align = False
    c.data.options.input = "flow" if images == "flow" else "frames"
  c.augment.flip = 0.5
  c.augment.flow = images == "flow"
  c.augment.translate = 0.08
  if images == "rgb":
    c.augment.brightness = c.augment.contrast = 0.2
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 1e-3
  c.optimizer.warmup_epochs = 4.0
  # The test subject is evaluated only once, at the end.
  c.evaluate_epochs = 0.0
  return c
