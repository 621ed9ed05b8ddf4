"""`jax-me demo`: its messages, and that nothing else needs Gradio."""

import re
import sys

import pytest

from jax_me.__main__ import main
from jax_me.demo.model_description import describe_model
from jax_me.limits_notice import LAW_NOTICE
from jax_me.models.model_folder import load_model
from tests.helpers.inference_models import save


def test_without_gradio_one_line_names_the_extra(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "gradio", None)
  assert main(["demo"]) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and 'pip install "jax_me[demo]"' in error


def test_an_impossible_port_is_one_line(capsys):
  assert main(["demo", "--port", "0"]) == 1
  assert "port" in capsys.readouterr().err


def test_only_the_page_imports_gradio(repository):
  importing = [
    path.relative_to(repository).as_posix()
    for path in (repository / "jax_me").rglob("*.py")
    if re.search(r"^\s*(import|from) gradio", path.read_text(encoding="utf-8"), re.M)
  ]
  assert importing == ["jax_me/demo/page.py"]


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_the_model_is_described_by_its_card_or_its_metadata(tmp_path):
  folder = save(tmp_path / "model")
  saved = load_model(folder)
  described = describe_model(saved, folder)
  assert "| classes | calm, happy, or so |" in described and "does not say" in described
  (folder / "CARD.md").write_text("# A card", encoding="utf-8")
  assert describe_model(saved, folder) == "# A card"


def test_the_paragraph_on_the_law_is_that_of_the_documentation(repository):
  page = (repository / "docs" / "limits.md").read_text(encoding="utf-8")
  for part in ("Regulation (EU) 2024/1689", "annex III", "article 50", "This is no legal advice."):
    assert part in LAW_NOTICE and part in page
