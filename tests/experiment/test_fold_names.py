"""Folds whose folders would collide with other content of a run."""

import pytest

from jax_me.experiment.fold_names import check_fold_names
from tests.helpers.drawn_folder import write_folder
from tests.helpers.tiny_runs import tiny_run


@pytest.mark.parametrize("split", ["loso", "lodo"])
@pytest.mark.parametrize("name", ["final", "Ensemble", "report", "../p1", "/p1"])
def test_nothing_is_built_for_a_name_that_a_run_uses(repository, tmp_path, capsys, split, name):
  column = {"loso": "subject", "lodo": "database"}[split]
  rows = [
    {"subject": f"p{n}", "database": "db" + "ab"[n % 2], "label": "xy"[n // 2 % 2]}
    for n in range(8)
  ]
  rows = [{**row, column: name} if row[column] in ("p1", "dba") else row for row in rows]
  source = write_folder(tmp_path / "source", rows, "file,subject,database,label")
  assert tiny_run(repository, source, tmp_path / "run", data__split=split) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert f"data.split={split} names a fold, and its folder, {name!r}" in line
  assert "Rename" in line and "--config.data.split=kfold" in line
  assert not (tmp_path / "built").exists() and not (tmp_path / "run").exists()


def test_usual_names_are_accepted():
  check_fold_names(["s01", "casme2/s01", "finalist", "006", "a b"], "loso")


def test_the_names_of_the_folds_of_a_built_dataset_are_checked():
  with pytest.raises(ValueError, match="a run keeps other files under the name 'weights'"):
    check_fold_names(["casme2/s01", "samm/weights"], "loso")
