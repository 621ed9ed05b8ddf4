"""Reconstructions of a masked autoencoder as images: original, masked, reconstructed."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from jax_me.faces.image_files import encode_image
from jax_me.files import write_atomically
from jax_me.models.layers import along_channels, normalise
from jax_me.models.model_folder import merge_model
from jax_me.models.patches import patchify, unpatchify
from jax_me.training.processes import fetch

# (weights, run parameters, images uint8 [N, S, S, 3], key) -> dict of uint8 [N, S, S, 3]
Reconstructor = Callable[..., dict[str, np.ndarray]]

RECONSTRUCTIONS_FOLDER = "reconstructions"  # In a workdir: one sheet per evaluation.

GREY = 0.5  # Removed patches, in [0, 1].


def make_reconstructor(
  graphdef: nnx.GraphDef[nnx.Module], mesh: Mesh, *, mask_ratio: float
) -> Reconstructor:
  """Jitted function for the images `original`, `masked` (removed patches grey), `reconstructed`.

  In `reconstructed` the visible patches are the original ones. A model with `norm_pix_loss`
  predicts patches normalised by their mean and variance; they are scaled back with the values of
  the original patch, as in the demonstration of MAE's authors.

  Args:
    graphdef: of the model.
    mesh: the devices.
    mask_ratio: fraction of patches to remove, in (0, 1).

  Returns:
    (weights, run parameters, images uint8 [N, S, S, 3], key) -> {name: uint8 [N, S, S, 3]}.
  """

  @jax.jit
  def reconstruct(weights, run_parameters, images, key):
    model: Any = merge_model(graphdef, weights["params"], weights["model_state"])
    size = model.patch_size
    inputs = normalise(images.astype(jnp.float32) / 255.0, run_parameters)
    output = model(inputs, mask_ratio, key=key)
    patches = patchify(inputs, size)
    pred = output.pred.astype(jnp.float32)
    if model.norm_pix_loss:
      mean = jnp.mean(patches, -1, keepdims=True)
      deviation = jnp.sqrt(jnp.var(patches, -1, keepdims=True, ddof=1) + 1e-6)
      pred = pred * deviation + mean
    removed = output.mask[..., None].astype(bool)
    decoded = unpatchify(jnp.where(removed, pred, patches), size)
    mean, std = (along_channels(run_parameters[name], decoded) for name in ("mean", "std"))
    decoded = decoded * std + mean
    original = images.astype(jnp.float32) / 255.0
    masked = unpatchify(jnp.where(removed, GREY, patchify(original, size)), size)
    results = {"original": original, "masked": masked, "reconstructed": decoded}
    return {
      name: (jnp.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(jnp.uint8)
      for name, image in results.items()
    }

  def run(
    weights: Mapping[str, Any],
    run_parameters: Mapping[str, jax.Array],
    images: np.ndarray,
    key: jax.Array,
  ) -> dict[str, np.ndarray]:
    return fetch(reconstruct(weights, run_parameters, images, key), mesh)

  return run


def save_sheet(path: pathlib.Path, sheets: Mapping[str, np.ndarray]) -> None:
  """Writes a PNG with one column per face; rows: masked, reconstructed, original.

  Args:
    path: file to write; its folder is created if missing.
    sheets: `masked`, `reconstructed`, `original`: uint8 [N, S, S, 3] RGB each.
  """
  rows = [np.concatenate(list(sheets[name]), 1) for name in ("masked", "reconstructed", "original")]
  path.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, encode_image(np.concatenate(rows), "png"))
