"""MEGC 2019: 442 clips of SMIC-HS, CASME II and SAMM, each of 68 subjects left out once.

  python run.py --config configs/loso_megc2019.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_megc2019.py:vit_tiny_patch16,dynamic ...

DATA holds the three databases, see README. Three classes: negative, positive, surprise. After the
colon stand model and input (apex, key_frames, pair, dynamic, flow, frames).
The report pools the predictions of all 68 folds: UF1 and UAR of the composite and of each
database. To leave a whole database out instead: --config.data.split=lodo.
Any classifier of `jax_me.models.MODELS`. A GPU trains all folds side by side, a CPU one after the
other.

Expected: not known; no score was measured with it, for the database is given to research groups
only. For comparison, UF1 of the composite as published: the challenge's LBP-TOP baseline 0.588 (See
et al. 2019), STSTNet 0.735 (Liong et al. 2019). Other published scores are often of the best test
epoch, and so too high (arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("megc2019", argument)
