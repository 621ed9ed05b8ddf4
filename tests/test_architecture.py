"""Every file, folder, class and function that the documentation names exists."""

import ast
import functools
import pathlib
import re

import pytest

from tests.test_code_style import RANK

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DOCUMENTS = ("ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "SECURITY.md", "docs")
PAGES = sorted(
  page
  for name in DOCUMENTS
  for page in ([REPOSITORY / name] if name.endswith(".md") else (REPOSITORY / name).rglob("*.md"))
)
FOLDERS = r"(?:jax_me|convert|configs|tests|benchmarks|docs)"
# `jax_me/data/folds.py`: `make_folds`, `check_disjoint`
REFERENCE = re.compile(r"`([\w./]+\.py)`: ((?:`[\w.]+`(?:, |(?= )|(?=\W)|$))+)")
PATH = re.compile(rf"`({FOLDERS}(?:/[\w./]*)?)`")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@functools.cache
def names_in(path: pathlib.Path) -> frozenset[str]:
  """Names defined at module level, and "Class.member" for the members of classes."""
  found = set()
  for node in ast.parse(path.read_text(encoding="utf-8")).body:
    found |= defined(node)
    if isinstance(node, ast.ClassDef):
      members = [name for member in node.body for name in defined(member)]
      found |= {f"{node.name}.{name}" for name in members}
  return frozenset(found)


def defined(node: ast.stmt) -> set[str]:
  if isinstance(node, ast.FunctionDef | ast.ClassDef):
    return {node.name}
  targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
  return {target.id for target in targets if isinstance(target, ast.Name)}


def references(page: pathlib.Path) -> list[tuple[str, str]]:
  text = page.read_text(encoding="utf-8")
  return [
    (file, name)
    for file, names in REFERENCE.findall(text)
    for name in re.findall(r"`([\w.]+)`", names)
  ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_exist(page):
  text = page.read_text(encoding="utf-8")
  missing = [path for path in PATH.findall(text) if not (REPOSITORY / path).exists()]
  missing += [path for path in LINK.findall(text) if not (page.parent / path).exists()]
  assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_exist(page):
  wrong = [
    f"{file}: {name}"
    for file, name in references(page)
    if not (REPOSITORY / file).is_file() or name not in names_in(REPOSITORY / file)
  ]
  assert not wrong, "\n".join(wrong)


def test_the_references_are_found():
  assert len(references(REPOSITORY / "ARCHITECTURE.md")) > 70
  assert len(references(REPOSITORY / "CONTRIBUTING.md")) > 10


def test_the_layers_are_those_of_the_imports():
  text = (REPOSITORY / "ARCHITECTURE.md").read_text(encoding="utf-8")
  described = {
    pathlib.PurePath(path).stem: int(layer) - 1
    for layer, paths in re.findall(r"^\| (\d+) \| ([^|]*) \|", text, re.MULTILINE)
    for path in re.findall(r"`([\w./]+)`", paths)
  }
  assert described == RANK
