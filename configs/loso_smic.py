"""Leave-one-subject-out on SMIC-HS: 164 clips, 16 subjects, three classes.

  python run.py --config configs/loso_smic.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_smic.py:vit_tiny_patch16,dynamic ...

DATA is the folder of SMIC, see docs/datasets.md. The classes are negative, positive and surprise.
SMIC has no apex annotations, so optical flow is computed from the onset to the frame halfway to the
offset. --config.data.options.subset=vis or nir selects the other cameras.
The argument after the colon is MODEL,INPUT: a classifier of `jax_me.models.MODELS` (default
t2t_vit_7) and one of apex, key_frames, pair, dynamic, flow, frames (default flow). A GPU trains all
folds in parallel, a CPU one after the other.

Expected: unknown. No score was measured, because the database is only available to research groups.
Published scores are often those of the best test epoch, which overestimates them
(arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("smic", argument)
