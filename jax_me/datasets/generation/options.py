"""Options of the builders: everything that changes the content of a dataset.

The fields of the dataclasses declare their allowed values, and when they have no effect: an idle
option is reset to its default, so that it does not lead to another build. Worker processes import
this module, so it imports nothing of TFDS.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from jax_me.faces.alignment import check_settings
from jax_me.faces.detector import DEFAULT_DETECTOR, DETECTORS, EARLIER_DETECTOR
from jax_me.faces.image_files import ENCODINGS

OptionsT = TypeVar("OptionsT", bound="BuilderOptions")


def option(
  default: Any,
  *,
  choices: Sequence[Any] = (),
  of: str = "",
  idle: Callable[[Any], bool] = lambda options: False,
) -> Any:
  """Declares a field of an options dataclass.

  Args:
    default: its default value.
    choices: its allowed values, all numbers or all text; () for any.
    of: name of the dataset, for the message about another value.
    idle: whether the option has no effect, given all options.

  Returns:
    The field.
  """
  metadata = {"choices": choices, "of": of, "idle": idle}
  return dataclasses.field(default=default, metadata=metadata)


def detector_option(idle: Callable[[Any], bool] = lambda options: not options.align) -> Any:
  """Declares the field `detector` of a dataset whose faces are aligned."""
  return option(DEFAULT_DETECTOR, choices=DETECTORS, idle=idle)


def stored_options(options: "BuilderOptions", built: Mapping[str, Any]) -> dict[str, Any]:
  """Completes the stored options of a build by those that its version did not have.

  Version 0.1 had no `detector`; other later options have an effect only when they are set.

  Args:
    options: of the same builder, with the same `align`.
    built: the stored options.
  """
  fields = {field.name: field for field in dataclasses.fields(options)}
  completed = {
    name: list(field.default) if isinstance(field.default, tuple) else field.default
    for name, field in fields.items()
  }
  name = "detector"
  if name in fields and not fields[name].metadata["idle"](options):
    completed[name] = EARLIER_DETECTOR
  return completed | dict(built)


@dataclasses.dataclass(frozen=True)
class BuilderOptions:
  """Base of the builders' options; a builder without options uses it as it is."""

  def __post_init__(self):
    for field in dataclasses.fields(self):
      choices, value = field.metadata.get("choices"), getattr(self, field.name)
      if choices and value not in choices:
        name = f"{field.name} of {of}" if (of := field.metadata["of"]) else field.name
        if isinstance(choices[0], str):
          raise ValueError(f"{name} must be one of {', '.join(choices)}: {value!r}")
        *first, last = sorted(choices)
        raise ValueError(f"{name} must be {', '.join(map(str, first))} or {last}, got {value}")
    for field in dataclasses.fields(self):
      if "idle" in field.metadata and field.metadata["idle"](self):
        self._set(field.name, field.default)

  def _set(self, name: str, value: object) -> None:
    """Sets a field while the options are created."""
    object.__setattr__(self, name, value)

  @property
  def title(self) -> str:
    """Readable first part of the folder name of a build, for example "aligned_224"."""
    return "data"

  def narrowed(self, kind: type[OptionsT]) -> OptionsT:
    """The options of a base class, for tasks: those of a dataset cannot be imported by workers."""
    return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})


def _not_aligned(options: Any) -> bool:
  return not options.align


@dataclasses.dataclass(frozen=True)
class ImageOptions(BuilderOptions):
  """Options of the face crops of a dataset.

  Attributes:
    align: cut out and align the face with dlib. False keeps the release's images as they are.
    size: side of aligned faces in pixels.
    on_no_face: for align, where dlib finds none: "skip", "center" (unaligned) or "error".
    encoding: "png" (lossless) or "jpg" (quality 95, a fifth of the size), for aligned faces.
    detector: for align, the face detector: "yunet+hog", "hog" (as in version 0.1) or "yunet".
  """

  align: bool = False
  size: int = option(224, idle=_not_aligned)
  on_no_face: str = option("skip", idle=_not_aligned)
  encoding: str = option("png", choices=ENCODINGS, idle=_not_aligned)
  detector: str = detector_option()

  def __post_init__(self):
    check_settings(self.size, self.on_no_face)
    super().__post_init__()

  @property
  def title(self) -> str:
    return f"aligned_{self.size}" if self.align else "original"
