"""Labels and class probabilities from FER+'s ten votes per face (Barsoum et al., arXiv:1608.01041).

Votes are counts in the order of COLUMNS. All comparisons use integers.
"""

from collections.abc import Sequence

EMOTIONS = (
  "neutral",
  "happiness",
  "surprise",
  "sadness",
  "anger",
  "disgust",
  "fear",
  "contempt",
)
COLUMNS = (*EMOTIONS, "unknown", "NF")  # NF: not a face
MODES = ("majority", "probability", "multi_target")
MAX_EMOTIONS = 3  # faces with more selected columns are discarded

# Reported labels of discarded faces.
UNKNOWN, NOT_A_FACE = "unknown", "non face"


def select_votes(votes: Sequence[int], mode: str) -> tuple[int, ...]:
  """Keeps the votes of the columns that a mode selects; columns with a single vote never count.

  Args:
    votes: 10 counts in the order of COLUMNS.
    mode: "majority" keeps the column with most votes if it has more than half of all.
      "probability" adds columns by descending votes, columns with equal votes at once, until they
      hold three quarters of the votes or three are selected; it stops at unknown and NF, which
      are only selected first. "multi_target" keeps the columns with at least 30 % of the votes.
      In the last two modes the face is discarded if the selected columns hold half of the votes
      or less, or are more than three.

  Returns:
    10 counts, 0 for columns not selected; all 0 if the face is discarded.

  Raises:
    ValueError: not 10 non-negative counts, or an unknown mode.
  """
  if len(votes) != len(COLUMNS) or min(votes) < 0:
    raise ValueError(f"FER+ has {len(COLUMNS)} counts of votes, each 0 or more: {list(votes)}")
  votes = [count if count > 1 else 0 for count in votes]
  total = sum(votes)
  if mode == "majority":
    most = max(votes)
    winner = votes.index(most)
    selected = [most if column == winner else 0 for column in range(len(votes))]
  elif mode == "probability":
    selected = _select_most_voted(votes)
  elif mode == "multi_target":
    selected = [count if 10 * count >= 3 * total else 0 for count in votes]
  else:
    raise ValueError(f"mode of FER+ must be one of {', '.join(MODES)}: {mode!r}")
  is_kept = 2 * sum(selected) > total and sum(map(bool, selected)) <= MAX_EMOTIONS
  return tuple(selected) if is_kept else (0,) * len(votes)


def _select_most_voted(votes: Sequence[int]) -> list[int]:
  remaining, selected = list(votes), [0] * len(votes)
  total = sum(votes)
  while 4 * (total - sum(remaining)) < 3 * total and sum(map(bool, selected)) < MAX_EMOTIONS:
    most = max(remaining)
    for column in [column for column, count in enumerate(remaining) if count == most]:
      remaining[column] = 0
      is_emotion = column < len(EMOTIONS)
      if is_emotion or not any(selected):
        selected[column] = most
      if not is_emotion:
        return selected
  return selected


def label_from_votes(votes: Sequence[int], mode: str) -> tuple[str, tuple[float, ...]]:
  """Label and class probabilities of a face.

  Args:
    votes: 10 counts in the order of COLUMNS.
    mode: one of MODES, see `select_votes`.

  Returns:
    label: the selected column with most votes; the first in the order of COLUMNS among equal ones.
    probabilities: 8 numbers in the order of EMOTIONS that sum to 1, proportional to the selected
      votes. In mode "multi_target" the paper treats all classes above 0 as equally correct.
    A discarded face gives UNKNOWN or NOT_A_FACE, and ().

  Raises:
    ValueError: as in `select_votes`.
  """
  selected = select_votes(votes, mode)
  winner = selected.index(max(selected)) if any(selected) else COLUMNS.index("unknown")
  if winner >= len(EMOTIONS):
    return (UNKNOWN, NOT_A_FACE)[winner - len(EMOTIONS)], ()
  counts = selected[: len(EMOTIONS)]
  return EMOTIONS[winner], tuple(count / sum(counts) for count in counts)
