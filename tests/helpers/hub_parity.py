"""Differences between converted models and what the library computed."""

import functools
import pathlib
import tempfile

import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np

from convert.torch_to_flax import convert_checkpoint, read_checkpoint
from tests.helpers.golden_cases import max_difference
from tests.helpers.hub_models import (
  HubCase,
  case_input,
  case_noise,
  hub_cases,
  recorded_outputs,
  write_case,
)
from tests.helpers.precision import float64
from tests.helpers.quick_compilation import quick_jit

# What a file alone does not determine: the model's name and the number of heads.
VIT_FLAGS = dict(patch_size=8, embed_dim=24, depth=2, num_heads=3, norm_epsilon=1e-6, mlp_ratio=4.0)
CONVNEXT_FLAGS = dict(depths=[1, 1, 2, 1], dims=[4, 8, 12, 16])


def converted(path: pathlib.Path, case: HubCase, dtype: type = np.float32, **overrides):
  """The conversion of a file or folder; sizes are given where there is no config.json."""
  if path.is_file():
    convnext = "convnext" in case.model or "py-feat" in case.model
    overrides = (CONVNEXT_FLAGS if convnext else VIT_FLAGS) | overrides
    overrides.setdefault("name", "convnextv2_tiny" if convnext else "vit_tiny_patch16")
  overrides = case.overrides | overrides | dict(dtype=dtype, param_dtype=dtype)
  return convert_checkpoint(read_checkpoint(path), **overrides)


def largest_differences(
  path: pathlib.Path, case: HubCase, desired: dict[str, np.ndarray]
) -> tuple[float, float]:
  """Largest difference in float64, and in float32 relative to outputs above 1."""
  found = []
  for dtype in (np.float64, np.float32):
    with float64(dtype is np.float64):
      actual = _outputs(converted(path, case, dtype).model, case, dtype, set(desired))
    scales = {
      name: 1.0 if dtype is np.float64 else max(1.0, float(np.abs(value).max()))
      for name, value in desired.items()
    }
    found.append(max(max_difference(actual[k], v) / scales[k] for k, v in desired.items()))
  return found[0], found[1]


def _outputs(model: nnx.Module, case: HubCase, dtype: type, names: set[str]) -> dict:
  graphdef, state = nnx.split(model)
  images = jnp.asarray(case_input(case), dtype)
  return jax.device_get(_run(graphdef, "pred" in names, state, images, case_noise(case)))


@functools.partial(quick_jit, static_argnums=(0, 1))  # cases of equal structure compile once
def _run(graphdef, masked, state, images, noise):
  model = nnx.merge(graphdef, state)
  if masked:
    out = model(images, 0.75, noise=noise)
    return {"pred": out.pred, "loss": out.loss}
  features = model.features(images)
  return {"features": features, "logits": model.head(features)}


def parity_table() -> str:
  """A row of Markdown for every recorded case: the largest differences over its file forms."""
  lines = [
    "| computed by | model | file forms | float64 | float32 |",
    "|---|---|---|---|---|",
  ]
  with tempfile.TemporaryDirectory() as scratch:
    for name, case in hub_cases().items():
      found = [
        largest_differences(
          write_case(case, form, pathlib.Path(scratch) / f"{name}{number}"),
          case,
          recorded_outputs(name),
        )
        for number, form in enumerate(case.forms)
      ]
      columns = [
        f"{case.library} {case.version}",
        f"`{case.model}`: {case.note}",
        ", ".join(case.forms),
        *(f"{max(column):.0e}" for column in zip(*found, strict=True)),
      ]
      lines.append(f"| {' | '.join(columns)} |")
  return "\n".join(lines)
