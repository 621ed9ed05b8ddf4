"""Declaration of a setting: default, meaning, unit, choices and range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import FieldReference


@dataclass(frozen=True)
class Setting:
  """One setting of a run, as `configs/common.py` declares it.

  Attributes:
    value: the default; {} is a section with keys of its own, such as the keywords of a model.
    meaning: what it does, and what special values such as 0 do.
    unit: of a number, in the plural; "" without.
    choices: the allowed values; () for any.
    interval: the allowed numbers in mathematical notation, "[0, 1)" or "(0, inf)"; "" for any.
    any_type: values of other types than the default are allowed.
    free: may change when a run is resumed, as it changes neither weights nor predictions (or, with
      the same meaning, their last digits).
  """

  value: Any
  meaning: str
  unit: str = ""
  choices: tuple[Any, ...] = ()
  interval: str = ""
  any_type: bool = False
  free: bool = False

  def allowed(self) -> str:
    """The allowed values as the end of a sentence: "one of a, b", "at least 1"; "" for any."""
    if self.choices:
      return f"one of {', '.join(map(str, self.choices))}"
    low, high = self._ends() if self.interval else ("", "inf")
    if high != "inf" or not low:
      return self.interval and f"in {self.interval}"
    if self.interval.startswith("["):
      return f"at least {low}"
    return "positive" if float(low) == 0 else f"more than {low}"

  def allows(self, value: Any) -> bool:
    """Whether a value is one of the choices and in the interval."""
    if self.choices:
      return value in self.choices
    if not self.interval:
      return True
    low, high = map(float, self._ends())
    above = value >= low if self.interval.startswith("[") else value > low
    return above and (value <= high if self.interval.endswith("]") else value < high)

  def _ends(self) -> tuple[str, str]:
    """The numbers of the interval, as they are written."""
    match = re.fullmatch(r"[\[(]([^,]+), ([^,]+)[\])]", self.interval)
    assert match is not None, self.interval
    return match[1], match[2]


def default_config(settings: Mapping[str, Setting]) -> ConfigDict:
  """Builds the locked configuration of all defaults from declarations by dotted key."""
  config = ConfigDict()
  for key, setting in settings.items():
    *sections, name = key.split(".")
    section = config
    for part in sections:
      if part not in section:
        section[part] = ConfigDict()
      section = section[part]
    if setting.any_type:
      section[name] = FieldReference(setting.value, field_type=object)
    else:
      section[name] = ConfigDict() if setting.value == {} else setting.value
  return config.lock()
