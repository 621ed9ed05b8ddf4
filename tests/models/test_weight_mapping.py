"""Initialization from another model's weights: transferred, dropped and fresh arrays, errors."""

import jax
import numpy as np
import pytest

from jax_me.models.model_folder import merge_model, split_model
from jax_me.models.positions import resize_positions
from jax_me.models.registry import create_abstract_model
from jax_me.models.weight_mapping import TransferError, initialise_from

SIZES = dict(patch_size=14, embed_dim=8, depth=1, num_heads=2, image_size=28)
DECODER = dict(decoder_embed_dim=4, decoder_depth=1, decoder_num_heads=2)


def build_random(name, seed=0, **arguments):
  """Graph definition, params and model_state of a model, all values N(0, 1)."""
  model = create_abstract_model(name, **arguments)
  graphdef, params, state = split_model(model)
  rng = np.random.default_rng(seed)

  def fill(leaf):
    return jax.numpy.asarray(rng.standard_normal(leaf.shape), leaf.dtype)

  return graphdef, jax.tree.map(fill, params), jax.tree.map(fill, state)


def transfer(source, target, **more):
  """initialise_from for (name, result of `build_random`) of source and target."""
  (source_name, (_, source_params, source_state)) = source
  (target_name, (_, params, state)) = target
  return initialise_from(
    params,
    source_params,
    source_name=source_name,
    target_name=target_name,
    model_state=state,
    source_model_state=source_state,
    **more,
  )


def paths(entries):
  return {entry["path"] for entry in entries}


@pytest.fixture(scope="module")
def mae():
  return "mae_vit_tiny_patch16", build_random("mae_vit_tiny_patch16", **SIZES, **DECODER)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("trained", [True, False], ids=["trained_table", "fixed_table"])
def test_mae_initialises_a_classifier(mae, pooled, trained):
  arguments = dict(num_classes=3, global_pool=pooled, train_positions=trained, **SIZES)
  target = build_random("vit_tiny_patch16", seed=1, **arguments)
  params, state, report = transfer(mae, ("vit_tiny_patch16", target))
  source = mae[1][1]
  for part in ("cls_token", "patch_embed", "blocks"):
    jax.tree.map(np.testing.assert_array_equal, params[part], source[part])
  table = (params if trained else state)["pos_embed"]
  np.testing.assert_array_equal(table, mae[1][2]["pos_embed"])
  fresh = {"head.kernel", "head.bias"}
  if pooled:
    fresh |= {"fc_norm.scale", "fc_norm.bias"}
    assert {"norm.scale", "norm.bias"} <= paths(report["dropped"])
  else:
    np.testing.assert_array_equal(params["norm"]["scale"], source["norm"]["scale"])
  assert paths(report["fresh"]) == fresh
  jax.tree.map(np.testing.assert_array_equal, params["head"], target[1]["head"])
  assert {"mask_token", "decoder_pos_embed", "decoder_pred.bias"} <= paths(report["dropped"])
  counted = sum(len(report[kind]) for kind in ("taken", "resized", "fresh"))
  assert counted == len(jax.tree.leaves((params, state)))
  merge_model(target[0], params, state)  # the structure is unchanged


def test_position_tables_are_resized(mae):
  target = build_random("vit_tiny_patch16", **SIZES | {"image_size": 56})
  params, _, report = transfer(mae, ("vit_tiny_patch16", target))
  expected = resize_positions(np.asarray(mae[1][2]["pos_embed"]), 4)
  np.testing.assert_array_equal(params["pos_embed"], expected)
  assert report["resized"] == [{"path": "pos_embed", "shape": [1, 17, 8], "from": [1, 5, 8]}]


def test_fcmae_initialises_a_convnext():
  sizes = dict(depths=(1, 1, 1, 1), dims=(4, 8, 8, 8))
  source = build_random("fcmae_convnextv2_atto", decoder_embed_dim=4, **sizes)
  target = build_random("convnextv2_atto", num_classes=3, seed=1, **sizes)
  params, _, report = transfer(("fcmae_convnextv2_atto", source), ("convnextv2_atto", target))
  for part in ("downsample_layers", "stages"):
    jax.tree.map(np.testing.assert_array_equal, params[part], source[1]["encoder"][part])
  assert paths(report["fresh"]) == {"norm.scale", "norm.bias", "head.kernel", "head.bias"}
  assert {path.split(".")[0] for path in paths(report["dropped"])} == {
    "mask_token",
    "proj",
    "decoder",
    "pred",
  }


def test_head_is_transferred_only_with_the_same_classes():
  source = "vit_tiny_patch16", build_random("vit_tiny_patch16", num_classes=3, **SIZES)
  same = "vit_tiny_patch16", build_random("vit_tiny_patch16", num_classes=3, seed=1, **SIZES)
  head = {"head.kernel", "head.bias"}
  for labels, source_labels, kept in (
    (None, None, True),
    (list("abc"), None, True),
    (list("abc"), list("abc"), True),
    (list("abc"), list("acb"), False),
  ):
    report = transfer(source, same, labels=labels, source_labels=source_labels).report
    assert paths(report["fresh"]) == (set() if kept else head)
    assert paths(report["dropped"]) == (set() if kept else head)
  other = "vit_tiny_patch16", build_random("vit_tiny_patch16", num_classes=5, **SIZES)
  report = transfer(source, other).report
  assert paths(report["fresh"]) == head
  assert all("classes" in entry["reason"] for entry in report["fresh"])
  pooled = (
    "vit_tiny_patch16",
    build_random("vit_tiny_patch16", num_classes=3, global_pool=False, **SIZES),
  )
  report = transfer(source, pooled).report
  assert paths(report["fresh"]) == {"norm.scale", "norm.bias"}
  assert paths(report["dropped"]) == {"fc_norm.scale", "fc_norm.bias"}


def test_token_labeling_head_is_dropped_or_fresh():
  sizes = dict(embed_dim=16, depth=1, num_heads=2, image_size=32)
  labelled = "t2t_vit_7", build_random("t2t_vit_7", num_classes=3, token_labeling=True, **sizes)
  plain = "t2t_vit_7", build_random("t2t_vit_7", num_classes=3, **sizes)
  auxiliary = {"aux_head.kernel", "aux_head.bias"}
  params, state, report = transfer(labelled, plain)
  assert paths(report["dropped"]) == auxiliary and not report["fresh"]
  np.testing.assert_array_equal(
    state["tokens_to_token"]["attention1"]["w"],
    labelled[1][2]["tokens_to_token"]["attention1"]["w"],
  )
  assert paths(transfer(plain, labelled).report["fresh"]) == auxiliary


def test_the_layer_before_the_head_is_dropped_or_fresh():
  name, arguments = "vit_tiny_patch16", dict(num_classes=3, **SIZES)
  plain = name, build_random(name, **arguments)
  tanh = name, build_random(name, representation_size=6, **arguments)
  layer = {"pre_logits.kernel", "pre_logits.bias"}
  report = transfer(tanh, plain).report
  assert layer < paths(report["dropped"]) and paths(report["fresh"]) == {"head.kernel"}
  report = transfer(plain, tanh).report
  assert paths(report["fresh"]) == layer | {"head.kernel"}


def test_all_mismatches_are_reported(mae):
  target = "vit_tiny_patch16", build_random("vit_tiny_patch16", **SIZES)
  with pytest.raises(TransferError, match="another family"):
    transfer(target, mae)
  with pytest.raises(TransferError, match="no model family"):
    transfer(("resnet50", mae[1]), target)
  wider = (
    "vit_tiny_patch16",
    build_random("vit_tiny_patch16", **SIZES | {"embed_dim": 12, "depth": 2}),
  )
  with pytest.raises(TransferError) as error:
    transfer(mae, wider)
  message = str(error.value)
  assert "blocks.1.norm1.scale [12]: missing in mae_vit_tiny_patch16" in message
  assert "cls_token: [1, 1, 8] in mae_vit_tiny_patch16, needed [1, 1, 12]" in message
  assert "pos_embed" in message


def test_values_have_the_target_dtype(mae):
  target = build_random("vit_tiny_patch16", param_dtype=jax.numpy.bfloat16, **SIZES)
  params = transfer(mae, ("vit_tiny_patch16", target)).params
  assert params["cls_token"].dtype == jax.numpy.bfloat16
