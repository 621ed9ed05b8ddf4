"""The packages `configs` and `convert`, and the expression model, which come with jax_me.

The packages are beside `jax_me` in a checkout and inside it in a wheel.
"""

import importlib
import importlib.util
import pathlib
import sys
import types

PACKAGE = pathlib.Path(__file__).resolve().parent
EXPRESSION_MODEL = PACKAGE / "expression_model"
PACKAGED = "packaged"  # The name of the expression model, wherever a model can be given.


def expression_model() -> pathlib.Path:
  """The model folder of the expression model that comes with jax_me.

  Raises:
    ValueError: this version has none.
  """
  if not (EXPRESSION_MODEL / "model.json").is_file():
    raise ValueError("no expression model comes with this version of jax_me: give a model")
  return EXPRESSION_MODEL


def bundled_folder(name: str) -> pathlib.Path:
  """The folder of `configs` or `convert`, wherever jax_me is installed."""
  inside = PACKAGE / name
  return inside if inside.is_dir() else PACKAGE.parent / name


def import_bundled(module: str) -> types.ModuleType:
  """Imports "configs.common", "convert.torch_to_flax" and the like, whatever the working directory.

  In a checkout and in an editable install the module keeps its top-level name; in a wheel it is
  `jax_me.<module>`. `configs` is then importable under its top-level name too, because recipes,
  also those that users write, start with `from configs.common import common`.
  """
  package = module.partition(".")[0]
  if (PACKAGE / package).is_dir():
    found = importlib.import_module(f"jax_me.{package}")
    if package == "configs":
      sys.modules["configs"] = found
    return importlib.import_module(f"jax_me.{module}")
  folder = bundled_folder(package)
  loaded = sys.modules.get(package)
  if loaded is None or folder not in map(_resolved, loaded.__path__):
    # Found by its path: the working directory may hold another package of this name.
    spec = importlib.util.spec_from_file_location(
      package, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[package])
  return importlib.import_module(module)


def _resolved(path: str) -> pathlib.Path:
  return pathlib.Path(path).resolve()
