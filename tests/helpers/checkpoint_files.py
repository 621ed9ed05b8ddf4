"""Small checkpoint files: torch containers, safetensors, and malicious files."""

import argparse
import collections
import os
import pathlib
import struct
import zipfile

import numpy as np
import pytest

# A small ViT: 28-pixel images, patches of 14, so 2 x 2 patches and a class token.
TINY_VIT = dict(patch_size=14, embed_dim=8, depth=2, num_heads=2, image_size=28)


def vit_arrays(classes: int = 7, *, norm: str = "fc_norm", seed: int = 0) -> dict[str, np.ndarray]:
  """A tiny ViT classifier with torch's names and layouts; norm "fc_norm" or "norm"."""
  shapes = {
    "cls_token": (1, 1, 8),
    "pos_embed": (1, 5, 8),
    "patch_embed.proj.weight": (8, 3, 14, 14),
    "patch_embed.proj.bias": (8,),
  }
  for i in range(2):
    shapes |= block_shapes(f"blocks.{i}", 8)
  shapes |= {f"{norm}.weight": (8,), f"{norm}.bias": (8,)}
  if classes:
    shapes |= {"head.weight": (classes, 8), "head.bias": (classes,)}
  return random_arrays(shapes, seed)


def block_shapes(prefix: str, dim: int) -> dict[str, tuple[int, ...]]:
  """Shapes of a transformer block with MLP ratio 4."""
  return {
    f"{prefix}.norm1.weight": (dim,),
    f"{prefix}.norm1.bias": (dim,),
    f"{prefix}.attn.qkv.weight": (3 * dim, dim),
    f"{prefix}.attn.qkv.bias": (3 * dim,),
    f"{prefix}.attn.proj.weight": (dim, dim),
    f"{prefix}.attn.proj.bias": (dim,),
    f"{prefix}.norm2.weight": (dim,),
    f"{prefix}.norm2.bias": (dim,),
    f"{prefix}.mlp.fc1.weight": (4 * dim, dim),
    f"{prefix}.mlp.fc1.bias": (4 * dim,),
    f"{prefix}.mlp.fc2.weight": (dim, 4 * dim),
    f"{prefix}.mlp.fc2.bias": (dim,),
  }


def mae_arrays(*, decoder: bool, seed: int = 0) -> dict[str, np.ndarray]:
  """A tiny MAE (decoder of width 4, depth 1), or its encoder alone, as published by MAE."""
  arrays = vit_arrays(0, norm="norm", seed=seed)
  if not decoder:
    return arrays
  shapes = {
    "mask_token": (1, 1, 4),
    "decoder_pos_embed": (1, 5, 4),
    "decoder_embed.weight": (4, 8),
    "decoder_embed.bias": (4,),
    **block_shapes("decoder_blocks.0", 4),
    "decoder_norm.weight": (4,),
    "decoder_norm.bias": (4,),
    "decoder_pred.weight": (588, 4),
    "decoder_pred.bias": (588,),
  }
  return arrays | random_arrays(shapes, seed + 1)


TINY_MAE = TINY_VIT | dict(decoder_embed_dim=4, decoder_depth=1, decoder_num_heads=2)


def random_arrays(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
  """Float32 arrays of the given shapes, N(0, 1)."""
  rng = np.random.default_rng(seed)
  return {k: rng.standard_normal(shape).astype(np.float32) for k, shape in shapes.items()}


def state_dict(arrays: dict[str, np.ndarray], prefix: str = ""):
  """The arrays in the form of torch.nn.Module.state_dict()."""
  torch = pytest.importorskip("torch", reason="the checkpoint is written by torch")
  pairs = ((prefix + key, torch.from_numpy(np.array(a))) for key, a in arrays.items())
  return collections.OrderedDict(pairs)


def save_torch(content, path: pathlib.Path, *, legacy: bool = False) -> pathlib.Path:
  """torch.save in the zip or the legacy format."""
  torch = pytest.importorskip("torch", reason="the checkpoint is written by torch")
  torch.save(content, path, _use_new_zipfile_serialization=not legacy)
  return path


def save_safetensors(arrays: dict[str, np.ndarray], path: pathlib.Path) -> pathlib.Path:
  """Writes a safetensors file: the header's length, a JSON header and the data."""
  import json

  header, body = {}, b""
  for key, array in arrays.items():
    end = len(body) + array.nbytes
    header[key] = {
      "dtype": {"float32": "F32", "float16": "F16", "int64": "I64"}[array.dtype.name],
      "shape": list(array.shape),
      "data_offsets": [len(body), end],
    }
    body += array.tobytes()
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + body)
  return path


def training_arguments() -> argparse.Namespace:
  """Arguments as the training scripts save them."""
  return argparse.Namespace(model="vit_tiny", lr=1e-3, output_dir="out", betas=(0.9, 0.95))


class Payload:
  """Creates a marker file when it is unpickled without restrictions."""

  def __init__(self, marker: pathlib.Path):
    self.marker = marker

  def __reduce__(self):
    return os.mknod, (str(self.marker),)


def rewrite_zip(source: pathlib.Path, target: pathlib.Path, changes: dict[str, bytes]) -> None:
  """Copies a zip archive; `changes` maps endings of entry names to new contents."""
  with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
    for entry in old.infolist():
      data = old.read(entry)
      for ending, replacement in changes.items():
        data = replacement if entry.filename.endswith(ending) else data
      new.writestr(zipfile.ZipInfo(entry.filename), data)


def random_model_arrays(name: str, *, seed: int = 0, **arguments) -> dict[str, np.ndarray]:
  """Random weights of any model with torch's names and layouts; the model is built abstractly."""
  from convert.detection import family_of
  from convert.families import rules_for
  from convert.module_arrays import abstract_model

  _, variables = abstract_model(name, arguments)
  table = rules_for(family_of(name), variables)
  shapes = {}
  for path, variable in variables.items():
    key, transform = table.key_of(path)
    shapes[key] = transform.torch_shape(variable.get_value().shape)
  return random_arrays(shapes, seed)


# A small model of every family: name and sizes.
TINY_MODELS = {
  "vit": ("vit_tiny_patch16", TINY_VIT),
  "mae": ("mae_vit_tiny_patch16", TINY_MAE),
  "t2t": ("t2t_vit_7", dict(embed_dim=32, depth=2, num_heads=2, num_classes=5, image_size=32)),
  "convnextv2": (
    "convnextv2_atto",
    dict(depths=(1, 1, 2, 1), dims=(4, 8, 12, 16), num_classes=5, image_size=64),
  ),
  "fcmae": (
    "fcmae_convnextv2_atto",
    dict(depths=(1, 1, 2, 1), dims=(4, 8, 12, 16), decoder_embed_dim=8, image_size=64),
  ),
}
