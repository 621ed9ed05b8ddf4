"""Name rules of ConvNeXt V2 and FCMAE (facebookresearch/ConvNeXt-V2).

Checkpoints saved during FCMAE training come from a sparse convolution library, with kernels and
biases of other shapes; the released FCMAE files are dense and have the classifier's names without
its last norm and head.
"""

from .rules import (
  CHANNEL_TOKEN,
  CONV2D,
  GRN_ROW,
  LINEAR,
  ROW,
  SPARSE_CONV2D,
  SPARSE_DEPTHWISE,
  Rule,
  RuleTable,
  layer,
  norm,
)


def _dense_block(prefix: str) -> list[Rule]:
  return [
    *layer(f"{prefix}.dwconv", CONV2D),
    *norm(f"{prefix}.norm"),
    *layer(f"{prefix}.pwconv1", LINEAR),
    Rule(f"{prefix}.grn.gamma", f"{prefix}.grn.gamma"),
    Rule(f"{prefix}.grn.beta", f"{prefix}.grn.beta"),
    *layer(f"{prefix}.pwconv2", LINEAR),
  ]


def _stem(torch: str, ours: str) -> list[Rule]:
  return [
    *layer(f"{torch}downsample_layers.0.0", CONV2D, ours=f"{ours}downsample_layers.0.0"),
    *norm(f"{torch}downsample_layers.0.1", ours=f"{ours}downsample_layers.0.1"),
  ]


def _sparse_encoder(ours: str) -> list[Rule]:
  """Rules from the sparse encoder's names to our dense arrays under the prefix `ours`."""
  rules = _stem("encoder.", ours)
  for i in (1, 2, 3):
    torch, path = f"encoder.downsample_layers.{i}", f"{ours}downsample_layers.{i}"
    rules += [
      *norm(f"{torch}.0.ln", ours=f"{path}.0"),
      Rule(f"{torch}.1.kernel", f"{path}.1.kernel", SPARSE_CONV2D),
      Rule(f"{torch}.1.bias", f"{path}.1.bias", ROW),
    ]
  torch, path = "encoder.stages.{0}.{1}", ours + "stages.{0}.{1}"
  return rules + [
    Rule(f"{torch}.dwconv.kernel", f"{path}.dwconv.kernel", SPARSE_DEPTHWISE),
    Rule(f"{torch}.dwconv.bias", f"{path}.dwconv.bias", ROW),
    *norm(f"{torch}.norm.ln", ours=f"{path}.norm"),
    *layer(f"{torch}.pwconv1.linear", LINEAR, ours=f"{path}.pwconv1"),
    Rule(f"{torch}.grn.gamma", f"{path}.grn.gamma", GRN_ROW),
    Rule(f"{torch}.grn.beta", f"{path}.grn.beta", GRN_ROW),
    *layer(f"{torch}.pwconv2.linear", LINEAR, ours=f"{path}.pwconv2"),
  ]


CONVNEXT_RULES = RuleTable(
  [
    *_stem("", ""),
    *(rule for i in (1, 2, 3) for rule in norm(f"downsample_layers.{i}.0")),
    *(rule for i in (1, 2, 3) for rule in layer(f"downsample_layers.{i}.1", CONV2D)),
    *_dense_block("stages.{0}.{1}"),
    *norm("norm"),
    *layer("head", LINEAR),
  ]
)

FCMAE_RULES = RuleTable(
  [
    *_sparse_encoder("encoder."),
    *layer("proj", CONV2D),
    Rule("mask_token", "mask_token", CHANNEL_TOKEN),
    *_dense_block("decoder.{0}"),
    *layer("pred", CONV2D),
  ]
)

# From a sparse encoder to the classifier, as in fine-tuning.
FCMAE_TO_CONVNEXT_RULES = RuleTable([*_sparse_encoder(""), *norm("norm"), *layer("head", LINEAR)])
