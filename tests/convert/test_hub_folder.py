"""Hub folders: labels and preprocessing, one or more files, and settings that are refused."""

import dataclasses
import json

import numpy as np
import pytest

from convert import torch_to_flax
from convert.errors import ConversionError
from convert.flax_to_torch import torch_arrays
from convert.timm_config import timm_model
from convert.torch_to_flax import convert_arrays, convert_checkpoint, read_checkpoint
from jax_me.image_preparation import ImagePreparation
from jax_me.models.model_folder import load_model
from tests.helpers.checkpoint_files import save_safetensors, save_torch, state_dict, vit_arrays
from tests.helpers.golden_cases import golden_cases
from tests.helpers.hub_models import (
  hub_cases,
  hub_weights,
  write_case,
  write_json,
  write_shards,
)
from tests.helpers.hub_parity import CONVNEXT_FLAGS, VIT_FLAGS

pytestmark = pytest.mark.usefixtures("quick_compilation")

CASES = hub_cases()
LABELS = ["angry", "happy", "neutral", "sad", "surprise"]


def arrays_of(name: str, form: str = "model.safetensors") -> dict[str, np.ndarray]:
  return dict(zip(CASES[name].forms[form], hub_weights(CASES[name]), strict=True))


def write_folder(folder, name: str = "transformers_vit", **config):
  """A recorded folder with changed settings in its config.json."""
  write_case(CASES[name], "model.safetensors", folder)
  write_json(folder / "config.json", CASES[name].config | config)
  return folder


@pytest.mark.parametrize(
  ("name", "model", "mean", "resize"),
  [
    ("transformers_vit", "vit_tiny_patch16", 0.5, ("stretch", 32, 1.0, "bilinear")),
    ("timm_vit", "vit_tiny_patch16", 0.5, ("shortest_edge", 35, 0.9, "bicubic")),
    ("transformers_convnextv2", "convnextv2_atto", 0.5, ("shortest_edge", 73, 0.875, "bicubic")),
  ],
)
def test_the_command_takes_over_labels_and_preprocessing(
  tmp_path, capsys, name, model, mean, resize
):
  folder = write_case(CASES[name], "model.safetensors", tmp_path / "hub")
  out = tmp_path / "out"
  assert torch_to_flax.main(["--checkpoint", str(folder), "--output", str(out)]) == 0
  printed = capsys.readouterr().out
  assert f"config.json of {CASES[name].library}" in printed and "WARNING" not in printed
  saved = load_model(out)
  assert saved.name == model and saved.labels == LABELS
  assert saved.mean == [mean] * 3 and saved.std == [mean] * 3
  assert saved.image_size == CASES[name].side
  rounding = "half_even" if CASES[name].library == "timm" else "down"
  assert saved.preparation == ImagePreparation(saved.image_size, *resize, rounding)
  assert not saved.alignment["align"]
  report = json.loads((out / "conversion.json").read_text())
  outcomes = [entry["key"] for entry in report["loaded"] + report["dropped"]]
  assert sorted(outcomes) == sorted(CASES[name].forms["model.safetensors"])


def test_options_of_the_command_go_before_those_of_the_folder(tmp_path):
  folder = write_case(CASES["transformers_vit"], "model.safetensors", tmp_path / "hub")
  command = ["--checkpoint", str(folder / "model.safetensors"), "--output", str(tmp_path / "out")]
  command += ["--labels", "a,b,c,d,e", "--mean", "0.1,0.2,0.3", "--image_size", "64"]
  assert torch_to_flax.main(command) == 0  # the file is read with the config.json beside it
  saved = load_model(tmp_path / "out")
  assert saved.labels == list("abcde") and saved.mean == [0.1, 0.2, 0.3]
  assert saved.std == [0.5, 0.5, 0.5] and saved.image_size == 64
  assert saved.preparation.resize_to == 64


def test_a_new_head_has_no_labels_of_the_folder(tmp_path):
  folder = write_case(CASES["transformers_vit"], "model.safetensors", tmp_path / "hub")
  conversion = convert_checkpoint(read_checkpoint(folder), num_classes=3)
  assert conversion.labels is None
  assert {entry["path"] for entry in conversion.report.fresh} == {"head.kernel", "head.bias"}


def test_query_key_and_value_are_reported_one_by_one(tmp_path):
  folder = write_case(CASES["transformers_vit_model"], "model.safetensors", tmp_path / "hub")
  report = convert_checkpoint(read_checkpoint(folder), num_classes=5).report
  joined = [e for e in report.loaded if e["path"] == "blocks.1.attn.qkv.kernel"]
  start = "encoder.layer.1.attention.attention"
  assert {e["key"] for e in joined} == {f"{start}.{n}.weight" for n in ("query", "key", "value")}
  assert all(e["how"] == "renamed and joined and transposed" for e in joined)
  assert all((e["shape"], e["model_shape"]) == ([24, 24], [24, 72]) for e in joined)
  assert {e["key"] for e in report.dropped} == {"pooler.dense.weight", "pooler.dense.bias"}
  assert "pooler" in report.dropped[0]["reason"]


def test_a_masked_autoencoder_initialises_a_classifier(tmp_path):
  folder = write_case(CASES["transformers_mae"], "model.safetensors", tmp_path / "hub")
  conversion = convert_checkpoint(read_checkpoint(folder), "vit_tiny_patch16", num_classes=3)
  assert conversion.arguments["norm_epsilon"] == 1e-12
  assert "decoder_depth" not in conversion.arguments
  assert {e["path"].split(".")[0] for e in conversion.report.fresh} == {"head", "fc_norm"}
  dropped = {e["key"] for e in conversion.report.dropped}
  assert "decoder.decoder_encoder.layer.0.attention.attention.key.bias" in dropped


def test_the_export_has_the_keys_of_the_original_project(tmp_path):
  folder = write_case(CASES["transformers_vit"], "new key names", tmp_path / "hub")
  conversion = convert_checkpoint(read_checkpoint(folder))
  exported = torch_arrays(conversion.model, conversion.name)
  weights = arrays_of("transformers_vit", "new key names")
  parts = [weights[f"vit.layers.0.attention.{part}_proj.weight"] for part in "qkv"]
  np.testing.assert_array_equal(exported["blocks.0.attn.qkv.weight"], np.concatenate(parts))
  again = convert_arrays(exported, conversion.name, **conversion.arguments)
  assert again.report.weights_sha256 == conversion.report.weights_sha256


@pytest.mark.parametrize(
  ("name", "changes", "words"),
  [
    ("transformers_vit", {"hidden_act": "gelu_new"}, "hidden_act = 'gelu_new'"),
    ("transformers_vit", {"num_channels": 1}, "num_channels = '1'"),
    ("transformers_vit", {"image_size": [32, 48]}, "square"),
    ("transformers_vit", {"head_dim": 4}, "head_dim = '4'"),
    ("transformers_vit", {"model_type": "deit"}, "model_type 'deit'"),
    ("transformers_vit", {"model_type": "dinov2_with_registers"}, "dinov2_with_registers"),
    ("transformers_vit", {"architectures": ["ViTForMaskedImageModeling"]}, "MaskedImageModeling"),
    ("transformers_vit", {"architectures": None}, "none"),
    ("transformers_vit", {"auto_map": {"AutoModel": "x.py"}}, "code of its own"),
    ("transformers_vit", {"hidden_size": "wide"}, "wrong type"),
    ("transformers_vit", {"id2label": {"1": "a"}}, "wrong type"),
    ("transformers_vit", {"image_size": 64}, "images of 32 pixels"),
    ("transformers_vit", {"num_attention_heads": 5}, "cannot be built"),
    ("transformers_vit", {"hidden_size": 48}, "embed_dim: 48 in config.json, 24 in the weights"),
    ("transformers_vit", {"num_hidden_layers": 10**9}, "depth: 1000000000 in config.json, 2 in"),
    ("transformers_vit", {"layer_norm_eps": float("nan")}, "layer_norm_eps = nan"),
    ("transformers_mae", {"decoder_num_hidden_layers": 2}, "decoder_depth: 2 in config.json, 1 in"),
    ("transformers_mae", {"image_size": 64}, "images of 32 pixels"),
    ("transformers_convnextv2", {"depths": [1, 1, 2, 2]}, "depths: [1, 1, 2, 2] in config.json"),
    ("timm_vit", {"num_classes": 7}, "num_classes: 7 in config.json, 5 in the weights"),
    ("transformers_mae", {"decoder_intermediate_size": 32}, "different MLP ratios"),
    ("transformers_mae", {"qkv_bias": False}, "qkv_bias = 'False'"),
    ("transformers_convnextv2", {"patch_size": 2}, "patch_size = '2'"),
    ("transformers_convnextv2", {"model_type": "vit"}, "model_type 'vit'"),
    ("timm_vit", {"architecture": "vit_base_patch16_clip_224"}, "vit_base_patch16_clip_224"),
    ("timm_vit", {"architecture": "vit_base_patch16_rpn_224"}, "vit_base_patch16_rpn_224"),
    ("timm_vit", {"architecture": "convnext_tiny"}, "convnext_tiny"),
    ("timm_vit", {"architecture": "convnextv2_tiny", "model_args": {}}, "seems to be ViT"),
    ("timm_vit", {"model_args": {"act_layer": "quick_gelu"}}, "act_layer = 'quick_gelu'"),
    ("timm_vit", {"model_args": {"init_values": 1e-5}}, "init_values = '1e-05'"),
    ("timm_vit", {"model_args": {"reg_tokens": 4}}, "reg_tokens = '4'"),
    ("timm_vit", {"model_args": {"global_pool": "map"}}, "global_pool = 'map'"),
    ("timm_vit", {"model_args": {"fc_norm": True}}, "fc_norm = 'True'"),
    ("timm_vit", {"model_args": {"new_option": 1}}, "unknown model_args: new_option"),
    ("timm_convnextv2", {"model_args": {"norm_eps": 1e-5}}, "norm_eps = '1e-05'"),
    ("timm_convnextv2", {"model_args": {"stem_type": "overlap"}}, "stem_type = 'overlap'"),
  ],
)
def test_settings_that_the_models_lack_are_refused(tmp_path, name, changes, words):
  folder = write_folder(tmp_path / "hub", name, **changes)
  with pytest.raises(ConversionError) as error:
    convert_checkpoint(read_checkpoint(folder))
  assert words in str(error.value) and "hub" in str(error.value)


@pytest.mark.parametrize(
  ("key", "words"),
  [
    ("blocks.0.ls1.gamma", "layer scale"),
    ("blocks.1.attn.q_norm.weight", "normalised queries and keys"),
    ("blocks.1.mlp.fc1_g.weight", "gated MLPs"),
    ("blocks.0.attn.relative_position_bias_table", "relative positions"),
    ("reg_token", "register tokens"),
    ("dist_token", "distillation token"),
    ("norm_pre.weight", "norm before the blocks"),
    ("attn_pool.latent", "attention pooling"),
    ("prompt_blocks.0.conv0_0.weight", "S2D"),
    ("temporal_embedding", "S2D"),
  ],
)
def test_parts_that_the_models_lack_are_refused_by_name(key, words):
  with pytest.raises(ConversionError, match=words) as error:
    convert_arrays(vit_arrays() | {key: np.zeros(8, np.float32)}, "vit_tiny_patch16")
  assert key in str(error.value)
  v1 = arrays_of("timm_convnextv2") | {"stages.0.blocks.0.gamma": np.zeros(4, np.float32)}
  with pytest.raises(ConversionError, match="layer scale"):
    convert_arrays(v1, "convnextv2_tiny")


def test_a_file_of_transformers_needs_its_config():
  for name, model, flags in (
    ("transformers_vit", "vit_tiny_patch16", VIT_FLAGS | {"image_size": 32}),
    ("transformers_convnextv2", "convnextv2_tiny", CONVNEXT_FLAGS),
  ):
    keyword = "norm_epsilon" if "vit_tiny" in model else "final_norm_epsilon"
    flags = {k: v for k, v in flags.items() if k != keyword}
    with pytest.raises(ConversionError, match="from config.json") as error:
      convert_arrays(arrays_of(name), model, **flags)
    assert f"--{keyword}" in error.value.remedy
    assert not convert_arrays(arrays_of(name), model, **flags, **{keyword: 1e-12}).report.fresh


def test_missing_and_extra_keys_have_the_spelling_of_the_file():
  arrays = arrays_of("transformers_vit", "new key names")
  del arrays["vit.layers.0.attention.k_proj.bias"], arrays["vit.layers.1.layernorm_after.weight"]
  for part in "qkv":
    del arrays[f"vit.layers.1.attention.{part}_proj.weight"]
  arrays["vit.layers.1.attention.q_proj.scale"] = np.zeros(3, np.float32)
  arrays["vit.layers.0.attention.v_proj.bias"] = np.zeros(3, np.float32)
  with pytest.raises(ConversionError) as error:
    convert_arrays(arrays, "vit_tiny_patch16", **VIT_FLAGS, image_size=32)
  problems = "\n".join(error.value.problems)
  names = " + ".join(f"vit.layers.1.attention.{part}_proj.weight" for part in "qkv")
  for words in (
    "vit.layers.0.attention.k_proj.bias [24]: missing in the file",
    "vit.layers.0.attention.v_proj.bias: shape [3], the other parts",
    "vit.layers.1.layernorm_after.weight [24]: missing in the file",
    f"{names} [72, 24]: missing in the file",
    "vit.layers.1.attention.q_proj.scale [3]: unexpected",
  ):
    assert words in problems
  assert len(error.value.problems) == 5


def test_timm_keys_that_a_model_lacks_are_listed():
  arrays = arrays_of("timm_convnextv2")
  del arrays["stages.1.downsample.0.bias"]
  arrays["stages.2.blocks.0.mlp.fc3.weight"] = np.zeros((4, 4), np.float32)
  with pytest.raises(ConversionError) as error:
    convert_arrays(arrays, "convnextv2_tiny", **CONVNEXT_FLAGS)
  problems = "\n".join(error.value.problems)
  assert "stages.1.downsample.0.bias [4]: missing" in problems
  assert "stages.2.blocks.0.mlp.fc3.weight [4, 4]: unexpected" in problems


def test_two_heads_of_the_same_name_are_refused():
  arrays = arrays_of("fmae_iat", ".pth")
  arrays["head.bias"] = arrays["AU_head.bias"]
  with pytest.raises(ConversionError, match="1 mismatches") as error:
    convert_arrays(arrays, "vit_tiny_patch16", **VIT_FLAGS)
  assert "head.bias: the file has another key" in str(error.value)


def test_heads_of_other_projects_are_reported():
  flags = VIT_FLAGS | {"image_size": 48}
  report = convert_arrays(arrays_of("fmae_iat", ".pth"), "vit_tiny_patch16", **flags).report
  assert {e["key"] for e in report.dropped} == {"ID_head.weight", "ID_head.bias"}
  assert any("sigmoid" in warning for warning in report.warnings)
  trunk = arrays_of("py_feat", ".safetensors")
  report = convert_arrays(trunk, "convnextv2_tiny", num_classes=3, **CONVNEXT_FLAGS).report
  assert {e["key"].split(".")[0] for e in report.dropped} == {"proj", "pose", "log_var_va"}
  assert any("only the trunk" in warning for warning in report.warnings)


def shards(folder):
  write_json(folder / "config.json", CASES["transformers_vit"].config)
  write_shards(arrays_of("transformers_vit"), folder, 2)
  return folder / "model.safetensors.index.json", folder / "model-00001-of-00002.safetensors"


def test_shards_must_agree_with_their_index(tmp_path):
  index, first = shards(tmp_path)
  content = json.loads(index.read_text())

  def assert_refused(words, path=tmp_path):
    with pytest.raises(ConversionError) as error:
      read_checkpoint(path)
    assert words in str(error.value)

  assert read_checkpoint(tmp_path).metadata == {"files": 2}
  assert_refused("only a part of the weights", first)
  places = content["weight_map"]
  key = next(iter(places))
  for changed, words in (
    (places | {"more": first.name}, "more"),
    ({k: v for k, v in places.items() if k != key}, f"{key} is in {first.name}"),
    (places | {key: "model-00002-of-00002.safetensors"}, f"{key} is in {first.name}"),
    (places | {key: "model-00003-of-00002.safetensors"}, "missing: model-00003"),
    (places | {key: "../model-00001-of-00002.safetensors"}, "no weight_map"),
    (places | {key: 3}, "no weight_map"),
    ({}, "no weight_map"),
  ):
    write_json(index, content | {"weight_map": changed})
    assert_refused(words)
  index.write_text("{")
  assert_refused("cannot be read")
  write_json(index, content)
  first.write_bytes(first.read_bytes()[:-9])
  assert_refused(first.name)


def test_shards_of_torch_files(tmp_path):
  arrays = arrays_of("transformers_vit")
  names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
  places = {key: names[number % 2] for number, key in enumerate(arrays)}
  for name in names:
    save_torch(state_dict({k: v for k, v in arrays.items() if places[k] == name}), tmp_path / name)
  write_json(tmp_path / "pytorch_model.bin.index.json", {"weight_map": places})
  write_json(tmp_path / "config.json", CASES["transformers_vit"].config)
  read = read_checkpoint(tmp_path)
  assert read.format == "torch zip" and set(read.arrays) == set(arrays)
  assert not convert_checkpoint(read).report.fresh


def test_folders_that_are_no_hub_folders(tmp_path):
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(ConversionError, match=r"has: notes.txt"):
    read_checkpoint(tmp_path)
  save_safetensors(arrays_of("transformers_vit"), tmp_path / "model.safetensors")
  for content, words in (
    ("[]", "not a JSON object"),
    ("{'a'}", "cannot be read"),
    ('{"model_type": []}', "jax_me does not have|wrong type"),
  ):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConversionError, match=words):
      read_checkpoint(tmp_path)
  (tmp_path / "config.json").write_text("{}")  # of another program
  assert read_checkpoint(tmp_path).hub is None
  (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
  (tmp_path / "config.json").write_text("not read")
  assert read_checkpoint(tmp_path / "other.safetensors").hub is None


def test_the_model_given_must_be_the_one_of_the_folder(tmp_path):
  folder = write_case(CASES["timm_vit"], "model.safetensors", tmp_path / "hub")
  checkpoint = read_checkpoint(folder)
  # No named model has these sizes, so that any name of the family is taken.
  named = convert_checkpoint(checkpoint, "vit_small_patch16")
  assert named.name == "vit_small_patch16" and named.arguments["embed_dim"] == 24
  with pytest.raises(ConversionError, match="cannot be converted to t2t_vit_7"):
    convert_checkpoint(checkpoint, "t2t_vit_7")
  tiny = {
    entry["key"]: np.broadcast_to(np.float32(0), entry["shape"])
    for entry in golden_cases("mae")["vit_tiny_patch16_cls"]["keys"]
  }
  hub = timm_model({"architecture": "vit_tiny_patch16_224"})
  checkpoint = dataclasses.replace(checkpoint, arrays=tiny, hub=hub)
  with pytest.raises(ConversionError, match="not vit_small_patch16") as error:
    convert_checkpoint(checkpoint, "vit_small_patch16")
  assert "vit_tiny_patch16" in error.value.remedy
