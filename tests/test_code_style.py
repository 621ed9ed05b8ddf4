"""Rules of the code base that a reader relies on: import direction, docstrings, file sizes."""

import ast
import functools
import pathlib
import re

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SOURCES = sorted(
  path for folder in ("jax_me", "convert") for path in (REPOSITORY / folder).rglob("*.py")
)
# From the bottom to the top: a package may import only packages of lower layers.
LAYERS = (
  {"terminal"},
  {
    "files",
    "csv_files",
    "progress",
    "cpu_cores",
    "bundled",
    "cache_folder",
    "bounded_reading",
    "command_errors",
    "limits_notice",
    "freed_memory",
  },
  {"beam", "worker_pool", "manifest", "image_preparation", "compilation_cache"},
  {"run_folder"},
  {"models", "faces"},
  {"convert"},
  {"data"},
  {"training", "evaluation"},
  {"reports"},
  {"datasets"},
  {"inference", "experiment", "podcheck", "doctor"},
  {"demo"},
  {"__main__", "__init__"},
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
# Questions are not names: the first line of a module says what the module holds.
RIDDLES = re.compile(
  r"^(what|where|who|whose|how|why|when|whether|which|in which|under what)\b", re.I
)


def package_of(module: str) -> str:
  """ "jax_me.data.folds" -> "data", "convert.rules" -> "convert"."""
  parts = module.split(".")
  if parts[0] == "convert":
    return "convert"
  return parts[1] if parts[0] == "jax_me" and len(parts) > 1 else ""


def module_of(path: pathlib.Path) -> str:
  parts = path.relative_to(REPOSITORY).with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


@functools.cache
def tree_of(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: pathlib.Path) -> list[str]:
  """Absolute names of the modules that a file imports, late imports included."""
  found = []
  package = module_of(path).split(".")
  if path.name != "__init__.py":
    package = package[:-1]
  for node in ast.walk(tree_of(path)):
    if isinstance(node, ast.Import):
      found += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      base = package[: len(package) - node.level + 1] if node.level else []
      module = ".".join([*base, *filter(None, [node.module])])
      found += [module] + [f"{module}.{alias.name}" for alias in node.names]
  return found


def public_functions(path: pathlib.Path):
  """(name, definition) of module-level functions and methods of classes without underscore."""
  for node in tree_of(path).body:
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
      yield node.name, node
    elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
      for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith("_"):
          yield f"{node.name}.{member.name}", member


def parameters(function: ast.FunctionDef) -> list[ast.arg]:
  arguments = function.args
  every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
  return [argument for argument in every if argument.arg not in ("self", "cls")]


def missing_sections(function: ast.FunctionDef) -> list[str]:
  """Sections that the docstring of a public function with three or more parameters lacks."""
  if len(parameters(function)) < 3:
    return []
  text = ast.get_docstring(function) or ""
  returns = function.returns
  gives_nothing = isinstance(returns, ast.Constant) and returns.value is None
  wanted = [] if gives_nothing else ["Returns"]
  raises = any(isinstance(node, ast.Raise) and node.exc is not None for node in ast.walk(function))
  wanted += ["Raises"] if raises else []
  missing = [] if "Args:" in text else ["Args"]
  for section in wanted:
    if not any(
      f"{name}:" in text for name in (section, "Yields" if section == "Returns" else section)
    ):
      missing.append(section)
  return missing


def test_imports_run_downwards():
  wrong = []
  for path in SOURCES:
    mine = package_of(module_of(path)) or "__init__"
    for module in imported_modules(path):
      package = package_of(module)
      if package in RANK and package != mine and RANK[package] >= RANK[mine]:
        wrong.append(f"{module_of(path)} imports {module}")
  assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", sorted(RANK))
def test_docstrings_have_their_sections(package):
  wrong = [
    f"{path.relative_to(REPOSITORY)}:{function.lineno} {name}: no {', '.join(missing)}"
    for path in SOURCES
    if (package_of(module_of(path)) or "__init__") == package
    for name, function in public_functions(path)
    if (missing := missing_sections(function))
  ]
  assert not wrong, "\n".join(wrong)


def test_modules_say_what_they_hold():
  wrong = []
  for path in SOURCES:
    first = (ast.get_docstring(tree_of(path)) or "").split("\n")[0]
    if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
      continue
    if not first or RIDDLES.match(first):
      wrong.append(f"{path.relative_to(REPOSITORY)}: {first!r}")
  assert not wrong, "\n".join(wrong)


def test_files_are_short():
  long = {
    str(path.relative_to(REPOSITORY)): length
    for path in SOURCES
    if (length := len(path.read_text(encoding="utf-8").splitlines())) > 400
  }
  assert not long


def test_file_names_are_unique_but_for_repeated_patterns():
  repeated = {"__init__", "builder", "layout", "annotations", "cli", "run"}
  seen: dict[str, list[str]] = {}
  for path in SOURCES:
    if path.stem not in repeated:
      seen.setdefault(path.stem, []).append(str(path.relative_to(REPOSITORY)))
  assert not {stem: paths for stem, paths in seen.items() if len(paths) > 1}
