"""The error raised for checkpoints that cannot be converted."""

from collections.abc import Sequence

# A wrong file can have a problem per key: the message lists the first ones and gives the count.
_LISTED = 40


class ConversionError(ValueError):
  """A checkpoint cannot be converted.

  Attributes:
    reason: what is wrong, in one sentence.
    problems: all problems found, one per key; empty when the reason is complete.
    remedy: what the user can do about it.
    file: path of the checkpoint, "" when unknown.
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
      lines.append(f"  - ... and {len(self.problems) - _LISTED} more")
    if self.remedy:
      lines.append(f"Remedy: {self.remedy}")
    return "\n".join(lines)

  def in_file(self, file: str) -> "ConversionError":
    """This error with the file's name added, unless it has one already."""
    self.file = self.file or file
    return self


class FailedUpload(ValueError):
  """A model folder that could not be uploaded."""


class UnavailableWeights(ConversionError):
  """Weights given by a name cannot be fetched: unknown, not reachable, or damaged on the way."""
