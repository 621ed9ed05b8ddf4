"""Model registry: names, errors, parameter counts."""

import jax
import pytest
from flax import nnx

from jax_me.models import MODELS, create_model
from jax_me.models.registry import create_abstract_model
from tests.helpers.golden_cases import golden_cases


def counts(name, **overrides):
  """Number of all and of trained parameters; the model is only built abstractly."""
  model = create_abstract_model(name, **overrides)
  sizes = [
    sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, *f))) for f in ((), (nnx.Param,))
  ]
  return tuple(sizes)


def test_an_unknown_name_suggests_similar_ones():
  with pytest.raises(ValueError, match="did you mean .*vit_small_patch16"):
    create_model("vit_smal_patch16", rngs=nnx.Rngs(0))


def test_a_name_similar_to_none_lists_all():
  with pytest.raises(ValueError, match="known: .*mae_vit_base_patch16"):
    create_model("xyz", rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_an_unknown_argument_suggests_similar_ones(name):
  with pytest.raises(ValueError, match=f"{name} takes no argument 'image_sise'; .*image_size"):
    create_model(name, rngs=nnx.Rngs(0), image_sise=32)


@pytest.mark.parametrize(
  "name",
  [
    "vit_tiny_patch16",
    "mae_vit_tiny_patch16",
    "t2t_vit_7",
    "convnextv2_atto",
    "fcmae_convnextv2_atto",
  ],
)
def test_an_abstract_model_has_the_structure_of_the_model(name):
  graphdef, state = nnx.split(create_abstract_model(name))
  expected = nnx.eval_shape(lambda: create_model(name, rngs=nnx.Rngs(0)))
  expected_graphdef, expected_state = nnx.split(expected)
  assert graphdef == expected_graphdef

  def described(tree):
    return {
      path: (type(variable), variable.get_value().shape, variable.get_value().dtype)
      for path, variable in nnx.to_flat_state(tree)
    }

  assert described(state) == described(expected_state)


@pytest.mark.parametrize("name", sorted(n for n in golden_cases("mae") if n in MODELS))
def test_mae_parameter_counts(name):
  case = golden_cases("mae")[name]
  expected = case["n_params_total"], case["n_params_trainable"]
  assert counts(name) == expected


# facebookresearch/mae: ViT-L 304M and ViT-H 632M with 1000 classes.
@pytest.mark.parametrize(
  ("name", "total"),
  [
    ("vit_tiny_patch16", 5_717_416),
    ("vit_small_patch16", 22_050_664),
    ("vit_base_patch16", 86_567_656),
    ("vit_large_patch16", 304_326_632),
    ("vit_huge_patch14", 632_045_800),
  ],
)
def test_vit_parameter_counts(name, total):
  assert counts(name) == (total, total)


@pytest.mark.parametrize("name", sorted(golden_cases("t2t")))
def test_t2t_parameter_counts(name):
  case = golden_cases("t2t")[name]
  overrides = {"image_size" if k == "img_size" else k: v for k, v in case["kwargs"].items()}
  expected = case["n_params_total"], case["n_params_trainable"]
  assert counts(case["model"], **overrides) == expected
