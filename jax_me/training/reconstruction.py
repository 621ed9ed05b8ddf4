"""Pictures of what a masked autoencoder sees, paints and should have painted."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jax_me.faces.image_files import encode_image
from jax_me.files import write_atomically
from jax_me.models.model_folder import merge_model
from jax_me.models.patches import patchify, unpatchify
from jax_me.training.processes import fetch
from jax_me.training.steps import normalise

# (weights, constants, images uint8 [N, S, S, 3], key) -> dict of uint8 [N, S, S, 3]
Reconstructor = Callable[..., dict[str, np.ndarray]]

RECONSTRUCTIONS_FOLDER = "reconstructions"  # In a workdir: a sheet for every evaluation.

GREY = 0.5  # Removed patches, in [0, 1].


def make_reconstructor(graphdef: Any, mesh: Mesh, *, mask_ratio: float) -> Reconstructor:
  """Jitted pictures: `original`, `masked` (removed patches grey) and `reconstructed`.

  In `reconstructed` the visible patches are the original ones. A model that predicts patches
  normalised by their own mean and variance (`norm_pix_loss`) does not know these two; its patches
  are scaled back with those of the original, as its authors' demonstration does.
  """

  @jax.jit
  def reconstruct(weights, constants, images, key):
    model = merge_model(graphdef, weights["params"], weights["model_state"])
    size = model.patch_size
    inputs = normalise(images.astype(jnp.float32) / 255.0, constants)
    output = model(inputs, mask_ratio, key=key)
    patches = patchify(inputs, size)
    pred = output.pred.astype(jnp.float32)
    if model.norm_pix_loss:
      mean = jnp.mean(patches, -1, keepdims=True)
      deviation = jnp.sqrt(jnp.var(patches, -1, keepdims=True, ddof=1) + 1e-6)
      pred = pred * deviation + mean
    removed = output.mask[..., None].astype(bool)
    painted = unpatchify(jnp.where(removed, pred, patches), size)
    painted = painted * constants["std"] + constants["mean"]
    original = images.astype(jnp.float32) / 255.0
    masked = unpatchify(jnp.where(removed, GREY, patchify(original, size)), size)
    pictures = {"original": original, "masked": masked, "reconstructed": painted}
    return {
      name: (jnp.clip(picture, 0.0, 1.0) * 255.0 + 0.5).astype(jnp.uint8)
      for name, picture in pictures.items()
    }

  def run(
    weights: Mapping[str, Any],
    constants: Mapping[str, jax.Array],
    images: np.ndarray,
    key: jax.Array,
  ) -> dict[str, np.ndarray]:
    return fetch(reconstruct(weights, constants, images, key), mesh)

  return run


def save_sheet(path: pathlib.Path, sheets: Mapping[str, np.ndarray]) -> None:
  """Writes a PNG with a column a face: masked, reconstructed and original below one another.

  Args:
    path: file to write, its folder made where missing.
    sheets: `masked`, `reconstructed`, `original`: uint8 [N, S, S, 3] RGB each.
  """
  rows = [np.concatenate(list(sheets[name]), 1) for name in ("masked", "reconstructed", "original")]
  path.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, encode_image(np.concatenate(rows), "png"))
