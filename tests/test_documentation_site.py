"""The documentation as a site, without MkDocs: navigation, links, anchors, API pages."""

import ast
import importlib
import json
import pathlib
import re

import pytest
import yaml

from tests.test_public_names import LIST

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)


def name_of(path):
  return path.relative_to(DOCS).as_posix()


def navigation():
  text = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8")
  entries = [yaml.safe_load(text)["nav"]]
  while entries:
    entry = entries.pop()
    if isinstance(entry, str):
      yield entry
    else:
      entries.extend(entry if isinstance(entry, list) else entry.values())


def anchors(page):
  """The anchors of the headings, as MkDocs makes them."""
  text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
  for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
    words = re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", heading)).strip().lower()
    yield re.sub(r"[-\s]+", "-", words)


def test_every_page_is_in_the_navigation_once():
  assert sorted(navigation()) == [name_of(page) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files_and_headings(page):
  text = CODE.sub("", page.read_text(encoding="utf-8"))
  wrong = []
  for link in LINK.findall(text):
    if re.match(r"https?:|mailto:", link):
      continue
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    # Links out of docs/ work in a checkout, but not on the site.
    if not target.is_file() or DOCS not in target.parents:
      wrong.append(link)
    elif anchor and anchor not in anchors(target):
      wrong.append(link)
  assert not wrong


def test_the_api_pages_name_what_is_public():
  named = {
    name for page in (DOCS / "api").glob("*.md") for name in DIRECTIVE.findall(page.read_text())
  }
  for name in named:
    module, _, member = name.rpartition(".")
    path = REPOSITORY / name.replace(".", "/")
    if path.with_suffix(".py").exists():
      continue
    file = REPOSITORY / module.replace(".", "/")
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert member in {getattr(node, "name", "") for node in tree.body}, name
  for module, names in json.loads(LIST.read_text(encoding="utf-8"))["modules"].items():
    for name in names:
      if not name.isupper():  # Constants are described by what takes or returns them.
        home = getattr(importlib.import_module(module), name).__module__
        assert named & {home, f"{home}.{name}", module, f"{module}.{name}"}, f"{module}.{name}"
