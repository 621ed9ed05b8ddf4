"""Small models of timm and transformers as recorded in tests/golden/hub: folders, weights, outputs.

The libraries are not needed: the weights are drawn as in `golden_cases`, and the files are written
in the form, and with the keys, that the library gave them.
"""

import dataclasses
import functools
import json
import pathlib

import numpy as np

from tests.helpers.checkpoint_files import save_safetensors, save_torch, state_dict
from tests.helpers.golden_cases import GOLDEN, INPUT, NOISE

BATCH = 2
PATCHES = 16  # of the MAE: 32 pixels, patches of 8


@dataclasses.dataclass(frozen=True)
class HubCase:
  """A recorded model.

  Attributes:
    library, version, model: of what computed the outputs.
    note: what distinguishes the case.
    seed: of weights and input.
    side: of the images in pixels.
    shapes: of the arrays, in the order in which they are drawn.
    norms: numbers of those arrays that are about one.
    forms: {file form: keys of the arrays in that form}.
    config, processor: content of the JSON files beside the weights; None where there are none.
    overrides: constructor keywords that the files leave open.
  """

  library: str
  version: str
  model: str
  note: str
  seed: int
  side: int
  shapes: list[list[int]]
  norms: list[int]
  forms: dict[str, list[str]]
  config: dict | None = None
  processor: dict | None = None
  overrides: dict = dataclasses.field(default_factory=dict)


@functools.cache
def hub_cases() -> dict[str, HubCase]:
  """{name: recorded case}."""
  content = json.loads((GOLDEN / "hub/manifest.json").read_text())
  return {name: HubCase(**case) for name, case in content.items()}


@functools.cache
def _recorded() -> dict[str, np.ndarray]:
  with np.load(GOLDEN / "hub/outputs.npz") as arrays:
    return dict(arrays)


def recorded_outputs(name: str) -> dict[str, np.ndarray]:
  """{output name: float64 array} that the library computed for a case."""
  prefix = f"{name}/"
  return {k.removeprefix(prefix): v for k, v in _recorded().items() if k.startswith(prefix)}


def hub_weights(case: HubCase) -> list[np.ndarray]:
  """Float32 arrays of `case.shapes`: 0.2 * normal of [seed, number], about one for norms."""
  arrays = []
  for number, shape in enumerate(case.shapes):
    value = 0.2 * np.random.default_rng([case.seed, number]).standard_normal(shape)
    arrays.append(np.asarray(value + (number in case.norms), np.float32))
  return arrays


def case_input(case: HubCase) -> np.ndarray:
  """Images [B, side, side, 3] float32."""
  rng = np.random.default_rng([case.seed, INPUT])
  return rng.standard_normal((BATCH, case.side, case.side, 3)).astype(np.float32)


def case_noise(case: HubCase) -> np.ndarray:
  """Mask noise [B, PATCHES] float32; the patches with the smallest values are kept."""
  return np.random.default_rng([case.seed, NOISE]).random((BATCH, PATCHES)).astype(np.float32)


def write_case(case: HubCase, form: str, folder: pathlib.Path) -> pathlib.Path:
  """Writes the recorded model in a file form.

  Returns:
    The path to convert: the folder, or a single file.
  """
  arrays = dict(zip(case.forms[form], hub_weights(case), strict=True))
  folder.mkdir()
  if form.startswith("."):
    if form == ".safetensors":
      return save_safetensors(arrays, folder / "face_multitask_v2.safetensors")
    return save_torch({"model": state_dict(arrays), "epoch": 3}, folder / "checkpoint.pth")
  write_json(folder / "config.json", case.config)
  if case.processor is not None:
    write_json(folder / "preprocessor_config.json", case.processor)
  if form == "pytorch_model.bin":
    save_torch(state_dict(arrays), folder / form)
  elif "shards" in form:
    write_shards(arrays, folder, 3)
  else:
    save_safetensors(arrays, folder / "model.safetensors")
  return folder


def hub_model_folder(folder: pathlib.Path) -> pathlib.Path:
  """Writes a small classifier of transformers: ViT, 32 x 32 pixels, five expressions."""
  return write_case(hub_cases()["transformers_vit"], "model.safetensors", folder)


def write_shards(arrays: dict[str, np.ndarray], folder: pathlib.Path, count: int) -> None:
  """Writes the arrays in turn to `count` files, and their index."""
  names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
  places = {key: names[number % count] for number, key in enumerate(arrays)}
  for name in names:
    save_safetensors({k: v for k, v in arrays.items() if places[k] == name}, folder / name)
  index = {"metadata": {"total_size": 0}, "weight_map": places}
  write_json(folder / "model.safetensors.index.json", index)


def write_json(path: pathlib.Path, content: object) -> None:
  path.write_text(json.dumps(content))
