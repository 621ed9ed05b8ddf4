"""The wheel: what it holds, and that its commands work from another folder."""

import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from jax_me.__main__ import COMMANDS

pytest.importorskip("setuptools", reason="the wheel is built with setuptools")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, repository) -> pathlib.Path:
  """The wheel of a copy of the checkout, so that no build folder is left in it."""
  folder = tmp_path_factory.mktemp("wheel")
  source = folder / "source"
  source.mkdir()
  for name in ("jax_me", "configs", "convert"):
    shutil.copytree(
      repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
  for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
    shutil.copy(repository / name, source)
  command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder]
  subprocess.run([sys.executable, *map(str, command), str(source)], check=True, cwd=source)
  return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> pathlib.Path:
  """A folder with the unpacked wheel, to be put on PYTHONPATH."""
  site = tmp_path_factory.mktemp("site")
  with zipfile.ZipFile(wheel) as archive:
    archive.extractall(site)
  return site


def jax_me(site, cwd, *arguments):
  return subprocess.run(
    [sys.executable, "-m", "jax_me", *map(str, arguments)],
    env={**os.environ, "PYTHONPATH": str(site), "JAX_PLATFORMS": "cpu"},
    cwd=cwd,
    capture_output=True,
    text=True,
  )


def test_the_wheel_has_every_module_and_no_other_top_level_package(wheel, repository):
  names = zipfile.ZipFile(wheel).namelist()
  assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith("dist-info")} == {
    "jax_me"
  }
  expected = {str(p.relative_to(repository)) for p in (repository / "jax_me").rglob("*.py")}
  expected |= {f"jax_me/configs/{p.name}" for p in (repository / "configs").glob("*.py")}
  expected |= {f"jax_me/convert/{p.name}" for p in (repository / "convert").glob("*.py")}
  expected |= {"jax_me/py.typed", "jax_me/datasets/micro/megc2019_clips.csv"}
  expected |= {"jax_me/models/model_summaries.json"}
  network = "jax_me/faces/face_detection_yunet_2023mar"
  expected |= {f"{network}.onnx", f"{network}.LICENSE.txt"}
  model = repository / "jax_me" / "expression_model"
  expected |= {f"jax_me/expression_model/{path.name}" for path in model.iterdir()}
  assert expected <= set(names)


def test_recipes_of_the_wheel_are_found_by_name(installed, tmp_path):
  run = jax_me(installed, tmp_path, "train", "--config=quickstart", "--config.batchsize=1")
  assert run.returncode == 2 and "did you mean batch_size?" in run.stderr
  # Recipes that start from another module of `configs`, in a folder that has its own `configs`.
  (tmp_path / "configs").mkdir()
  (tmp_path / "configs" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
  run = jax_me(installed, tmp_path, "train", "--config=finetune_rafdb", "--config.epoch=1")
  assert run.returncode == 2 and "did you mean epochs?" in run.stderr


@pytest.mark.slow
def test_the_wheel_converts(installed, tmp_path, repository):
  pytest.importorskip("torch", reason="conversion reads torch files")
  example = repository / "tests" / "golden" / "examples" / "t2t_tiny_module_prefix.pth.tar"
  sizes = ["--model", "t2t_vit_7", "--num_heads", 4, "--mlp_ratio", 2.0]
  sizes += ["--embed_dim", 32, "--depth", 1]
  command = ["convert", "--checkpoint", example, "--output", "model", *sizes]
  run = jax_me(installed, tmp_path, *command)
  assert run.returncode == 0, run.stderr
  assert (tmp_path / "model" / "model.json").is_file()
  run = jax_me(installed, tmp_path, "export", "--checkpoint", "model", "--output", "back.pth")
  assert run.returncode == 0, run.stderr
  assert (tmp_path / "back.pth").is_file()


# Imports everything that the commands of the base install need, with the extras hidden.
IMPORT_BASE = """
import importlib, sys

class Hide:
  def find_spec(self, name, path=None, target=None):
    if name.partition(".")[0] in {extras}:
      raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Hide())
for module in {modules}:
  importlib.import_module(module)
"""
EXTRAS = ("tensorflow", "tensorflow_datasets", "grain", "array_record", "ml_collections", "torch")
EXTRAS += ("skimage", "scipy", "openpyxl", "tensorboardX", "threadpoolctl")


def test_reading_photographs_and_videos_needs_no_extra(repository):
  modules = [c.module for c in COMMANDS.values() if not c.extra and c.module.startswith("jax_me")]
  modules += ["jax_me.faces.align_folder", "jax_me.inference.explain.run"]
  modules += ["jax_me.inference.video.run", "jax_me.reports.run_report"]
  assert "jax_me.inference.cli" in modules
  code = IMPORT_BASE.format(extras=EXTRAS, modules=modules)
  subprocess.run([sys.executable, "-c", code], check=True, cwd=repository)
