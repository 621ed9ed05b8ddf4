"""SAMM, five classes (anger, happiness, contempt, surprise, others), each subject left out once.

  python run.py --config configs/loso_samm.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_samm.py:vit_tiny_patch16,dynamic ...

DATA holds SAMM, see README. The three classes of MEGC 2019: --config.data.options.classes=3.
After the colon stand model and input (apex, key_frames, pair, dynamic, flow, frames).
Any classifier of `jax_me.models.MODELS`. A GPU trains all folds side by side, a CPU one after the
other.

Expected: not known; no score was measured with it, for the database is given to research groups
only. Published scores are often of the best test epoch, and so too high (arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("samm", argument)
