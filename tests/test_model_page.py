"""The tables of docs/models.md against the recorded summaries of the models.

`python -m tests.test_model_page` writes them again.
"""

import pathlib
import re

from jax_me.models.model_summary import recorded_summaries
from jax_me.models.released_weights import released_weights

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "models.md"
# <!-- models: vit_ --> ... <!-- end -->: the models whose names begin so.
TABLE = re.compile(r"(<!-- models: (\w+) -->\n\n)[^<]*(<!-- end -->)")


def table(prefix: str) -> str:
  lines = [
    "| model | parameters | MACs | input, pixels | released files |",
    "|---|---|---|---|---|",
  ]
  for summary in recorded_summaries().values():
    if summary.name.startswith(prefix):
      files = len(released_weights(summary.name)) or ""
      size, work = _round(summary.parameters / 1e6), _round(summary.macs / 1e9)
      lines.append(f"| `{summary.name}` | {size} M | {work} G | {summary.image_size} | {files} |")
  return "\n".join(lines) + "\n"


def _round(number: float) -> str:
  return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def with_tables(text: str) -> str:
  return TABLE.sub(lambda found: found[1] + table(found[2]) + "\n" + found[3], text)


def test_the_tables_are_current():
  text = PAGE.read_text(encoding="utf-8")
  assert text == with_tables(text), "run `python -m tests.test_model_page`"


def test_every_model_is_in_a_table():
  text = PAGE.read_text(encoding="utf-8")
  assert not [name for name in recorded_summaries() if f"| `{name}` |" not in text]


if __name__ == "__main__":
  PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
