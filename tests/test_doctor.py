"""`jax-me doctor`: checks of the installation and of a model folder."""

import json

import pytest

from jax_me import doctor
from jax_me.__main__ import main
from jax_me.manifest import write_manifest
from jax_me.models.model_folder import load_model
from tests.helpers.inference_models import save


@pytest.mark.slow
def test_installation_and_model(tmp_path, capsys):
  save(tmp_path / "m")
  assert main(["doctor", "--checkpoint", str(tmp_path / "m")]) == 0
  printed = capsys.readouterr().out
  for words in ("Python 3", "jax_me 0", "cpu", "dlib", "GiB free", "losses", "vit_tiny_patch16"):
    assert words in printed
  assert "error" not in printed


def test_a_damaged_model_is_an_error(tmp_path, capsys):
  folder = save(tmp_path / "m")
  document = json.loads((folder / "model.json").read_text())
  document["preprocessing"]["std"] = [0.5] * 3
  (folder / "model.json").write_text(json.dumps(document))
  write_manifest(folder)
  result = doctor.check_model(folder)
  assert result.status == "error" and "std is" in result.detail


def test_an_output_that_differs_is_an_error(tmp_path, monkeypatch):
  folder = save(tmp_path / "m")
  saved = load_model(folder)
  saved.model.head.bias[...] += 1
  monkeypatch.setattr(doctor.model_folder, "load_model", lambda folder: saved)
  result = doctor.check_model(folder)
  assert result.status == "error" and "output differs" in result.detail


def test_json(monkeypatch, capsys):
  for name in ("check_devices", "check_faces", "check_disk", "check_training_step"):
    monkeypatch.setattr(doctor, name, lambda: doctor.CheckResult("one", "ok", "fine"))
  assert main(["doctor", "--json"]) == 0
  checks = json.loads(capsys.readouterr().out)["checks"]
  assert {"name": "one", "status": "ok", "detail": "fine"} in checks


def test_a_check_that_fails_does_not_stop_the_others(monkeypatch, capsys):
  def broken():
    raise RuntimeError("no such device")

  monkeypatch.setattr(doctor, "check_devices", broken)
  monkeypatch.setattr(doctor, "check_faces", lambda: doctor.CheckResult("faces", "ok", ""))
  monkeypatch.setattr(doctor, "check_training_step", lambda: doctor.CheckResult("step", "ok", ""))
  monkeypatch.setattr(doctor, "LOW_DISK_BYTES", 2**80)
  assert main(["doctor"]) == 1
  printed = capsys.readouterr().out
  assert "error    devices: RuntimeError: no such device" in printed
  assert "warning  disk" in printed and "ok       step" in printed
