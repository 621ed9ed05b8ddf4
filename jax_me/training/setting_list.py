"""List of the settings of a recipe, with value, unit, meaning and choices."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from jax_me.bundled import import_bundled
from jax_me.training.setting_declaration import Setting
from jax_me.training.settings import declared_settings, dotted_keys, value_of

MAX_WIDTH = 120  # Columns of the terminal that are used.


@dataclasses.dataclass(frozen=True)
class ListedSetting:
  """One setting of a recipe: its value there, and its declaration."""

  key: str
  value: Any
  declared: Setting

  @property
  def changed(self) -> bool:
    """Whether the recipe differs from the default."""
    return self.value != self.declared.value

  def matches(self, words: Sequence[str]) -> bool:
    """Whether name, meaning or choices contain all words, in upper or lower case."""
    text = f"{self.key} {self.declared.meaning} {self.declared.allowed()}".casefold()
    return all(word.casefold() in text for word in words)

  def record(self) -> dict[str, Any]:
    """The setting as JSON."""
    fields = {"name": self.key, "value": self.value, "default": self.declared.value}
    declared = self.declared
    return {
      **fields,
      "unit": declared.unit,
      "meaning": declared.meaning,
      "choices": list(declared.choices),
      "interval": declared.interval,
    }


def list_settings(config: ConfigDict) -> list[ListedSetting]:
  """All settings of a recipe, with the keys that it adds to open sections."""
  keys, listed = dotted_keys(config), []
  for key, declared in declared_settings().items():
    is_open = declared.value == {}
    listed.append(ListedSetting(key, {} if is_open else value_of(config, key), declared))
    if is_open:
      own = Setting(None, f"see {key}")
      added = sorted(other for other in keys if other.startswith(f"{key}."))
      listed += [ListedSetting(other, value_of(config, other), own) for other in added]
  return listed


def format_settings(listed: Sequence[ListedSetting], recipe: str) -> str:
  """Formats a list for the terminal, by section; a star marks values that are not the default."""
  sections = import_bundled("configs.common").SECTIONS
  width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
  names = max(len(setting.key) for setting in listed)
  values = [_value_text(setting) for setting in listed]
  column = min(max(map(len, values)), 26)
  indent = " " * (names + column + 6)
  lines = [
    f"Settings of {recipe} (* = differs from the default). Change one with "
    "--config.<setting>=<value>."
  ]
  for section, heading in sections.items():
    rows = [
      (setting, value)
      for setting, value in zip(listed, values, strict=True)
      if section == (setting.key.split(".")[0] if "." in setting.key else "")
    ]
    lines += ["", heading] if rows else []
    for setting, value in rows:
      star = "*" if setting.changed else " "
      start = f"{star} {setting.key:{names}}  {value:{column}}"
      text = "; ".join(filter(None, [setting.declared.meaning, setting.declared.allowed()]))
      narrow = len(indent) > width - 30  # The meaning goes below, or below a long value.
      below = narrow or len(start) > len(indent) - 2
      rest = "      " if narrow else indent
      wrapped = textwrap.wrap(
        text, max(width - len(rest), 20), break_on_hyphens=False, break_long_words=False
      )
      lines.append(start.rstrip() if below else f"{start}  {wrapped.pop(0)}")
      lines += [rest + line for line in wrapped]
  return "\n".join(lines)


def print_list(text: str) -> None:
  """Prints a long list, of which a pager or `head` may read only the beginning."""
  try:
    print(text, flush=True)
  except BrokenPipeError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # No second error at exit.


def _value_text(setting: ListedSetting) -> str:
  value = setting.value
  text = repr(value) if isinstance(value, str) else str(value)
  if isinstance(value, tuple | list):
    items = [f"{item:.4g}" if isinstance(item, float) else repr(item) for item in value]
    text = f"({', '.join(items)}{',' * (len(items) == 1)})"
  return f"{text} {setting.declared.unit}".rstrip() if value != {} else "-"
