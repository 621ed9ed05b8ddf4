"""Shared settings of the leave-one-subject-out recipes on micro-expressions; not a recipe."""

from ml_collections import ConfigDict

from configs.common import common

# Inputs of `jax_me.data.clip_inputs.inputs` that are images; the others are motion or differences.
IMAGE_INPUTS = ("apex", "key_frames", "frames")


def leave_one_subject_out(dataset: str, argument: str) -> ConfigDict:
  """Settings of a leave-one-subject-out recipe.

  Args:
    dataset: a dataset of clips.
    argument: "model", "model,input" or ",input"; the defaults are t2t_vit_7 and flow.

  Returns:
    the recipe.
  """
  model, _, clip_input = argument.partition(",")
  c = common()
  c.batch_size = 64
  c.epochs = 60.0
  c.class_weights = "balanced"
  c.model.name = model or "t2t_vit_7"
  # 7 x 7 tokens of 16 pixels for ViT and T2T-ViT.
  c.model.image_size = 112
  c.data.name = dataset
  c.data.split = "loso"
  with c.data.options.unlocked():
    c.data.options.input = clip_input or "flow"
    c.data.options.size = 128
  c.data.read_size = 128
  c.augment.crop_scale = (0.8, 1.0)
  c.augment.flip = 0.5
  c.augment.flow = c.data.options.input == "flow"
  if c.data.options.input in IMAGE_INPUTS:
    c.augment.brightness = c.augment.contrast = 0.2
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 5e-4
  c.optimizer.warmup_epochs = 5.0
  # The test subject is evaluated only once, at the end.
  c.evaluate_epochs = 0.0
  return c
