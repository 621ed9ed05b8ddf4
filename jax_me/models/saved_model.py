"""A loaded model with its metadata, and its split into structure and arrays."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.image_preparation import ImagePreparation
from jax_me.models.model_metadata import ModelFields, complete_fields

ArrayTree = dict[str, Any]  # Nested dict of arrays with string keys.
# Names of the folds without test examples: that of data.split=none, and that of `final`.
ALL, FINAL = "all", "final"
OFFICIAL = "official"  # The only fold of data.split=official.


@dataclasses.dataclass
class SavedModel:
  """A loaded model and its metadata.

  Attributes:
    model: the module with its weights.
    name: key of `jax_me.models.MODELS`.
    arguments: constructor overrides (JSON values).
    labels: class names in the order of the logits, or None for a pre-training model.
    image_size: side of the square input in pixels.
    mean, std: per RGB channel of images scaled to [0, 1].
    source: provenance of the weights (JSON values).
    input: one of `jax_me.data.clip_inputs.inputs.INPUTS`, or "" for photographs.
    alignment: settings with which the faces of the training images were aligned: "align" (False:
      whole images), "size" (side of the face chips in pixels) and "detector".
    preparation: resize and crop of whole images; face chips are resized with `resize_image`.
    licence: of the weights, "" if unknown.
    affect: whether valence and arousal follow the logits (`jax_me.models.classifier`).
  """

  model: nnx.Module
  name: str
  arguments: dict[str, Any]
  labels: list[str] | None
  image_size: int
  mean: Sequence[float]
  std: Sequence[float]
  source: dict[str, Any]
  # None until `__post_init__`, which takes them from the options of the dataset in `source`.
  input: str = dataclasses.field(default=None)  # type: ignore[assignment]
  alignment: dict[str, Any] = dataclasses.field(default=None)  # type: ignore[arg-type]
  preparation: ImagePreparation = dataclasses.field(default=None)  # type: ignore[assignment]
  licence: str = ""
  affect: bool = False

  def __post_init__(self):
    complete = complete_fields(self._fields())
    for name in ("input", "alignment", "preparation"):
      if getattr(self, name) is None:
        setattr(self, name, complete[name])

  def _fields(self) -> ModelFields:
    names = [field.name for field in dataclasses.fields(self) if field.name != "model"]
    given = {name: getattr(self, name) for name in names}
    return cast(
      ModelFields,
      {name: value for name, value in given.items() if value is not None} | {"labels": self.labels},
    )

  @property
  def title(self) -> str:
    """Name of the model and its place in its run, for messages."""
    if folds := self.source.get("folds"):
      return f"mean of {len(folds)} folds of {self.name}"
    fold = self.source.get("fold")
    places = {None: "", OFFICIAL: "", ALL: ", trained without a test side", FINAL: ", final model"}
    return self.name + places.get(fold, f" of {fold}")

  def split(self) -> tuple[nnx.GraphDef, ArrayTree, ArrayTree]:
    """Graph definition, weights {"params", "model_state"} and normalisation {"mean", "std"}."""
    graphdef, params, model_state = split_model(self.model)
    normalisation = {
      "mean": jnp.asarray(self.mean, jnp.float32),
      "std": jnp.asarray(self.std, jnp.float32),
    }
    return graphdef, {"params": params, "model_state": model_state}, normalisation

  def prepare(self, image: np.ndarray) -> np.ndarray:
    """Resizes and crops a whole image to the model input.

    Args:
      image: uint8 [H, W, 3] RGB.

    Returns:
      uint8 [image_size, image_size, 3].
    """
    return self.preparation.apply(image, self.mean)


def _nested(state: nnx.State) -> ArrayTree:
  """nnx.State -> nested dict of arrays with string keys (list indices become digits)."""

  def walk(node):
    return {str(k): walk(v) for k, v in node.items()} if isinstance(node, Mapping) else node

  return walk(nnx.to_pure_dict(state))


def _with_list_indices(tree: Any) -> Any:
  """Converts digit keys back to integers, as nnx.merge expects for lists."""
  if not isinstance(tree, Mapping):
    return tree
  return {int(k) if k.isdigit() else k: _with_list_indices(v) for k, v in tree.items()}


def split_model(model: nnx.Module) -> tuple[nnx.GraphDef, ArrayTree, ArrayTree]:
  """Splits a module into graph definition, trainable params and all other variables."""
  graphdef, params, rest = nnx.split(model, nnx.Param, ...)  # type: ignore[misc]
  return graphdef, _nested(params), _nested(rest)


def merge_model(
  graphdef: nnx.GraphDef, params: Mapping[str, object], model_state: Mapping[str, object]
) -> nnx.Module:
  """Inverse of `split_model`; also works inside `jax.jit`.

  Args:
    graphdef: graph definition of the module.
    params: nested dict of the trainable arrays.
    model_state: nested dict of the other arrays.

  Returns:
    The module.
  """
  return nnx.merge(graphdef, _with_list_indices(params), _with_list_indices(model_state))
