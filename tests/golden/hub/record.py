"""Records what small models of timm and transformers compute, and prints the parity table.

python -m tests.golden.hub.record    # needs: pip install timm transformers

Writes manifest.json (settings, key lists, seeds) and outputs.npz (float64 outputs) beside itself,
then converts every recorded file form and prints the largest differences as in docs/weights.md.
"""

import dataclasses
import json
import pathlib
import tempfile

import numpy as np
import transformers

from tests.helpers.hub_libraries import (
  LibraryModel,
  fill,
  library_models,
  outputs,
  read_json,
  save,
  saved_keys,
)
from tests.helpers.hub_models import HubCase, hub_weights
from tests.helpers.hub_parity import parity_table

HERE = pathlib.Path(__file__).parent


def record(name: str, description: LibraryModel, seed: int) -> tuple[HubCase, dict]:
  """The case and its outputs; checks that the library reads what it is said to have written."""
  state = description.build().state_dict()
  norms = [n for n, (k, v) in enumerate(state.items()) if k.endswith(".weight") and v.ndim == 1]
  case = HubCase(
    description.library,
    description.version,
    description.model,
    description.note,
    seed,
    description.side,
    [list(value.shape) for value in state.values()],
    norms,
    {},
    overrides=description.overrides,
  )
  model = fill(description.build(), case)
  computed = outputs(description, model, case)
  numbers = {array.tobytes(): number for number, array in enumerate(hub_weights(case))}
  with tempfile.TemporaryDirectory() as scratch:
    for form in description.forms:
      folder = pathlib.Path(scratch) / str(len(case.forms))
      save(description, model, form, folder)
      pairs = {numbers[tensor.numpy().tobytes()]: key for key, tensor in saved_keys(folder)}
      case.forms[form] = [pairs[number] for number in range(len(numbers))]
      if case.config is None:
        case = dataclasses.replace(
          case,
          config=read_json(folder / "config.json"),
          processor=read_json(folder / "preprocessor_config.json"),
        )
      if description.library == "transformers":
        again = getattr(transformers, description.model).from_pretrained(folder).double().eval()
        for output, value in outputs(description, again, case).items():
          np.testing.assert_allclose(value, computed[output], atol=1e-12)
  return case, computed


def main() -> None:
  cases, arrays = {}, {}
  for number, (name, description) in enumerate(library_models().items()):
    case, computed = record(name, description, 100 + number)
    cases[name] = dataclasses.asdict(case)
    arrays |= {f"{name}/{output}": value for output, value in computed.items()}
  lines = (f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
  (HERE / "manifest.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
  np.savez_compressed(HERE / "outputs.npz", **arrays)
  print(parity_table())


if __name__ == "__main__":
  main()
