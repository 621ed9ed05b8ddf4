"""Leave-one-subject-out on CAS(ME)3, part A: 94 subjects, seven classes.

  python run.py --config configs/loso_casme3.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_casme3.py:vit_tiny_patch16,dynamic ...

DATA is the folder of CAS(ME)3, see docs/datasets.md. --config.data.options.classes=4 or 3 selects
fewer classes, --config.data.options.part=C part C (mock crimes, without apex frames).
The argument after the colon is MODEL,INPUT: a classifier of `jax_me.models.MODELS` (default
t2t_vit_7) and one of apex, key_frames, pair, dynamic, flow, frames (default flow). A GPU trains all
folds in parallel, a CPU one after the other.

Expected: unknown. No score was measured, because the database is only available to research groups.
Published scores are often those of the best test epoch, which overestimates them
(arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("casme3", argument)
