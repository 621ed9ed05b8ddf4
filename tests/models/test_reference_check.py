"""Reference check of model folders: correct folders pass, edited ones are refused by name."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest

import jax_me
from convert import torch_to_flax
from convert.flax_to_torch import torch_arrays
from jax_me.image_preparation import ImagePreparation
from jax_me.manifest import read_manifest, write_manifest
from jax_me.models import reference_check
from jax_me.models.model_folder import SavedModelError, load_model, save_model
from jax_me.models.reference_check import REFERENCE_FILE, read_reference
from tests.helpers.checkpoint_files import save_safetensors
from tests.helpers.inference_models import tiny

pytestmark = pytest.mark.usefixtures("quick_compilation")

VIT = dict(image_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=3)
MAE = dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
CONVNEXT = dict(depths=[1, 1, 1, 1], dims=[4, 6, 8, 10], image_size=32)
FAMILIES = {
  "vit_tiny_patch16": VIT,
  "mae_vit_tiny_patch16": {k: v for k, v in VIT.items() if k != "num_classes"} | MAE,
  "t2t_vit_7": dict(
    image_size=32, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0, token_dim=4, num_classes=3
  ),
  "convnextv2_atto": CONVNEXT | {"num_classes": 3},
  "fcmae_convnextv2_atto": CONVNEXT | {"decoder_embed_dim": 8},
}
LABELS = ["negative", "positive", "surprise"]


def fields_of(name):
  return dict(
    name=name,
    arguments=FAMILIES[name],
    labels=None if "mae" in name else LABELS,
    image_size=32,
    mean=[0.4, 0.5, 0.6],
    std=[0.2, 0.25, 0.3],
    source={"options": {"align": True, "size": 40}},
  )


@pytest.mark.parametrize("weights_format", ["orbax", "safetensors"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_correct_folders_pass(tmp_path, capsys, name, weights_format):
  """Twenty folders in all: five families, saved and converted, in both formats."""
  model = tiny(name, **FAMILIES[name])
  save_model(tmp_path / "saved", model, weights_format=weights_format, **fields_of(name))
  file = save_safetensors(torch_arrays(model, name), tmp_path / "file.safetensors")
  command = ["--checkpoint", str(file), "--model", name, "--output", str(tmp_path / "converted")]
  for keyword, value in FAMILIES[name].items():
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    command += [f"--{keyword}", text]
  assert torch_to_flax.main([*command, "--format", weights_format]) == 0, capsys.readouterr().err
  for folder in ("saved", "converted"):
    assert load_model(tmp_path / folder, verify=True).name == name


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp("reference") / "model"
  save_model(
    folder,
    tiny("vit_tiny_patch16", **VIT),
    **fields_of("vit_tiny_patch16"),
    preparation=ImagePreparation(32, "shortest_edge", 37, 32 / 37, "bicubic"),
  )
  return folder


@pytest.fixture
def copy(vit_folder, tmp_path):
  return pathlib.Path(shutil.copytree(vit_folder, tmp_path / "copy"))


def edit(folder, **changes):
  """Edits model.json and writes the manifest again, as a person who knows the format would."""
  path = folder / "model.json"
  document = json.loads(path.read_text())
  for key, value in changes.items():
    target = document if key in document else document["preprocessing"]
    target[key] = value
  path.write_text(json.dumps(document))
  write_manifest(folder, *read_manifest(folder))


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"mean": [0.6, 0.5, 0.4], "std": [0.3, 0.25, 0.2]}, "the order of the channels"),
    ({"channels": "BGR"}, "channels"),
    ({"mean": [0.4, 0.5, 0.61]}, "mean is"),
    ({"std": [0.2, 0.25, 0.31]}, "std is"),
    ({"image_size": 48}, "image_size is 48 instead of 32"),
    ({"crop_fraction": 0.9}, "crop_fraction is 0.9"),
    ({"resize_to": 40}, "resize_to is 40 instead of 37"),
    ({"interpolation": "bilinear"}, "interpolation is"),
    ({"labels": ["positive", "negative", "surprise"]}, "the order of the labels"),
    ({"labels": ["negative", "positive", "other"]}, "labels is"),
    ({"alignment": {"align": False, "size": 40}}, "alignment is"),
    ({"arguments": VIT | {"num_heads": 3}}, "argument num_heads is 3 instead of 2"),
    ({"arguments": VIT | {"norm_epsilon": 1e-3}}, "argument norm_epsilon is 0.001"),
  ],
)
def test_an_edited_folder_is_refused_by_the_name_of_what_differs(copy, changes, words):
  edit(copy, **changes)
  with pytest.raises(SavedModelError, match=words):
    load_model(copy)


def test_weights_of_another_folder_are_refused(copy, tmp_path):
  other = tiny("vit_tiny_patch16", **VIT | {"num_heads": 3})
  save_model(tmp_path / "other", other, **fields_of("vit_tiny_patch16"))
  shutil.rmtree(copy / "weights")
  shutil.copytree(tmp_path / "other/weights", copy / "weights")
  write_manifest(copy)
  with pytest.raises(SavedModelError, match="the files of the weights are others"):
    load_model(copy)


def test_a_folder_whose_reference_was_removed_is_refused(copy):
  (copy / REFERENCE_FILE).unlink()
  write_manifest(copy)
  with pytest.raises(SavedModelError, match="does not list reference.safetensors"):
    load_model(copy)


def test_another_output_is_refused_with_verify(copy, monkeypatch):
  saved = jax_me.load(copy, verify=True).saved
  reference = read_reference(copy / REFERENCE_FILE)
  for changed, words in (
    (dataclasses.replace(reference, output=reference.output * np.float32(1.01)), "output differs"),
    (dataclasses.replace(reference, input=reference.input + np.float32(0.1)), "grey levels"),
    (dataclasses.replace(reference, output=reference.output[1:]), r"output is \[3\], not \[2\]"),
  ):
    with pytest.raises(SavedModelError, match=words):
      reference_check.verify_output(saved, changed)


def test_a_narrower_dtype_has_a_wider_tolerance(copy):
  load_model(copy, verify=True, dtype="bfloat16")


def test_a_damaged_reference_is_an_error(copy):
  (copy / REFERENCE_FILE).write_bytes(b"\x08\0\0\0\0\0\0\0notjson!")
  write_manifest(copy)
  with pytest.raises(SavedModelError, match="reference.safetensors cannot be read"):
    load_model(copy)
