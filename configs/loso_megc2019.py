"""Leave-one-subject-out on MEGC 2019: 442 clips of SMIC-HS, CASME II and SAMM, 68 subjects.

  python run.py --config configs/loso_megc2019.py --config.data.manual_dir=DATA
  python run.py --config configs/loso_megc2019.py:vit_tiny_patch16,dynamic ...

DATA is the folder of the three databases, see docs/datasets.md. The classes are negative, positive
and surprise. The report pools the predictions of all 68 folds: UF1 and UAR of the composite and of
each database. --config.data.split=lodo leaves one database out instead of one subject.
The argument after the colon is MODEL,INPUT: a classifier of `jax_me.models.MODELS` (default
t2t_vit_7) and one of apex, key_frames, pair, dynamic, flow, frames (default flow). A GPU trains all
folds in parallel, a CPU one after the other.

Expected: unknown. No score was measured, because the databases are only available to research
groups. Published UF1 of the composite, for comparison: LBP-TOP baseline of the challenge 0.588 (See
et al. 2019), STSTNet 0.735 (Liong et al. 2019). Other published scores are often those of the best
test epoch, which overestimates them (arXiv:2211.11425).
"""

from configs.leave_one_out import leave_one_subject_out


def get_config(argument: str = ""):
  return leave_one_subject_out("megc2019", argument)
