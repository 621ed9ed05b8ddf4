"""Leave-one-subject-out on SAMM: five classes.

  python run.py --config configs/loso_samm.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_samm.py:vit_tiny_patch16,dynamic ...

DATA is the folder of SAMM, see docs/datasets.md. The classes are anger, happiness, contempt,
surprise and others; --config.data.options.classes=3 selects the three classes of MEGC 2019.
The argument after the colon is MODEL,INPUT: a classifier of `jax_me.models.MODELS` (default
t2t_vit_7) and one of apex, key_frames, pair, dynamic, flow, frames (default flow). A GPU trains all
folds in parallel, a CPU one after the other.

Expected: unknown. No score was measured, because the database is only available to research groups.
Published scores are often those of the best test epoch, which overestimates them
(arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("samm", argument)
