"""Name rules: templates, transforms, and each family's table against the original key lists."""

import numpy as np
import pytest

from convert import rules
from convert.errors import ConversionError
from convert.families import CONVNEXT_RULES, FCMAE_TO_CONVNEXT_RULES, rules_for
from convert.rules import Rule, RuleTable
from tests.helpers.golden_cases import golden_cases


def test_templates_match_exactly():
  table = RuleTable([Rule("a.{0}.b.weight", "a.{0}.b.kernel", rules.LINEAR), *rules.norm("norm")])
  assert table.path_of("a.10.b.weight") == ("a.10.b.kernel", rules.LINEAR)
  assert table.key_of("a.0.b.kernel") == ("a.0.b.weight", rules.LINEAR)
  assert table.key_of("norm.scale") == ("norm.weight", rules.COPY)
  for key in (
    "a.10.bxweight",
    "a.x.b.weight",
    "a.01.b.weight",
    "xa.1.b.weight",
    "a.1.b.weight\n",
    "a.1.b.weights",
    "a..b.weight",
    "A.1.b.weight",
  ):
    assert table.path_of(key) is None


def test_a_name_with_two_rules_is_an_error():
  table = RuleTable([Rule("a.{0}", "x.{0}"), Rule("a.1", "y")])
  assert table.path_of("a.2") == ("x.2", rules.COPY)
  with pytest.raises(ConversionError, match="2 rules"):
    table.path_of("a.1")
  with pytest.raises(ConversionError, match="2 rules"):
    RuleTable([Rule("a", "x"), Rule("b", "x")]).key_of("x")


@pytest.mark.parametrize(
  ("transform", "torch_shape", "shape"),
  [
    (rules.COPY, (1, 5, 8), (1, 5, 8)),
    (rules.LINEAR, (6, 4), (4, 6)),
    (rules.CONV2D, (8, 3, 4, 5), (4, 5, 3, 8)),
    (rules.CONV2D, (8, 1, 7, 7), (7, 7, 1, 8)),
    (rules.SPARSE_CONV2D, (4, 5, 6), (2, 2, 5, 6)),
    (rules.SPARSE_DEPTHWISE, (49, 6), (7, 7, 1, 6)),
    (rules.ROW, (1, 6), (6,)),
    (rules.GRN_ROW, (1, 6), (1, 1, 1, 6)),
    (rules.CHANNEL_TOKEN, (1, 6, 1, 1), (1, 1, 1, 6)),
  ],
)
def test_transforms_are_inverses(transform, torch_shape, shape):
  array = np.random.default_rng(0).standard_normal(torch_shape)
  ours = transform.from_torch(array)
  assert ours.shape == shape
  assert transform.torch_shape(shape) == torch_shape
  np.testing.assert_array_equal(transform.to_torch(ours), array)


def test_transforms_leave_other_ranks_to_the_shape_check():
  for transform in (rules.LINEAR, rules.CONV2D, rules.SPARSE_CONV2D, rules.SPARSE_DEPTHWISE):
    assert transform.from_torch(np.zeros((2,))).shape == (2,)


def test_sparse_kernels_are_column_major():
  # Flat index h + 2 * w: first (0, 0), then (1, 0).
  flat = np.arange(4.0).reshape(4, 1, 1)
  kernel = rules.SPARSE_CONV2D.from_torch(flat)[:, :, 0, 0]
  np.testing.assert_array_equal(kernel, [[0, 2], [1, 3]])


@pytest.mark.parametrize("golden", ["t2t", "mae", "convnextv2", "fcmae"])
def test_every_key_of_the_original_has_a_rule_in_both_directions(golden):
  for name, case in golden_cases(golden).items():
    family = {"t2t": "t2t_vit", "mae": "mae" if name.startswith("mae") else "vit"}.get(
      golden, golden
    )
    table = rules_for(family, [entry["key"] for entry in case["keys"]])
    paths = set()
    for entry in case["keys"]:
      found = table.path_of(entry["key"])
      assert found, f"{name}: no rule for {entry['key']}"
      path, transform = found
      assert table.key_of(path) == (entry["key"], transform)
      paths.add(path)
    assert len(paths) == len(case["keys"])


def test_sparse_encoder_is_remapped_like_in_the_original():
  case = golden_cases("fcmae")["fcmae_convnextv2_atto"]
  shapes = {entry["key"]: tuple(entry["shape"]) for entry in case["keys"]}
  rng = np.random.default_rng(0)
  for sparse, (dense, dense_shape) in case["remap"].items():
    path, transform = FCMAE_TO_CONVNEXT_RULES.path_of(sparse)
    dense_path, dense_transform = CONVNEXT_RULES.path_of(dense)
    assert path == dense_path
    value = rng.standard_normal(shapes[sparse])
    expected = _remapped(value, sparse, tuple(dense_shape))
    np.testing.assert_array_equal(transform.from_torch(value), dense_transform.from_torch(expected))


def _remapped(value: np.ndarray, key: str, shape: tuple[int, ...]) -> np.ndarray:
  """The steps of the original's remapping: permute, reshape, swap h and w."""
  if not key.endswith("kernel"):
    return value.reshape(shape)
  value = value[:, None] if value.ndim == 2 else value  # depthwise: one input channel
  out = value.transpose(2, 1, 0)
  return out.reshape(*out.shape[:2], *shape[2:]).swapaxes(2, 3)
