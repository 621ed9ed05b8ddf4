"""Parity of converted hub models with what timm and transformers computed (tests/golden/hub)."""

import pytest

from tests.helpers.hub_models import hub_cases, recorded_outputs, write_case
from tests.helpers.hub_parity import converted, largest_differences

CASES = hub_cases()


@pytest.mark.parametrize("name", CASES)
def test_the_model_computes_what_the_library_computes(tmp_path, name):
  case = CASES[name]
  path = write_case(case, next(iter(case.forms)), tmp_path / "folder")
  double, single = largest_differences(path, case, recorded_outputs(name))
  assert double < 1e-9 and single < 1e-5


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.forms) > 1])
def test_every_file_form_gives_the_same_arrays(tmp_path, name):
  case = CASES[name]
  sums = set()
  for number, (form, keys) in enumerate(case.forms.items()):
    report = converted(write_case(case, form, tmp_path / str(number)), case).report
    sums.add(report.weights_sha256)
    outcomes = [entry["key"] for entry in report.loaded + report.dropped]
    assert sorted(outcomes) == sorted(keys), form
  assert len(sums) == 1
