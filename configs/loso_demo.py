"""Leave-one-subject-out demonstration on 288 synthetic clips of 24 subjects; needs no dataset.

  python run.py --config configs/loso_demo.py
  python run.py --config configs/loso_demo.py:t2t_vit_7,dynamic

Generates the clips in the first run, trains 24 folds in one program, and pools their predictions.
The argument after the colon is MODEL,INPUT: a classifier (default vit_tiny_patch16) and one of
apex, key_frames, pair, dynamic, flow, frames (default flow). Small images and a small model, for
two CPU cores (about ten minutes).

Expected: UF1 0.88 with the defaults (seed 0), 0.98 with t2t_vit_7 and 0.99 with convnextv2_atto on
flow; dynamic images 0.64 to 0.85, apex frames near chance (docs/training.md). Scores on synthetic
faces do not predict scores on real ones.
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  model, comma, clip_input = argument.partition(",")
  c = leave_one_subject_out("demo_clips", f"{model or 'vit_tiny_patch16'}{comma}{clip_input}")
  c.batch_size = 32
  c.epochs = 15.0
  c.class_weights = ()
  c.model.image_size = 64
  c.data.read_size = 72
  if c.model.name.startswith("vit_"):
    with c.model.arguments.unlocked():
      c.model.arguments.patch_size = 8
      c.model.arguments.depth = 4
  with c.data.options.unlocked():
    c.data.options.subjects = 24
    c.data.options.clips = 12
  c.optimizer.learning_rate = 1e-3
  c.optimizer.warmup_epochs = 2.0
  return c
