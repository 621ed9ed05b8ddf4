"""Names of the folds of a run, which are names of folders in that of the run."""

from collections.abc import Iterable

from jax_me.evaluation.predictions import PREDICTIONS_FILE
from jax_me.experiment.fold_batch import CHUNK_FOLDER
from jax_me.experiment.resumption import CONFIG_FILE
from jax_me.manifest import MANIFEST_FILE
from jax_me.models.ensemble import ENSEMBLE_FOLDER, RUN_FILE
from jax_me.models.model_folder import (
  CHECKPOINTS_FOLDER,
  CHECKPOINTS_LOCATION_FILE,
  SELECTED_FOLDER,
)
from jax_me.models.model_metadata import MODEL_FILE
from jax_me.models.reference_check import REFERENCE_FILE
from jax_me.models.saved_model import FINAL
from jax_me.models.weight_files import SAFETENSORS_FILE, WEIGHTS_FOLDER
from jax_me.reports.run_report import DATA_FOLDER, PAGE_FILE, TEXT_FILE
from jax_me.run_folder import LOCK_FILE, RESULTS_FILE
from jax_me.training.logging.metrics_log import METRICS_FILE
from jax_me.training.logging.writers import RUN_ID_FILE
from jax_me.training.reconstruction import RECONSTRUCTIONS_FOLDER

# Split rules whose folds have names from the dataset, and the columns with these.
NAMED_AFTER = {"loso": ("subject", "database"), "lodo": ("database",)}

# Other content of the folder of a run, or of that of a fold.
_RESERVED = frozenset(
  {
    *(CHECKPOINTS_FOLDER, CHECKPOINTS_LOCATION_FILE, CHUNK_FOLDER, CONFIG_FILE, DATA_FOLDER),
    *(ENSEMBLE_FOLDER, FINAL, LOCK_FILE, MANIFEST_FILE, METRICS_FILE, MODEL_FILE, PAGE_FILE),
    *(PREDICTIONS_FILE, RECONSTRUCTIONS_FOLDER, REFERENCE_FILE, RESULTS_FILE, RUN_FILE),
    *(RUN_ID_FILE, SAFETENSORS_FILE, SELECTED_FOLDER, TEXT_FILE, WEIGHTS_FOLDER),
  }
)


def check_fold_names(names: Iterable[str], split: str) -> None:
  """Checks that folds can have folders of their names.

  Args:
    names: of the folds, or of the subjects or databases after which they are named.
    split: the split rule, for the message.

  Raises:
    ValueError: a run keeps something else under the name, or it leaves the folder of the run.
  """
  for name in names:
    parts = name.split("/")
    # Some file systems do not distinguish upper and lower case.
    taken = [part for part in parts if part.casefold() in _RESERVED]
    if taken:
      problem = f"a run keeps other files under the name {taken[0]!r}"
    elif {"", ".", ".."} & set(parts):
      problem = "this is no name of a folder"
    else:
      continue
    raise ValueError(
      f"data.split={split} names a fold, and its folder, {name!r} after the tested examples: "
      f"{problem}. Rename this subject or database in the labels of the dataset, or use "
      "--config.data.split=kfold, whose folds have numbers"
    )
