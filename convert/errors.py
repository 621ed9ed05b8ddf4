"""The one error of this room."""

from collections.abc import Sequence

# A wrong file can have a problem per key; the count is always told, the list is kept readable.
_LISTED = 40


class ConversionError(ValueError):
  """A checkpoint cannot be converted.

  Attributes:
    reason: what is wrong, in one sentence.
    problems: every single problem found (key by key), empty when the reason says it all.
    remedy: what the user can do about it.
  """

  def __init__(
    self, reason: str, *, problems: Sequence[str] = (), remedy: str = "", file: str = ""
  ):
    self.reason, self.problems, self.remedy = reason, list(problems), remedy
    self.file = file
    super().__init__(reason)

  def __str__(self) -> str:
    lines = [f"{self.file}: {self.reason}" if self.file else self.reason]
    lines += [f"  - {problem}" for problem in self.problems[:_LISTED]]
    if len(self.problems) > _LISTED:
      lines.append(f"  - ... and {len(self.problems) - _LISTED} more of these")
    if self.remedy:
      lines.append(f"Remedy: {self.remedy}")
    return "\n".join(lines)

  def in_file(self, file: str) -> "ConversionError":
    """The same error with the file's name, when it does not have one yet."""
    self.file = self.file or file
    return self
