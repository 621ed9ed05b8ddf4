"""Model folders: checksums, formats, unusable values."""

import json
import logging
import os
import pathlib
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_me.image_preparation import ImagePreparation
from jax_me.manifest import DamagedFolder, verify_manifest, write_manifest
from jax_me.models.model_folder import SavedModelError, load_model, save_model
from jax_me.models.model_metadata import ALIGNMENT_DEFAULTS, metadata_document, read_model_metadata
from jax_me.models.registry import create_model
from jax_me.models.weight_files import WEIGHT_FORMATS
from tests.helpers.inference_models import SAVED

pytestmark = pytest.mark.usefixtures("quick_compilation")

LABELS = ["calm", "happy"]
FIELDS = dict(
  name="vit_tiny_patch16",
  arguments=SAVED,
  labels=LABELS,
  image_size=32,
  mean=[0.5] * 3,
  std=[0.25] * 3,
  source={},
)


@pytest.fixture(scope="module", params=WEIGHT_FORMATS)
def folder(request, tmp_path_factory):
  return save_as(tmp_path_factory.mktemp("saved") / "model", request.param)


def save_as(folder, weights_format="orbax", *, half=False, **fields):
  model = create_model("vit_tiny_patch16", rngs=nnx.Rngs(0), **SAVED)
  save_model(folder, model, weights_format=weights_format, half=half, **FIELDS | fields)
  return folder


@pytest.fixture
def copy(folder, tmp_path):
  return pathlib.Path(shutil.copytree(folder, tmp_path / "copy"))


def files_of(folder):
  return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["model.json", "manifest.json", "reference.safetensors"])
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


def older(folder, **changes):
  """The folder as an earlier version wrote it, with changes in model.json."""
  document = json.loads((folder / "model.json").read_text())
  block = document.pop("preprocessing")
  document.pop("licence")
  flat = {key: block[key] for key in ("image_size", "mean", "std")}
  (folder / "model.json").write_text(json.dumps(document | flat | {"format": 2} | changes))
  (folder / "reference.safetensors").unlink()
  (folder / "manifest.json").unlink()


def test_a_folder_of_version_0_1_loads_and_says_that_it_has_no_checksums(copy, caplog):
  older(copy, format=1)
  with caplog.at_level(logging.WARNING, "jax_me"):
    assert load_model(copy).labels == LABELS
  assert "no checksums" in caplog.text and str(copy) in caplog.text


def test_a_folder_of_format_2_loads_and_is_compared_with_its_checksums(copy):
  older(copy, source={"options": {"align": True, "size": 48, "input": "flow"}})
  write_manifest(copy)
  saved = load_model(copy)
  given = {"align": True, "size": 48, "detector": "hog"}
  assert saved.alignment == ALIGNMENT_DEFAULTS | given and saved.input == "flow"
  assert saved.preparation == ImagePreparation(32)
  with pytest.raises(SavedModelError, match="no reference check"):
    load_model(copy, verify=True)
  (copy / "model.json").write_text((copy / "model.json").read_text().replace("0.5", "0.4"))
  with pytest.raises(SavedModelError, match="changed"):
    load_model(copy)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"format": 99}, "format 99"),
    ({"std": [0.2, 0.0, 0.2]}, "std positive"),
    ({"mean": [0.5, float("nan"), 0.5]}, "finite"),
    ({"mean": [0.5]}, "three"),
    ({"std": None}, "three"),
    ({"image_size": 10**9}, "image_size must be"),
    ({"resize": "squash"}, "resize must be one of"),
    ({"interpolation": None}, "interpolation must be one of"),
    ({"channels": "BGR"}, "channels must be 'RGB'"),
    ({"alignment": {"align": "yes"}}, "align of alignment"),
    ({"alignment": {"warp": True}}, "unknown settings: warp"),
    ({"sharpen": 2}, "unknown settings: sharpen"),
    ({"name": "vit_enormous"}, "unknown model 'vit_enormous'"),
    ({"arguments": SAVED | {"depth": 10**9}}, "depth must be a whole number of at most 256"),
    ({"arguments": SAVED | {"depth": 1.5}}, "depth must be"),
    ({"arguments": SAVED | {"patch_size": 0}}, "patches"),
    ({"arguments": SAVED | {"embed_dim": [24]}}, "embed_dim must be"),
    ({"arguments": SAVED | {"wings": 2}}, "no argument 'wings'"),
    ({"arguments": []}, "arguments an object"),
    ({"labels": ["calm"]}, "1 labels for 2 classes"),
    ({"labels": "calm"}, "labels must be a list"),
    ({"source": None}, "source must be"),
    ({"licence": 3}, "licence must be text"),
  ],
)
def test_the_schema_is_checked_before_anything_is_built(tmp_path, changes, message):
  (tmp_path / "weights").mkdir()
  document = metadata_document(**FIELDS)
  block = document["preprocessing"]
  inside = {key: value for key, value in changes.items() if key not in document}
  document = {**document, **changes, "preprocessing": block | inside}
  (tmp_path / "model.json").write_text(json.dumps(document))
  with pytest.raises(SavedModelError, match=message):
    read_model_metadata(tmp_path)


def test_settings_that_are_missing_are_named(tmp_path):
  document = metadata_document(**FIELDS)
  del document["preprocessing"]["mean"]
  (tmp_path / "model.json").write_text(json.dumps(document))
  with pytest.raises(SavedModelError, match="lacks mean"):
    read_model_metadata(tmp_path)


def test_preprocessing_survives(tmp_path):
  preparation = ImagePreparation(32, "shortest_edge", 37, 32 / 37, "bicubic", "down")
  alignment = ALIGNMENT_DEFAULTS | {"size": 40, "detector": "yunet", "down": 0.25, "grey": True}
  save_as(tmp_path / "m", preparation=preparation, alignment=alignment, licence="mit", input="apex")
  saved = load_model(tmp_path / "m")
  assert (saved.preparation, saved.alignment) == (preparation, alignment)
  assert (saved.licence, saved.input) == ("mit", "apex")


def test_crops_outside_reason_are_refused(tmp_path):
  for wrong in ({"scale": 0.0}, {"scale": 1}, {"down": 11.0}, {"grey": 1}):
    with pytest.raises(SavedModelError, match="scale|down|grey"):
      save_as(tmp_path / "m", alignment=ALIGNMENT_DEFAULTS | wrong)


def test_parameters_are_stored_in_half_and_loaded_as_the_model_computes(tmp_path):
  sizes = {}
  for half in (False, True):
    folder = save_as(tmp_path / str(half), "safetensors", half=half)
    sizes[half] = (folder / "weights.safetensors").stat().st_size
  assert sizes[True] < 0.6 * sizes[False]
  saved, exact = (load_model(tmp_path / name, verify=True) for name in ("True", "False"))
  for value, wanted in zip(
    jax.tree.leaves(saved.split()[1]), jax.tree.leaves(exact.split()[1]), strict=True
  ):
    assert value.dtype == wanted.dtype == jnp.float32
    np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=1e-6)


def test_weights_of_another_model_are_refused_when_saved(tmp_path):
  model = create_model("vit_tiny_patch16", rngs=nnx.Rngs(0), **SAVED | {"embed_dim": 48})
  with pytest.raises(SavedModelError, match="does not describe"):
    save_model(tmp_path / "m", model, **FIELDS)
  assert not list(tmp_path.iterdir())


def test_both_formats_hold_the_same_arrays(tmp_path):
  loaded = [load_model(save_as(tmp_path / form, form)).model for form in WEIGHT_FORMATS]
  first, second = (jax.tree.leaves(nnx.state(model)) for model in loaded)
  for one, other in zip(first, second, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_have_ordinary_permissions(tmp_path):
  save_as(tmp_path / "model", "safetensors")
  (tmp_path / "ordinary").write_text("")
  modes = {path.stat().st_mode for path in (tmp_path / "model").iterdir() if path.is_file()}
  assert modes == {(tmp_path / "ordinary").stat().st_mode}


def test_files_without_checksum_are_not_read(tmp_path):
  """Weights that a person puts beside those of the folder."""
  folder = save_as(tmp_path / "m")
  save_as(tmp_path / "other", "safetensors")
  shutil.copy(tmp_path / "other/weights.safetensors", folder)
  with pytest.raises(SavedModelError, match="does not list the weights"):
    load_model(folder)


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
