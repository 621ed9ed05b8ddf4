"""What the recipes of leave-one-subject-out on micro-expressions share. No recipe itself."""

from ml_collections import ConfigDict

from configs.common import common

# Of `jax_me.data.clip_inputs.inputs`; these show brightness, the others motion or differences.
PHOTOGRAPHS = ("apex", "key_frames", "frames")


def leave_one_subject_out(dataset: str, argument: str) -> ConfigDict:
  """Settings of all of them.

  Args:
    dataset: a dataset of clips.
    argument: "model", "model,input" or ",input"; what is left out is t2t_vit_7 and flow.
  """
  model, _, shown = argument.partition(",")
  c = common()
  c.batch_size = 64
  c.epochs = 60.0
  c.class_weights = "balanced"
  c.model.name = model or "t2t_vit_7"
  # As small as a flow image can be: 7 x 7 tokens of 16 pixels for a ViT and a T2T-ViT.
  c.model.image_size = 112
  c.data.name = dataset
  c.data.split = "loso"
  with c.data.options.unlocked():
    c.data.options.input = shown or "flow"
    c.data.options.size = 128
  c.data.read_size = 128
  c.augment.crop_scale = (0.8, 1.0)
  c.augment.flip = 0.5
  c.augment.flow = c.data.options.input == "flow"
  if c.data.options.input in PHOTOGRAPHS:
    c.augment.brightness = c.augment.contrast = 0.2
  c.optimizer.base_learning_rate = 0.0
  c.optimizer.learning_rate = 5e-4
  c.optimizer.warmup_epochs = 5.0
  # The test subject is looked at once, at the end.
  c.evaluate_epochs = 0.0
  return c
