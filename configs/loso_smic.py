"""SMIC-HS, three classes (negative, positive, surprise), 164 clips, 16 subjects left out.

  python run.py --config configs/loso_smic.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_smic.py:vit_tiny_patch16,dynamic ...

DATA holds SMIC, see README. It names no apex frames: flow goes from the onset to the frame half-way
to the offset. The other cameras: --config.data.options.subset=vis or nir.
After the colon stand model and input (apex, key_frames, pair, dynamic, flow, frames).
Any classifier of `jax_me.models.MODELS`. A GPU trains all folds side by side, a CPU one after the
other.

Expected: not known; no score was measured with it, for the database is given to research groups
only. Published scores are often of the best test epoch, and so too high (arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("smic", argument)
