"""Recipe files: finding them by path or by name, and running their `get_config`."""

import difflib
import inspect
import pathlib
import runpy

from ml_collections import ConfigDict

from jax_me.bundled import bundled_folder, import_bundled
from jax_me.training.settings import SettingsError

# Modules of `configs` that are shared by recipes.
_PARTS = ("__init__", "common", "families", "leave_one_out")


def recipe_names() -> list[str]:
  """Names of the recipes shipped with jax_me."""
  names = {path.stem for path in bundled_folder("configs").glob("*.py")}
  return sorted(names.difference(_PARTS))


def find_recipe(name: str) -> pathlib.Path:
  """The file of a recipe.

  Args:
    name: path of a file, or the name of a recipe shipped with jax_me ("quickstart").

  Raises:
    SettingsError: no such recipe; the message has the nearest name.
  """
  file = pathlib.Path(name)
  if file.is_file():
    return file
  shipped = bundled_folder("configs") / f"{file.stem}.py"
  if file.parent in (pathlib.Path("."), pathlib.Path("configs")) and shipped.is_file():
    return shipped
  beside = [path.name for path in file.parent.glob("*.py")] if file.parent.is_dir() else []
  near = [str(file.parent / n) for n in difflib.get_close_matches(file.name, beside, n=1)]
  near = near or difflib.get_close_matches(file.stem, recipe_names(), n=1)
  hint = f"; did you mean {near[0]}?" if near else f" (recipes: {', '.join(recipe_names())})"
  raise SettingsError(f"there is no recipe {name}{hint}")


def load_recipe(recipe: str) -> ConfigDict:
  """Runs the recipe's `get_config`.

  Args:
    recipe: "configs/name.py", or "name" of a recipe shipped with jax_me; both may end with
      ":argument".

  Raises:
    SettingsError: no such file, it is no recipe, or it does not accept the argument.
  """
  path, _, argument = recipe.partition(":")
  file = find_recipe(path)
  import_bundled("configs.common")  # Recipes import it, whatever the current folder is.
  get_config = runpy.run_path(str(file)).get("get_config")
  if get_config is None:
    raise SettingsError(f"{path} is no recipe: it defines no get_config()")
  if argument and not inspect.signature(get_config).parameters:
    raise SettingsError(f"{path} takes no argument, got {argument!r}")
  if not argument:
    return get_config()
  try:
    return get_config(argument)
  except Exception as error:  # A recipe may look its argument up in any way.
    reason = f"{type(error).__name__} {error}" if isinstance(error, LookupError) else error
    raise SettingsError(f"{path} does not accept the argument {argument!r}: {reason}") from error
