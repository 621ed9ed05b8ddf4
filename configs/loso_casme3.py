"""CAS(ME)3, part A, seven classes, 94 subjects left out.

  python run.py --config configs/loso_casme3.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_casme3.py:vit_tiny_patch16,dynamic ...

DATA holds CAS(ME)3, see README. Four or three classes: --config.data.options.classes=4 or 3; part C
(mock crimes, without apex frames): --config.data.options.part=C.
After the colon stand model and input (apex, key_frames, pair, dynamic, flow, frames).
Any classifier of `jax_me.models.MODELS`. A GPU trains all folds side by side, a CPU one after the
other.

Expected: not known; no score was measured with it, for the database is given to research groups
only. Published scores are often of the best test epoch, and so too high (arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("casme3", argument)
