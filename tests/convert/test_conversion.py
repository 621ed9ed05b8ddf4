"""Conversion: parity with the outputs of the original code, and an outcome for every key."""

import jax
import numpy as np
import pytest
from flax import nnx

from convert.detection import CLASSIFIER, FCMAE_DENSE, FCMAE_SPARSE, MAE_ENCODER, MAE_FULL, detect
from convert.errors import ConversionError
from convert.flax_to_torch import torch_arrays
from convert.torch_to_flax import convert, convert_arrays
from jax_me.models.positions import resize_positions
from tests.helpers.checkpoint_files import (
  TINY_MAE,
  TINY_MODELS,
  TINY_VIT,
  mae_arrays,
  random_model_arrays,
  vit_arrays,
)
from tests.helpers.golden_cases import (
  expected_outputs,
  golden_cases,
  golden_tolerance,
  mask_noise,
  max_difference,
  model_input,
  torch_weights,
)

# One case per kind of layer of a family; sizes do not matter here.
pytestmark = pytest.mark.usefixtures("quick_compilation")

CASES = [
  ("t2t", "t2t_vit_7", "t2t_vit_7"),
  ("t2t", "t2t_vit_14_384", "t2t_vit_14"),
  ("t2t", "t2t_vit_t_14", "t2t_vit_t_14"),
  ("t2t", "t2t_vit_14_wide", "t2t_vit_14_wide"),
  ("t2t", "t2t_vit_14_se", "t2t_vit_14_se"),
  ("t2t", "t2t_vit_dense", "t2t_vit_dense"),
  ("t2t", "t2t_vit_16_ghost", "t2t_vit_16_ghost"),
  ("t2t", "t2t_vit_14_classes7", "t2t_vit_14"),
  ("mae", "mae_vit_tiny_patch16", "mae_vit_tiny_patch16"),
  ("mae", "vit_tiny_patch16_gap", "vit_tiny_patch16"),
  ("mae", "vit_tiny_patch16_cls", "vit_tiny_patch16"),
  ("mae", "vit_tiny_patch16_gap_384", "vit_tiny_patch16"),
  ("mae", "vit_small_patch32_cls", "vit_small_patch32"),
  ("convnextv2", "convnextv2_atto", "convnextv2_atto"),
  ("fcmae", "fcmae_convnextv2_atto", "fcmae_convnextv2_atto"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("golden", "case_name", "name"), CASES, ids=[c[1] for c in CASES])
def test_round_trip_is_bit_exact_and_has_the_keys_of_the_original(golden, case_name, name):
  case = golden_cases(golden)[case_name]
  arrays = torch_weights(case)
  conversion = convert_arrays(arrays, name)
  report = conversion.report
  assert {e["key"] for e in report.loaded} == set(arrays)
  assert not report.dropped and not report.fresh
  assert report.parameters == case["n_params_total"]
  back = torch_arrays(conversion.model, name)
  assert set(back) == {entry["key"] for entry in case["keys"]}
  for key, value in arrays.items():
    assert back[key].dtype == np.float32
    np.testing.assert_array_equal(back[key], value, strict=True)
  again = convert_arrays(back, name)
  assert again.report.weights_sha256 == report.weights_sha256


@pytest.mark.slow
@pytest.mark.parametrize(
  ("golden", "case_name", "name"),
  [c for c in CASES if c[1] in ("t2t_vit_7", "vit_tiny_patch16_cls", "convnextv2_atto")],
)
def test_converted_classifiers_match_the_logits_of_the_original(golden, case_name, name):
  case = golden_cases(golden)[case_name]
  model = convert(torch_weights(case), name)
  logits = nnx.jit(lambda m, x: m(x))(model, model_input(case))
  desired = expected_outputs(golden, case_name)["logits_f64"]
  assert max_difference(logits, desired) < golden_tolerance(desired, np.float32)


@pytest.mark.slow
def test_converted_mae_matches_the_loss_of_the_original():
  case = golden_cases("mae")["mae_vit_tiny_patch16"]
  outputs = expected_outputs("mae", "mae_vit_tiny_patch16")
  mae = convert(torch_weights(case), "mae_vit_tiny_patch16", norm_pix_loss=True)
  out = nnx.jit(lambda m, x, n: m(x, 0.75, noise=n))(mae, model_input(case), mask_noise(case))
  assert abs(float(out.loss) - float(outputs["loss_norm_pix_f64"])) < 1e-5


@pytest.mark.slow
def test_converted_fcmae_matches_the_fine_tuning_features_of_the_original():
  case = golden_cases("fcmae")["fcmae_convnextv2_atto"]
  conversion = convert_arrays(torch_weights(case), "convnextv2_atto", num_classes=7)
  features = nnx.jit(lambda m, x: m.features(x))(conversion.model, model_input(case))
  outputs = expected_outputs("fcmae", "fcmae_convnextv2_atto")
  key = next(k for k in outputs if "finetune_features" in k and k.endswith("f64"))
  assert max_difference(features, outputs[key]) < golden_tolerance(outputs[key], np.float32)
  assert {e["path"] for e in conversion.report.fresh} == {
    "norm.scale",
    "norm.bias",
    "head.kernel",
    "head.bias",
  }
  assert len(conversion.report.dropped) == len(case["keys"]) - len(case["remap"])
  assert any("untrained" in warning for warning in conversion.report.warnings)


def fcmae_released() -> dict[str, np.ndarray]:
  """The released form: dense kernels, no prefix, no decoder, no last norm."""
  classifier = torch_weights(golden_cases("convnextv2")["convnextv2_atto"])
  return {k: v for k, v in classifier.items() if not k.startswith(("norm.", "head."))}


@pytest.mark.slow
def test_released_fcmae_encoder_converts_to_a_classifier_only():
  conversion = convert_arrays(fcmae_released(), num_classes=7)
  assert conversion.name == "convnextv2_atto"
  assert len(conversion.report.fresh) == 4 and not conversion.report.dropped
  with pytest.raises(
    ConversionError, match="cannot be converted to fcmae_convnextv2_atto"
  ) as error:
    convert(fcmae_released(), "fcmae_convnextv2_atto")
  assert "no decoder" in error.value.remedy


def test_detection():
  def detected(arrays):
    detection = detect(arrays)
    return detection.family, detection.content, detection.names

  golden = {g: golden_cases(g) for g in ("t2t", "mae", "convnextv2", "fcmae")}

  def case(family, name):
    return {
      e["key"]: np.broadcast_to(np.float32(0), e["shape"]) for e in golden[family][name]["keys"]
    }

  for family, ours in (("t2t", "t2t_vit"), ("convnextv2", "convnextv2"), ("fcmae", "fcmae")):
    for name, entry in golden[family].items():
      found = detected(case(family, name))
      wanted = name.removesuffix("_384").removesuffix("_classes7").removesuffix("_qk_scale")
      assert found[0] == ours
      assert found[1] == (FCMAE_SPARSE if family == "fcmae" else CLASSIFIER)
      assert wanted in found[2], (name, found, entry["model"])
      same_shapes = {"t2t_vit_14", "t2t_vit_14_resnext"}
      assert set(found[2]) == (same_shapes if wanted in same_shapes else {wanted})
  for name in golden["mae"]:
    family, content, names = detected(case("mae", name))
    wanted = name
    for ending in ("_384", "_classes7", "_gap", "_cls"):
      wanted = wanted.removesuffix(ending)
    assert names == (wanted,)
    assert (family, content) == (
      ("mae", MAE_FULL) if name.startswith("mae") else ("vit", CLASSIFIER)
    )
    if family == "vit":
      assert detect(case("mae", name)).arguments["global_pool"] == ("_gap" in name)
  full = case("mae", "mae_vit_base_patch16")
  encoder = {k: v for k, v in full.items() if not k.startswith(("decoder", "mask_token"))}
  assert detected(encoder) == ("vit", MAE_ENCODER, ("vit_base_patch16",))
  dense = {
    k: v
    for k, v in case("convnextv2", "convnextv2_base").items()
    if not k.startswith(("norm.", "head."))
  }
  assert detected(dense) == ("convnextv2", FCMAE_DENSE, ("convnextv2_base",))
  labelled = case("t2t", "t2t_vit_24") | {
    "aux_head.weight": np.zeros((1000, 512), np.float32),
    "aux_head.bias": np.zeros(1000, np.float32),
  }
  assert detect(labelled).arguments["token_labeling"] is True


@pytest.mark.parametrize(
  ("key", "words"),
  [
    ("layer1.0.conv1.weight", "ResNet"),
    ("vit.encoder.layer.0.attention.attention.query.weight", "transformers"),
    ("stages.0.blocks.0.conv_dw.weight", "timm"),
    ("something.else", "none of T2T-ViT"),
  ],
)
def test_unsupported_formats_are_named(key, words):
  with pytest.raises(ConversionError, match=words):
    convert({key: np.zeros((2, 2), np.float32)}, "vit_tiny_patch16")
  with pytest.raises(ConversionError, match="no keys at all"):
    convert({}, "vit_tiny_patch16")


def test_errors_name_the_detected_model():
  with pytest.raises(ConversionError) as error:
    convert(vit_arrays(), "t2t_vit_14")
  assert "cannot be converted to t2t_vit_14: it seems to be ViT" in str(error.value)
  small = torch_weights(golden_cases("mae")["vit_tiny_patch16_cls"])
  with pytest.raises(ConversionError) as error:
    convert(small, "vit_base_patch16")
  assert "the file seems to be vit_tiny_patch16" in str(error.value)
  assert "--embed_dim 192" in error.value.remedy
  with pytest.raises(ConversionError, match="mae_vit_tiny_patch16"):
    convert(mae_arrays(decoder=False), "mae_vit_tiny_patch16", **TINY_MAE)
  with pytest.raises(ConversionError, match="unknown model 'vit_tiny'") as error:
    convert(small, "vit_tiny")
  assert "vit_tiny_patch16" in error.value.remedy
  with pytest.raises(ConversionError, match="cannot be built"):
    convert(small, "vit_tiny_patch16", colour="red")


def test_all_key_problems_are_listed():
  arrays = vit_arrays()
  del arrays["blocks.1.norm1.weight"]
  arrays["blocks.0.attn.qkv.weight"] = arrays["blocks.0.attn.qkv.weight"][:, :4]
  arrays["blocks.0.mlp.fc1.weight"] = arrays["blocks.0.mlp.fc1.weight"].ravel()
  arrays["cls_token"] = arrays["cls_token"][0]
  arrays["extra"] = np.zeros(3, np.float32)
  arrays["blocks.2.norm1.weight"] = np.zeros(8, np.float32)
  arrays["head.weightx"] = np.zeros((7, 8), np.float32)
  with pytest.raises(ConversionError) as error:
    convert(arrays, "vit_tiny_patch16", **TINY_VIT)
  problems = "\n".join(error.value.problems)
  for words in (
    "blocks.1.norm1.weight [8]: missing",
    "blocks.0.attn.qkv.weight: shape [24, 4], the model needs [24, 8]",
    "blocks.0.mlp.fc1.weight: shape [256], the model needs [32, 8]",
    "cls_token: shape [1, 8], the model needs [1, 1, 8]",
    "extra [3]: unexpected",
    "blocks.2.norm1.weight [8]: unexpected",
    "head.weightx [7, 8]: unexpected",
  ):
    assert words in problems
  assert len(error.value.problems) == 7


def test_all_unusable_arrays_are_listed():
  arrays = vit_arrays()
  arrays["norm_nan"] = np.array([np.nan], np.float32)
  arrays["head.bias"] = np.arange(7)
  arrays["pos_embed"] = np.full((1, 5, 8), np.inf, np.float32)
  del arrays["cls_token"]
  with pytest.raises(ConversionError) as error:
    convert(arrays, "vit_tiny_patch16", **TINY_VIT)
  problems = "\n".join(error.value.problems)
  for words in (
    "norm_nan: 1 of 1 values are not finite",
    "norm_nan [1]: unexpected",
    "head.bias: int64",
    "pos_embed: 40 of 40",
    "cls_token [1, 1, 8]: missing",
  ):
    assert words in problems
  assert len(error.value.problems) == 5
  with pytest.raises(ConversionError, match="not numpy arrays"):
    convert(vit_arrays() | {"head.bias": [1.0] * 7}, "vit_tiny_patch16", **TINY_VIT)


@pytest.mark.slow
@pytest.mark.parametrize("family", TINY_MODELS)
def test_every_missing_key_is_named(family):
  name, sizes = TINY_MODELS[family]
  arrays = random_model_arrays(name, **sizes)
  for key in arrays:
    rest = {k: v for k, v in arrays.items() if k != key}
    with pytest.raises(ConversionError) as error:
      convert(rest, name, **sizes)
    assert any(p.startswith(f"{key} [") and "missing" in p for p in error.value.problems), key


def test_num_classes_replaces_the_head():
  arrays = vit_arrays(classes=7)
  same = convert_arrays(arrays, "vit_tiny_patch16", num_classes=7, **TINY_VIT)
  assert not same.report.fresh
  other = convert_arrays(arrays, "vit_tiny_patch16", num_classes=3, **TINY_VIT)
  assert {e["path"] for e in other.report.fresh} == {"head.kernel", "head.bias"}
  assert {e["key"] for e in other.report.dropped} == {"head.weight", "head.bias"}
  assert "7 classes" in other.report.fresh[0]["reason"]
  assert other.model.head.kernel[...].shape == (8, 3)
  assert float(np.abs(other.model.head.kernel[...]).sum()) > 0  # initialised, not empty
  np.testing.assert_array_equal(other.model.blocks[1].mlp.fc2.bias, arrays["blocks.1.mlp.fc2.bias"])
  del arrays["head.weight"]  # an incomplete head is an error
  for classes in ({}, {"num_classes": 7}, {"num_classes": 3}):
    with pytest.raises(ConversionError):
      convert(arrays, "vit_tiny_patch16", **classes, **TINY_VIT)


@pytest.mark.slow
def test_image_size_resizes_the_position_table_as_torch_does():
  arrays = vit_arrays()
  conversion = convert_arrays(arrays, "vit_tiny_patch16", **TINY_VIT | {"image_size": 56})
  expected_table = resize_positions(arrays["pos_embed"], 4)
  np.testing.assert_array_equal(conversion.model.pos_embed[...], expected_table)
  entry = next(e for e in conversion.report.loaded if e["key"] == "pos_embed")
  assert (entry["shape"], entry["model_shape"]) == ([1, 5, 8], [1, 17, 8])
  assert "resized" in entry["how"]
  assert conversion.model(np.zeros((1, 56, 56, 3), np.float32)).shape == (1, 7)
  torch = pytest.importorskip("torch", reason="compares with torch's interpolation")
  grid = torch.from_numpy(arrays["pos_embed"][:, 1:].reshape(1, 2, 2, 8)).permute(0, 3, 1, 2)
  resized = torch.nn.functional.interpolate(grid, size=(4, 4), mode="bicubic")
  np.testing.assert_allclose(
    expected_table[0, 1:], resized.permute(0, 2, 3, 1).reshape(16, 8), atol=1e-6
  )
  odd = arrays | {"pos_embed": np.zeros((1, 7, 8), np.float32)}
  for size in (28, 56):
    with pytest.raises(ConversionError, match=r"pos_embed: shape \[1, 7, 8\]"):
      convert(odd, "vit_tiny_patch16", **TINY_VIT | {"image_size": size})


@pytest.mark.slow
def test_mae_files_convert_to_classifiers_with_either_pooling():
  for decoder in (True, False):
    arrays = mae_arrays(decoder=decoder)
    pooled = convert_arrays(arrays, "vit_tiny_patch16", num_classes=3, **TINY_VIT).report
    assert {e["path"].split(".")[0] for e in pooled.fresh} == {"head", "fc_norm"}
    assert {"norm.weight", "norm.bias"} <= {e["key"] for e in pooled.dropped}
    token = convert_arrays(
      arrays, "vit_tiny_patch16", num_classes=3, global_pool=False, **TINY_VIT
    ).report
    assert {e["path"].split(".")[0] for e in token.fresh} == {"head"}
    dropped = {e["key"] for e in token.dropped}
    assert dropped == {k for k in arrays if k.startswith(("decoder", "mask_token"))}
  with pytest.raises(ConversionError, match="fc_norm.scale|fc_norm.weight"):
    convert(vit_arrays(norm="norm"), "vit_tiny_patch16", global_pool=True, **TINY_VIT)


def test_pooling_is_inferred_from_the_file():
  for norm, pooled in (("norm", False), ("fc_norm", True)):
    conversion = convert_arrays(vit_arrays(norm=norm), "vit_tiny_patch16", **TINY_VIT)
    assert conversion.arguments["global_pool"] is pooled


@pytest.mark.slow
def test_token_labeling_head_is_kept_or_dropped():
  name, tiny = TINY_MODELS["t2t"]
  arrays = random_model_arrays(name, token_labeling=True, **tiny)
  assert {"aux_head.weight", "aux_head.bias"} <= set(arrays)
  sizes = dict(embed_dim=32, depth=2, num_heads=2)
  kept = convert_arrays(arrays, "t2t_vit_7", **sizes)
  assert kept.arguments["token_labeling"] is True and not kept.report.dropped
  plain = convert_arrays(arrays, "t2t_vit_7", token_labeling=False, **sizes)
  assert {e["key"] for e in plain.report.dropped} == {"aux_head.weight", "aux_head.bias"}
  replaced = convert_arrays(arrays, "t2t_vit_7", num_classes=3, **sizes)
  assert len(replaced.report.fresh) == len(replaced.report.dropped) == 4


@pytest.mark.slow
def test_ambiguous_models_need_a_name():
  arrays = {
    e["key"]: np.broadcast_to(np.float32(0), e["shape"])
    for e in golden_cases("t2t")["t2t_vit_14"]["keys"]
  }
  with pytest.raises(ConversionError, match="t2t_vit_14, t2t_vit_14_resnext"):
    convert(arrays)
  named = convert_arrays(arrays, "t2t_vit_14")
  assert any("t2t_vit_14_resnext" in warning for warning in named.report.warnings)


@pytest.mark.slow
def test_converted_arrays_have_the_dtype_of_the_model():
  model = convert(vit_arrays(), "vit_tiny_patch16", param_dtype=jax.numpy.bfloat16, **TINY_VIT)
  assert model.head.kernel[...].dtype == jax.numpy.bfloat16
