"""FER+: from ten people's votes on a face to its expressions (Barsoum et al., arXiv:1608.01041).

Votes are counts in the order of COLUMNS. All comparisons are made in whole numbers.
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
# In mode "probability"; faces with more are discarded.
MOST_EMOTIONS = 3

# Names for what the rule discards, where they are reported.
UNKNOWN, NOT_A_FACE = "unknown", "non face"


def chosen_votes(votes: Sequence[int], mode: str) -> tuple[int, ...]:
  """The votes that count by the rule of a mode; a single vote for anything never does.

  Args:
    votes: 10 counts in the order of COLUMNS.
    mode: "majority" keeps the most voted column if it has more than half of the votes.
      "probability" takes the columns from the most voted down, equal ones together, until they
      hold three quarters of the votes or are three; it ends at unknown and NF, which only count
      where they come first. What is then half of the votes or less, or more than three columns,
      is discarded. "multi_target" keeps the columns with at least 30 % of the votes, and
      discards what is then half or less.

  Returns:
    10 counts, those of the columns not chosen being 0; all 0 where the rule discards the face.

  Raises:
    ValueError: not 10 counts of 0 or more, or no such mode.
  """
  if len(votes) != len(COLUMNS) or min(votes) < 0:
    raise ValueError(f"FER+ has {len(COLUMNS)} counts of votes, each 0 or more: {list(votes)}")
  votes = [count if count > 1 else 0 for count in votes]
  total = sum(votes)
  if mode == "majority":
    most = max(votes)
    winner = votes.index(most)
    chosen = [most if column == winner else 0 for column in range(len(votes))]
  elif mode == "probability":
    chosen = _most_voted(votes)
  elif mode == "multi_target":
    chosen = [count if 10 * count >= 3 * total else 0 for count in votes]
  else:
    raise ValueError(f"mode of FER+ must be one of {', '.join(MODES)}: {mode!r}")
  kept = 2 * sum(chosen) > total and sum(map(bool, chosen)) <= MOST_EMOTIONS
  return tuple(chosen) if kept else (0,) * len(votes)


def _most_voted(votes: Sequence[int]) -> list[int]:
  left, chosen = list(votes), [0] * len(votes)
  while 4 * (sum(votes) - sum(left)) < 3 * sum(votes) and sum(map(bool, chosen)) < MOST_EMOTIONS:
    most = max(left)
    for column in [column for column, count in enumerate(left) if count == most]:
      left[column] = 0
      is_emotion = column < len(EMOTIONS)
      if is_emotion or not any(chosen):
        chosen[column] = most
      if not is_emotion:
        return chosen
  return chosen


def decide(votes: Sequence[int], mode: str) -> tuple[str, tuple[float, ...]]:
  """The expression of a face and the probabilities of all eight.

  Args:
    votes, mode: as in `chosen_votes`.

  Returns:
    (name, probabilities): the name with most of the chosen votes, the first of equal ones in the
    order of COLUMNS, and 8 numbers in the order of EMOTIONS that sum to 1: the chosen votes of
    these. In mode "multi_target" those above 0 are the targets, which the paper takes as equally
    right. UNKNOWN or NOT_A_FACE with () where the face is discarded.

  Raises:
    ValueError: as in `chosen_votes`.
  """
  chosen = chosen_votes(votes, mode)
  winner = chosen.index(max(chosen)) if any(chosen) else COLUMNS.index("unknown")
  if winner >= len(EMOTIONS):
    return (UNKNOWN, NOT_A_FACE)[winner - len(EMOTIONS)], ()
  counted = chosen[: len(EMOTIONS)]
  return EMOTIONS[winner], tuple(count / sum(counted) for count in counted)
