"""Key layouts of timm, transformers and projects built on them, read as the originals' keys.

A layout is a rule table from a library's keys to those of the project that published the model
(facebookresearch/mae, facebookresearch/ConvNeXt-V2), so that detection and the tables of
`families` need only one spelling of every family.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from jax_me.models.weight_mapping import Reasons, reason_for

from .errors import ConversionError
from .rules import COPY, Rule, RuleTable, Transform

# timm's 1x1 convolutions [out, in, 1, 1] -> linear layers [out, in].
_POINTWISE = Transform(
  "POINTWISE",
  lambda array: array[:, :, 0, 0] if array.shape[2:] == (1, 1) else array,
  lambda array: array,
)
# timm's global response normalisation [C] -> [1, 1, 1, C].
_GRN_VECTOR = Transform(
  "GRN_VECTOR",
  lambda array: array.reshape(1, 1, 1, -1) if array.ndim == 1 else array,
  lambda array: array.reshape(-1),
)


@dataclasses.dataclass(frozen=True)
class Layout:
  """Keys of a library.

  Attributes:
    name: of the library, for messages.
    rules: from the library's keys to the original's; "KEY[i]" is the i-th part of the array KEY
      along its first axis.
    dropped: keys that no model of jax_me uses, on purpose.
    keeps_others: whether the keys without a rule are the original's.
    needs_config: whether the file alone does not determine the model.
    warning: what to consider before using the model.
  """

  name: str
  rules: RuleTable
  dropped: Reasons = ()
  keeps_others: bool = False
  needs_config: bool = False
  warning: str = ""


class OriginalArrays:
  """Arrays of a file under the keys of the original project.

  Attributes:
    arrays: {the original's key: array in the original's layout}.
    layout: of the file's keys; None when they are the original's.
    dropped: {"key", "shape", "reason"} of the keys that no model of jax_me uses.
    problems: keys that do not belong to the layout, or that lack a part of their array.
  """

  def __init__(self, arrays: Mapping[str, np.ndarray]):
    self.order = {key: number for number, key in enumerate(arrays)}
    self.layout = layout_of(arrays)
    self.arrays: dict[str, np.ndarray] = {}
    self.dropped: list[dict[str, Any]] = []
    self.problems: list[str] = []
    self._shapes = {key: list(array.shape) for key, array in arrays.items()}
    self._keys: dict[str, list[str]] = {}
    if self.layout is None:
      self.arrays = dict(arrays)
    else:
      self._translate(arrays, self.layout)

  def _translate(self, arrays: Mapping[str, np.ndarray], layout: Layout) -> None:
    parts: dict[str, dict[int, np.ndarray]] = {}
    for key, array in arrays.items():
      rule = layout.rules.path_of(key) or ((key, COPY) if layout.keeps_others else None)
      reason = reason_for(key, layout.dropped)
      if reason:
        self.dropped.append({"key": key, "shape": list(array.shape), "reason": reason})
      elif rule is None:
        self.problems.append(f"{key} {list(array.shape)}: unexpected, the model has no such array")
      else:
        whole, _, part = rule[0].removesuffix("]").partition("[")
        found = parts.setdefault(whole, {})
        if int(part or 0) in found:
          self.problems.append(f"{key}: the file has another key of the same array")
        found[int(part or 0)] = rule[1].from_torch(array)
        self._keys.setdefault(whole, []).append(key)
    self.arrays = {whole: self._joined(whole, found) for whole, found in parts.items()}

  def _joined(self, whole: str, found: dict[int, np.ndarray]) -> np.ndarray:
    """The parts of an array in their order; what is missing or does not fit becomes a problem."""
    names = self.keys_in_file(whole)
    first = next(iter(found.values()))
    for part, name in enumerate(names):
      if part not in found:
        self.problems.append(f"{name} {list(first.shape)}: missing in the file")
      elif found[part].shape != first.shape:
        shapes = f"{list(found[part].shape)}, the other parts of {whole} {list(first.shape)}"
        self.problems.append(f"{name}: shape {shapes}")
      else:
        continue
      found[part] = np.zeros_like(first)
    if not names[1:]:
      return first
    return np.concatenate([np.atleast_1d(found[part]) for part in range(len(names))])

  def keys_in_file(self, key: str) -> list[str]:
    """The file's key, or keys, of one of the original's; whether or not the file has them."""
    if self.layout is None:
      return [key]
    names = [key, *(f"{key}[{part}]" for part in range(3))]
    rules = [rule for name in names if (rule := self.layout.rules.key_of(name))]
    return [name for name, _ in rules] or [key]

  def entries(self, key: str) -> list[tuple[str, list[int], list[str]]]:
    """(key in the file, its shape, what was changed to read it) for one of the original's keys."""
    names = self._keys.get(key, [key])
    if len(names) > 1:
      changes = ["joined"]
    else:
      changes = ["reshaped"] * (self._shapes[names[0]] != list(self.arrays[key].shape))
    return [(name, self._shapes[name], changes) for name in names]


def layout_of(keys: Collection[str]) -> Layout | None:
  """The layout of a state dict; None when its keys are those of the original projects.

  Raises:
    ConversionError: the keys show that the model computes something that jax_me's models do not.
  """
  known = any(re.match(_BLOCKS, key) for key in keys)
  for pattern, what in UNSUPPORTED_PARTS if known else ():
    key = next((key for key in keys if re.match(pattern, key)), None)
    if key is not None:
      raise ConversionError(
        f"the file has {what} ({key[:100]}), which jax_me's models do not have",
        remedy="use a checkpoint of a plain ViT, MAE or ConvNeXt V2",
      )
  for pattern, build in _LAYOUTS:
    if any(re.match(pattern, key) for key in keys):
      return build(keys)
  return None


_BLOCKS = r"(vit\.)?(encoder\.layer\.\d+|layers\.\d+\.attention|(stages\.\d+\.)?blocks\.\d+)\."
# Beginnings of keys in networks of blocks that are otherwise like ours, and what they show.
UNSUPPORTED_PARTS = (
  (
    r"(patch_embed_prompt|prompt_blocks|prompt_norms|temporal_embedding|ln_post)\b.*",
    "the landmark prompts and temporal layers of S2D",
  ),
  (rf"{_BLOCKS}(ls[12]\.gamma|gamma(_[12])?\Z|layer_scale[12])", "layer scale"),
  (rf"{_BLOCKS}attn\.[qk]_norm\.", "normalised queries and keys"),
  (rf"{_BLOCKS}(attn|mlp)\.norm\.", "norms within attention or MLP"),
  (rf"{_BLOCKS}(attns|ffns|attn\.in_proj)\b", "parallel attention and MLP branches"),
  (rf"{_BLOCKS}mlp\.(fc1_[gx]|w12|w3|gate_proj|weights_in)\b", "gated MLPs"),
  (rf"({_BLOCKS}.*)?(relative_position|rel_pos)", "relative positions"),
  (r"(reg_token\Z|(vit\.)?embeddings\.register_tokens)", "register tokens"),
  (r"(dist_token\Z|head_dist\.|.*distillation_token)", "a distillation token"),
  (r"norm_pre\.", "a norm before the blocks or the pooling"),
  (r"attn_pool\.", "attention pooling"),
  (r"patch_embed\.backbone\.", "a convolutional stem (hybrid ViT)"),
  (r"patch_embed\.norm\.", "a norm after the patch embedding"),
  (r"head\.pre_logits\.", "a hidden layer in the head of ConvNeXt"),
  (r"(vit\.)?embeddings\.mask_token\Z", "the mask token of masked image modelling (SimMIM)"),
)


def _layer(library: str, original: str, transform: Transform = COPY, part: str = "") -> list[Rule]:
  """Rules of a layer with weight and bias.

  Args:
    library: prefix of the library's keys.
    original: prefix of the original's keys.
    transform: of the weight.
    part: "[i]" when the layer is the i-th part of the original's.

  Returns:
    Two rules.
  """
  return [
    Rule(f"{library}.weight", f"{original}.weight{part}", transform),
    Rule(f"{library}.bias", f"{original}.bias{part}"),
  ]


# Query, key, value, output, MLP. transformers 5 renamed the layers in memory; it still writes the
# old names by default and reads both.
_OLD_NAMES = (
  *("attention.attention.query", "attention.attention.key", "attention.attention.value"),
  *("attention.output.dense", "intermediate.dense", "output.dense"),
)
_NEW_NAMES = (
  *("attention.q_proj", "attention.k_proj", "attention.v_proj"),
  *("attention.o_proj", "mlp.fc1", "mlp.fc2"),
)


def _transformer_block(library: str, original: str, names: tuple[str, ...]) -> list[Rule]:
  query, key, value, output, fc1, fc2 = names
  return [
    *_layer(f"{library}.layernorm_before", f"{original}.norm1"),
    *_layer(f"{library}.{query}", f"{original}.attn.qkv", part="[0]"),
    *_layer(f"{library}.{key}", f"{original}.attn.qkv", part="[1]"),
    *_layer(f"{library}.{value}", f"{original}.attn.qkv", part="[2]"),
    *_layer(f"{library}.{output}", f"{original}.attn.proj"),
    *_layer(f"{library}.layernorm_after", f"{original}.norm2"),
    *_layer(f"{library}.{fc1}", f"{original}.mlp.fc1"),
    *_layer(f"{library}.{fc2}", f"{original}.mlp.fc2"),
  ]


def _transformers_vit(keys: Collection[str]) -> Layout:
  """ViTModel, ViTForImageClassification, ViTMAEModel and ViTMAEForPreTraining."""

  def either(first: str, second: str) -> str:
    return first if any(first in key for key in keys) else second

  names = _OLD_NAMES if any(".attention.attention." in key for key in keys) else _NEW_NAMES
  vit = "vit." if any(key.startswith("vit.") for key in keys) else ""
  block = either(f"{vit}encoder.layer.", f"{vit}layers.")
  # transformers 5 writes decoder_encoder.layer where transformers 4 wrote decoder_layers.
  decoder_block = "decoder." + either("decoder_encoder.layer.", "decoder_layers.")
  rules = [
    Rule(f"{vit}embeddings.cls_token", "cls_token"),
    Rule(f"{vit}embeddings.position_embeddings", "pos_embed"),
    *_layer(f"{vit}embeddings.patch_embeddings.projection", "patch_embed.proj"),
    *_transformer_block(f"{block}{{0}}", "blocks.{0}", names),
    *_layer(f"{vit}layernorm", "norm"),
    *_layer("classifier", "head"),
    Rule("decoder.mask_token", "mask_token"),
    Rule("decoder.decoder_pos_embed", "decoder_pos_embed"),
    *_layer("decoder.decoder_embed", "decoder_embed"),
    *_transformer_block(f"{decoder_block}{{0}}", "decoder_blocks.{0}", names),
    *_layer("decoder.decoder_norm", "decoder_norm"),
    *_layer("decoder.decoder_pred", "decoder_pred"),
  ]
  return Layout(
    "transformers",
    RuleTable(rules),
    dropped=(((f"{vit}pooler.",), "the pooler is a layer after the features; no head uses it"),),
    needs_config=True,
  )


def _transformers_convnext(keys: Collection[str]) -> Layout:
  """ConvNextV2Model and ConvNextV2ForImageClassification."""
  model = "convnextv2." if any(key.startswith("convnextv2.") for key in keys) else ""
  block, original = f"{model}encoder.stages.{{0}}.layers.{{1}}", "stages.{0}.{1}"
  rules = [
    *_layer(f"{model}embeddings.patch_embeddings", "downsample_layers.0.0"),
    *_layer(f"{model}embeddings.layernorm", "downsample_layers.0.1"),
    *_layer(f"{block}.dwconv", f"{original}.dwconv"),
    *_layer(f"{block}.layernorm", f"{original}.norm"),
    *_layer(f"{block}.pwconv1", f"{original}.pwconv1"),
    Rule(f"{block}.grn.weight", f"{original}.grn.gamma"),
    Rule(f"{block}.grn.bias", f"{original}.grn.beta"),
    *_layer(f"{block}.pwconv2", f"{original}.pwconv2"),
    *_layer(f"{model}layernorm", "norm"),
    *_layer("classifier", "head"),
  ]
  for stage in (1, 2, 3):
    downsampling = f"{model}encoder.stages.{stage}.downsampling_layer.{{0}}"
    rules += _layer(downsampling, f"downsample_layers.{stage}.{{0}}")
  return Layout("transformers", RuleTable(rules), needs_config=True)


def _timm_convnext_rules(stem: str, stages: str) -> RuleTable:
  """ConvNeXt of timm; `stem` and `stages` are prefixes that a number follows."""
  block, original = f"{stages}{{0}}.blocks.{{1}}", "stages.{0}.{1}"
  rules = [
    *_layer(f"{stem}{{0}}", "downsample_layers.0.{0}"),
    *_layer(f"{block}.conv_dw", f"{original}.dwconv"),
    *_layer(f"{block}.norm", f"{original}.norm"),
    *_layer(f"{block}.mlp.fc1", f"{original}.pwconv1", _POINTWISE),
    Rule(f"{block}.mlp.grn.weight", f"{original}.grn.gamma", _GRN_VECTOR),
    Rule(f"{block}.mlp.grn.bias", f"{original}.grn.beta", _GRN_VECTOR),
    *_layer(f"{block}.mlp.fc2", f"{original}.pwconv2", _POINTWISE),
    *_layer("head.norm", "norm"),
    *_layer("head.fc", "head"),
  ]
  for stage in (1, 2, 3):
    rules += _layer(f"{stages}{stage}.downsample.{{0}}", f"downsample_layers.{stage}.{{0}}")
  return RuleTable(rules)


def _timm_convnext(keys: Collection[str]) -> Layout:
  return Layout("timm", _timm_convnext_rules("stem.", "stages."))


def _py_feat(keys: Collection[str]) -> Layout:
  """Multi-task network of py-feat 2: timm's ConvNeXt V2-Tiny by stages, and heads on top."""
  heads = (
    *("proj.", "afg.", "fgg.", "mefl.", "sc.", "cooccur.", "lmk.", "pose.", "blendshape."),
    *("unified.", "emotion.", "gaze.", "log_var_"),
  )
  return Layout(
    "py-feat",
    _timm_convnext_rules("backbone.stem_", "backbone.stages_"),
    dropped=((heads, "the task heads of py-feat are not classifiers of one feature vector"),),
    warning="only the trunk of py-feat's network is used: action units, emotions, gaze and "
    "landmarks need its task heads",
  )


def _fmae_iat(keys: Collection[str]) -> Layout:
  """Fine-tuned models of FMAE-IAT; its pre-training files have MAE's keys."""
  identity = (("ID_head.",), "the head that predicts identities is used only in training")
  return Layout(
    "FMAE-IAT",
    RuleTable(_layer("AU_head", "head")),
    dropped=(identity,),
    keeps_others=True,
    warning="FMAE-IAT trains its action-unit heads with a sigmoid per class (BP4D, BP4D+, DISFA): "
    "for these the softmax of `predict` is wrong",
  )


_LAYOUTS: tuple[tuple[str, Callable[[Collection[str]], Layout]], ...] = (
  (r"(AU_head|ID_head)\.", _fmae_iat),
  (r"(vit\.)?(encoder\.layer|layers)\.\d+\.attention\.", _transformers_vit),
  (r"(convnextv2\.)?encoder\.stages\.\d+\.layers\.", _transformers_convnext),
  (r"stages\.\d+\.blocks\.\d+\.conv_dw\.", _timm_convnext),
  (r"backbone\.stages_\d+\.blocks\.\d+\.conv_dw\.", _py_feat),
)
