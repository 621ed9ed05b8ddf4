"""Recorded outputs of the original code in tests/golden, and the models, weights and inputs for it.

case = golden_cases("mae")["mae_vit_tiny_patch16"]
with float64():
  graphdef, state = fill_model(lambda: create_model(...), torch_weights(case), dtype=np.float64)
  out = nnx.merge(graphdef, state)(model_input(case).astype(np.float64))
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"

# Streams of default_rng([seed, stream]); weights use the index of their key as the stream.
INPUT, NOISE = 10**6, 10**6 + 1
STEP_INPUT, STEP_NOISE, STEP_LABELS = 2 * 10**6, 3 * 10**6, 4 * 10**6

Path = tuple[str | int, ...]


@functools.cache
def golden_cases(family: str) -> dict[str, dict]:
  """Cases of one manifest: "mae", "t2t", "convnextv2", "fcmae", "units" or "trajectories"."""
  name = (
    "trajectories/manifest_trajectories_dev" if family == "trajectories" else f"manifest_{family}"
  )
  manifest = json.loads((GOLDEN / f"{name}.json").read_text())
  for case in manifest["cases"].values():
    if isinstance(case["keys"], str):  # several cases share one key list
      case["keys"] = manifest["key_lists"][case["keys"]]
  return manifest["cases"]


@functools.cache
def golden_arrays(family: str) -> dict[str, np.ndarray]:
  """All arrays of one .npz: "mae", "t2t", "convnextv2", "fcmae", "units" or "misc"."""
  with np.load(GOLDEN / f"{family}.npz") as arrays:
    return dict(arrays)


def expected_outputs(family: str, case_name: str) -> dict[str, np.ndarray]:
  """{output name: array} of one case; output names may contain slashes."""
  prefix = f"{case_name}/"
  arrays = golden_arrays(family).items()
  return {key.removeprefix(prefix): value for key, value in arrays if key.startswith(prefix)}


@functools.cache
def misc() -> dict:
  """Recorded schedules and other values that belong to no model."""
  return json.loads((GOLDEN / "misc.json").read_text())


@functools.cache
def trajectories() -> dict[str, dict]:
  """Recorded training runs by name; their common settings are under `common` in the file."""
  text = (GOLDEN / "trajectories/trajectories_dev.json").read_text()
  return json.loads(text)["cases"]


def sinusoid_table(positions: int, dim: int) -> np.ndarray:
  """T2T-ViT's table [positions, dim]: channel pair (2i, 2i + 1) is sin, cos of one frequency."""
  pair = np.arange(dim) // 2
  angle = np.arange(positions)[:, None] / np.power(10000.0, 2 * pair / dim)
  return np.where(np.arange(dim) % 2 == 0, np.sin(angle), np.cos(angle))


def sincos_table(positions: int, dim: int) -> np.ndarray:
  """MAE's 2-D table [positions, dim]: zeros for the class token, then columns before rows."""
  side = round((positions - 1) ** 0.5)
  frequency = 1.0 / 10000.0 ** (np.arange(dim // 4) / (dim / 4.0))
  steps = np.arange(side)[:, None] * frequency
  line = np.concatenate([np.sin(steps), np.cos(steps)], axis=1)
  column, row = np.tile(line, (side, 1)), np.repeat(line, side, axis=0)
  return np.concatenate([np.zeros((1, dim)), np.concatenate([column, row], axis=1)])


def torch_weight(case: dict, entry: dict) -> np.ndarray:
  """Float32 array in torch layout of one entry of `keys`: mean + std * normal of [seed, index]."""
  tables = {"t2t_sinusoid": sinusoid_table, "mae_sincos": sincos_table}
  shape = tuple(entry["shape"])
  if entry["kind"] in tables:
    return tables[entry["kind"]](*shape[-2:])[None].astype(np.float32)
  rng = np.random.default_rng([case["seed"], entry["index"]])
  value = rng.standard_normal(shape)
  # In place, with the rounding of `mean + std * value`.
  value *= entry["std"]
  value += entry["mean"]
  return value.astype(np.float32)


def torch_weights(case: dict) -> dict[str, np.ndarray]:
  """{torch key: array} of all entries, see `torch_weight`."""
  return {entry["key"]: torch_weight(case, entry) for entry in case["keys"]}


def weights_digest(case: dict, weights: dict[str, np.ndarray]) -> str:
  """sha256 over the random arrays (without tables: sin and cos may differ in the last bit)."""
  digest = hashlib.sha256()
  for entry in case["keys"]:
    if "mean" in entry:
      digest.update(np.ascontiguousarray(weights[entry["key"]], dtype="<f4").tobytes())
  return digest.hexdigest()


def raw_input(case: dict, stream: int = INPUT) -> np.ndarray:
  """Input of the original code: float32, [B, 3, H, W] unless the case has `input_shape`."""
  side = case["img_size"] if "img_size" in case else 0
  shape = case.get("input_shape") or (case["batch"], 3, side, side)
  values = np.random.default_rng([case["seed"], stream]).standard_normal(shape)
  return (case.get("input_scale", 1.0) * values).astype(np.float32)


def model_input(case: dict, stream: int = INPUT) -> np.ndarray:
  """Images [B, H, W, 3] float32."""
  return np.ascontiguousarray(raw_input(case, stream).transpose(0, 2, 3, 1))


def mask_noise(case: dict, stream: int = NOISE) -> np.ndarray:
  """[B, L] float32; the patches with the smallest values are kept."""
  rng = np.random.default_rng([case["seed"], stream])
  draw = {"uniform": rng.random, "normal": rng.standard_normal}[case["noise"]]
  return draw((case["batch"], case["num_patches"])).astype(np.float32)


def step_input(case: dict, step: int) -> np.ndarray:
  """Images [B, H, W, 3] float32 of a training step (counted from 0)."""
  return model_input(case, STEP_INPUT + step)


def step_noise(case: dict, step: int) -> np.ndarray:
  """Mask noise [B, L] float32 of a training step."""
  return mask_noise(case, STEP_NOISE + step)


def step_labels(case: dict, step: int) -> np.ndarray:
  """Labels [B] of a training step."""
  rng = np.random.default_rng([case["seed"], STEP_LABELS + step])
  return rng.integers(0, case["num_classes"], case["batch"])


def flax_location(key: str, value: np.ndarray) -> tuple[Path, np.ndarray]:
  """Path of a torch array in our modules, and the array in our layout.

  Paths equal torch's names; `weight` is `kernel` from rank 2 up and `scale` below. Linear
  [out, in] becomes [in, out], convolution [out, in, h, w] becomes [h, w, in, out] and, in one
  dimension, [out, in, w] becomes [w, in, out].
  """
  path: list[str | int] = [int(part) if part.isdigit() else part for part in key.split(".")]
  if path[-1] == "weight":
    path[-1] = "kernel" if value.ndim > 1 else "scale"
    if value.ndim in (2, 3):
      value = value.T
    elif value.ndim == 4:
      value = value.transpose(2, 3, 1, 0)
  return tuple(path), value


def fill_model(
  build: Callable[[], nnx.Module],
  weights: dict[str, np.ndarray],
  *,
  dtype: type = np.float32,
  locate: Callable[[str, np.ndarray], tuple[Path, np.ndarray]] = flax_location,
) -> tuple[nnx.GraphDef, nnx.State]:
  """Graph definition and state of `build()` with exactly the given weights.

  The model is only built abstractly. Fails on keys without a variable, on variables without a key
  and on different shapes.
  """
  graphdef, abstract = nnx.split(nnx.eval_shape(build))
  variables = dict(nnx.to_flat_state(abstract))
  assigned = {}
  for key, value in weights.items():
    path, value = locate(key, value)
    assert path in variables, f"{key}: the model has no {path}"
    assert path not in assigned, f"{key}: {path} is assigned twice"
    shape = variables[path].get_value().shape
    assert shape == value.shape, f"{key}: shape {value.shape} for {path} of shape {shape}"
    assigned[path] = variables[path].replace(jax.numpy.asarray(value, dtype))
  missing = [path for path in variables if path not in assigned]
  assert not missing, f"no key for {missing}"
  return graphdef, nnx.from_flat_state([(path, assigned[path]) for path in variables])


class GeneratedArray:
  """Weight in our layout that is generated at each access and not kept."""

  def __init__(self, case: dict, entry: dict, dtype: type):
    self.case, self.entry, self.dtype = case, entry, np.dtype(dtype)

  def __len__(self) -> int:  # Flax takes a norm's scale for absent where it is empty.
    return len(self[...])

  def __getitem__(self, index) -> jax.Array:
    _, value = flax_location(self.entry["key"], torch_weight(self.case, self.entry))
    return jax.numpy.asarray(value, self.dtype)[index]


def fill_model_lazily(build: Callable[[], nnx.Module], case: dict, *, dtype: type) -> nnx.Module:
  """`build()` with a `GeneratedArray` in each variable, for a model that does not fit in memory.

  Call it outside of `jax.jit`. Raises KeyError if a variable has no key of the case.
  """
  graphdef, abstract = nnx.split(nnx.eval_shape(build))
  # flax_location needs the rank of a value only.
  entries = {
    flax_location(entry["key"], np.empty((0,) * len(entry["shape"])))[0]: entry
    for entry in case["keys"]
  }
  variables = [
    (path, variable.replace(GeneratedArray(case, entries.pop(path), dtype)))
    for path, variable in nnx.to_flat_state(abstract)
  ]
  assert not entries, f"no variable for {list(entries)}"
  return nnx.merge(graphdef, nnx.from_flat_state(variables))


def max_difference(actual, desired) -> float:
  """Largest absolute difference; shapes must agree."""
  actual, desired = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
  assert actual.shape == desired.shape, f"{actual.shape} against {desired.shape}"
  return float(np.max(np.abs(actual - desired), initial=0.0))


def golden_tolerance(desired: np.ndarray, dtype: type) -> float:
  """Bound on `max_difference`: 1e-9 in float64; 1e-5 in float32, relative to values above 1."""
  if dtype == np.float64:
    return 1e-9
  return 1e-5 * max(1.0, float(np.max(np.abs(desired), initial=0.0)))
