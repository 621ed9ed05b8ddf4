"""Model folders: checksums, formats, unusable values."""

import json
import logging
import pathlib
import random
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.manifest import DamagedFolder, verify_manifest, write_manifest
from jax_me.models.model_folder import SavedModelError, load_model, save_model
from jax_me.models.registry import create_model
from tests.helpers.inference_models import SAVED, save

FIELDS = dict(
  name="vit_tiny_patch16",
  arguments=SAVED,
  labels=["calm", "happy"],
  image_size=32,
  mean=[0.5] * 3,
  std=[0.25] * 3,
  source={},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return save(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def copy(folder, tmp_path):
  return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def files_of(folder):
  return sorted(path for path in folder.rglob("*") if path.is_file())


def test_the_manifest_lists_every_other_file(folder):
  listed = json.loads((folder / "manifest.json").read_text())["files"]
  found = {path.relative_to(folder).as_posix() for path in files_of(folder)}
  assert set(listed) == found - {"manifest.json"} and "model.json" in listed


def test_no_flipped_bit_loads_as_another_model(folder, copy):
  """200 flips over all files, each at least once: an error that names the file."""
  generator = random.Random(0)
  files = files_of(copy)
  chosen = files + generator.choices(files, k=200 - len(files))
  for path in chosen:
    original = path.read_bytes()
    position, bit = generator.randrange(len(original)), generator.randrange(8)
    damaged = bytearray(original)
    damaged[position] ^= 1 << bit
    path.write_bytes(damaged)
    with pytest.raises(SavedModelError) as error:
      load_model(copy)
    assert path.name in str(error.value) or path.name == "manifest.json", (path, position, bit)
    path.write_bytes(original)
  assert load_model(copy).labels == load_model(folder).labels


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "weights/_METADATA"])
def test_a_missing_file_is_an_error(copy, name):
  (copy / name).unlink()
  with pytest.raises(SavedModelError, match=f"{pathlib.Path(name).name} is missing"):
    load_model(copy)


def test_a_shorter_file_is_an_error(copy):
  path = max(files_of(copy), key=lambda path: path.stat().st_size)
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(SavedModelError, match=r"has \d+ bytes instead of"):
    load_model(copy)


def test_an_edited_setting_is_an_error(copy):
  text = (copy / "model.json").read_text()
  (copy / "model.json").write_text(text.replace("0.5", "0.4"))
  with pytest.raises(SavedModelError, match=r"model\.json .*changed"):
    load_model(copy)


def test_files_beside_the_model_do_not_matter(copy):
  (copy / "README.md").write_text("my notes")
  assert load_model(copy).name == "vit_tiny_patch16"


def edit_metadata(folder, **changes):
  metadata = json.loads((folder / "model.json").read_text())
  (folder / "model.json").write_text(json.dumps(metadata | changes))
  (folder / "manifest.json").unlink()


def test_a_folder_of_version_0_1_loads_and_says_that_it_has_no_checksums(copy, caplog):
  edit_metadata(copy, format=1)
  with caplog.at_level(logging.WARNING, "jax_me"):
    assert load_model(copy).labels == ["calm", "happy, or so"]
  assert "no checksums" in caplog.text and str(copy) in caplog.text


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"format": 99}, "format 99"),
    ({"std": [0.2, 0.0, 0.2]}, "std positive"),
    ({"mean": [0.5, float("nan"), 0.5]}, "finite"),
    ({"mean": [0.5]}, "three"),
    ({"std": None}, "three"),
  ],
)
def test_unusable_metadata(copy, changes, message):
  edit_metadata(copy, **changes)
  write_manifest(copy)
  with pytest.raises(SavedModelError, match=message):
    load_model(copy)


def test_weights_that_are_not_finite_are_refused(tmp_path):
  model = create_model("vit_tiny_patch16", rngs=nnx.Rngs(0), **SAVED)
  model.head.bias[...] = jnp.array([0.0, np.inf])
  save_model(tmp_path / "model", model, **FIELDS)
  with pytest.raises(SavedModelError, match="head.*not finite"):
    load_model(tmp_path / "model")


def test_manifest_of_chosen_files(tmp_path):
  (tmp_path / "kept").mkdir()
  for name in ("kept/a", "b", "other"):
    (tmp_path / name).write_text(name)
  write_manifest(tmp_path, "kept", "b")
  (tmp_path / "other").write_text("changed")
  verify_manifest(tmp_path)
  (tmp_path / "kept/a").write_text("A")
  with pytest.raises(DamagedFolder, match="kept/a"):
    verify_manifest(tmp_path)
