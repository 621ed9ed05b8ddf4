"""Small models and model folders for tests of inference."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jax_me.models.model_folder import save_model
from jax_me.models.registry import create_model
from tests.helpers.small_models import random_model

V = dict(image_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3)
T = dict(
  image_size=64, embed_dim=24, depth=2, num_heads=2, mlp_ratio=3.0, num_classes=3, token_dim=8
)

TINY_MAE = dict(
  image_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=2, decoder_embed_dim=16,
  decoder_depth=1, decoder_num_heads=2, norm_pix_loss=True,
)  # fmt: skip
SAVED = dict(image_size=32, patch_size=16, embed_dim=24, depth=1, num_heads=2, num_classes=2)

# (row, column) of the patch that `one_patch_model` depends on; not on the diagonal.
TARGET = (1, 3)


def tiny(name, **arguments):
  """A model with random parameters."""
  return random_model(lambda: create_model(name, rngs=nnx.Rngs(0), **arguments))


LABELS = ["calm", "happy, or so"]


def save(
  folder,
  name="vit_tiny_patch16",
  arguments=SAVED,
  labels=LABELS,
  source=None,
  seed=1,
  mean=(0.5,) * 3,
  **options,
):
  """Saves a model with 32 x 32 inputs and two labels (none for a masked autoencoder).

  Its `source` has the options of the dataset, unless it is given.
  """
  save_model(
    folder,
    create_model(name, rngs=nnx.Rngs(seed), **arguments),
    name=name,
    arguments=arguments,
    labels=None if "mae" in name else labels,
    image_size=32,
    mean=list(mean),
    std=[0.25] * 3,
    source={"options": options} if source is None else source,
  )
  return folder


def one_patch_model():
  """A ViT of one block whose class token attends only to the patch TARGET.

  The position embedding of token i is unit vector i. The query of the class token equals the key
  of the target, and the logit of class 1 is the component of the target.
  """
  width, token = V["embed_dim"], 1 + 4 * TARGET[0] + TARGET[1]
  model = tiny("vit_tiny_patch16", **{**V, "depth": 1, "num_heads": 1, "global_pool": False})
  for variable in (model.cls_token, model.patch_embed.proj.kernel, model.patch_embed.proj.bias):
    variable[...] = jnp.zeros_like(variable[...])
  model.pos_embed[...] = jnp.asarray(10 * np.eye(17, width)[None], jnp.float32)
  block = model.blocks[0]
  query = np.zeros((width, width))
  query[0, token] = 5
  identity = np.eye(width)
  for layer, kernel in (
    (block.attn.qkv, np.concatenate([query, identity, identity], 1)),
    (block.attn.proj, identity),
    (block.mlp.fc2, np.zeros(block.mlp.fc2.kernel.shape)),
    (model.head, np.eye(width)[:, [width - 1, token, width - 2]]),
  ):
    layer.kernel[...] = jnp.asarray(kernel, jnp.float32)
    layer.bias[...] = jnp.zeros_like(layer.bias[...])
  for norm in (block.norm1, model.norm):
    norm.scale[...], norm.bias[...] = jnp.ones(width), jnp.zeros(width)
  return model
