"""Action units of the Facial Action Coding System as motion of the demo control points.

Each unit is a table of displacements of the image-left points at full strength, in units of the
unit's own peak (so every table's largest entry is about 1), negative x being towards the left
of the image and y down; the image-right side is mirrored. The directions follow the muscle actions
in Ekman, Friesen & Hager, "Facial Action Coding System" (2002).
"""

import numpy as np

from jax_me.datasets.synthetic.base_portrait import MIRROR, NAMES, POINTS

_UNITS: dict[str, dict[str, tuple[float, float]]] = {
  # Inner brow raiser (frontalis, medial part).
  "AU1": {"21": (0.05, -1), "20": (0, -0.8), "19": (0, -0.35), "forehead_inner": (0, -0.6),
          "glabella": (0, -0.5), "27": (0, -0.12), "38": (0, -0.15)},
  # Outer brow raiser (frontalis, lateral part).
  "AU2": {"17": (0, -0.8), "18": (0, -1), "19": (0, -0.9), "20": (0, -0.4),
          "forehead_outer": (0, -0.6), "37": (0, -0.15), "38": (0, -0.08)},
  # Brow lowerer (corrugator, depressor supercilii): down and together.
  "AU4": {"21": (0.55, 0.85), "20": (0.45, 0.85), "19": (0.25, 0.6), "18": (0.1, 0.35),
          "17": (0, 0.15), "forehead_inner": (0.25, 0.45), "forehead_outer": (0.05, 0.2),
          "glabella": (0, 0.55), "27": (0, 0.2), "37": (0, 0.12), "38": (0, 0.2)},
  # Upper lid raiser.
  "AU5": {"37": (0, -1), "38": (0, -1), "41": (0, 0.15), "40": (0, 0.15)},
  # Cheek raiser (orbicularis oculi, orbital part).
  "AU6": {"cheek": (0.1, -1), "under_eye": (0.05, -0.85), "40": (0, -0.35), "41": (0, -0.4),
          "36": (0.15, -0.1), "17": (0.05, 0.1), "fold": (0, -0.4), "nose_side": (0, -0.2)},
  # Lid tightener: the slit narrows. It is short itself, so the lids move less than other points.
  "AU7": {"37": (0, 0.5), "38": (0, 0.5), "40": (0, -0.65), "41": (0, -0.65),
          "under_eye": (0, -0.35)},
  # Nose wrinkler (levator labii superioris alaeque nasi).
  "AU9": {"nose_side": (0.15, -0.85), "nose_wing": (0.1, -1), "31": (-0.1, -0.8), "32": (0, -0.6),
          "33": (0, -0.45), "30": (0, -0.35), "under_eye": (0.1, -0.35), "fold": (0.05, -0.7),
          "21": (0.25, 0.5), "20": (0.15, 0.35), "glabella": (0, 0.35), "50": (0, -0.7),
          "61": (0, -0.55), "49": (0, -0.45), "51": (0, -0.4), "40": (0, -0.15)},
  # Upper lip raiser.
  "AU10": {"50": (0, -1), "49": (0, -0.7), "51": (0, -0.75), "61": (0, -0.85), "62": (0, -0.65),
           "fold": (0, -0.7), "nose_wing": (0, -0.4), "31": (-0.05, -0.3), "48": (0, -0.15)},
  # Lip corner puller (zygomaticus major): up and out.
  "AU12": {"48": (-0.8, -0.75), "60": (-0.75, -0.65), "49": (-0.45, -0.45), "59": (-0.5, -0.3),
           "50": (-0.15, -0.1), "58": (-0.2, -0.05), "mouth_side": (-0.45, -0.55),
           "fold": (-0.4, -0.5), "cheek": (-0.15, -0.45), "jowl": (-0.25, -0.25),
           "61": (-0.15, -0.05), "67": (-0.2, -0.05)},
  # Dimpler (buccinator): corners back.
  "AU14": {"48": (-0.9, 0.1), "60": (-0.8, 0.08), "49": (-0.35, 0.1), "59": (-0.35, -0.1),
           "mouth_side": (-0.3, 0)},
  # Lip corner depressor (depressor anguli oris).
  "AU15": {"48": (-0.15, 1), "60": (-0.1, 0.9), "59": (-0.05, 0.6), "49": (-0.05, 0.5),
           "mouth_side": (-0.1, 0.7), "jowl": (0, 0.35), "58": (0, 0.2), "fold": (0, 0.2)},
  # Chin raiser (mentalis): pushes the lower lip up.
  "AU17": {"chin": (0, -1), "chin_crease": (0, -0.9), "57": (0, -0.75), "58": (0, -0.65),
           "59": (0, -0.25), "66": (0, -0.5), "67": (0, -0.45), "8": (0, -0.3)},
  # Lip stretcher (risorius): corners outwards.
  "AU20": {"48": (-1, 0.2), "60": (-0.95, 0.18), "49": (-0.5, 0.1), "59": (-0.55, 0.15),
           "mouth_side": (-0.6, 0.15), "jowl": (-0.3, 0.1), "50": (-0.2, 0), "58": (-0.2, 0.05)},
  # Lips part.
  "AU25": {"66": (0, 1), "67": (0, 0.85), "57": (0, 0.9), "58": (0, 0.8), "59": (0, 0.35),
           "62": (0, -0.25), "61": (0, -0.2), "51": (0, -0.2), "50": (0, -0.2),
           "chin_crease": (0, 0.4)},
  # Jaw drop.
  "AU26": {"8": (0, 1), "7": (0, 0.98), "6": (0, 0.85), "5": (0, 0.6), "4": (0, 0.3),
           "3": (0, 0.1), "chin": (0, 1), "chin_crease": (0, 1), "57": (0, 1), "58": (0, 0.95),
           "59": (0, 0.6), "66": (0, 0.95), "67": (0, 0.85), "60": (0.1, 0.3), "48": (0.1, 0.35),
           "jowl": (0, 0.5), "mouth_side": (0.05, 0.2), "neck": (0, 0.2)},
}  # fmt: skip

# Furrows of a unit, as polylines through control points (image left; the right is mirrored).
_FURROWS: dict[str, list[list[tuple[str, float, float]]]] = {
  "AU1": [[("20", 0, -0.17), ("21", 0, -0.18), ("glabella", 0, -0.20)]],
  "AU2": [[("18", 0, -0.13), ("19", 0, -0.17), ("20", 0, -0.17)]],
  "AU4": [[("21", 0.13, -0.10), ("21", 0.14, 0.12)]],
  "AU6": [[("36", -0.06, 0.03), ("36", -0.20, 0.10)], [("36", -0.05, -0.03), ("36", -0.2, -0.04)],
          [("41", -0.05, 0.12), ("40", 0, 0.13)]],
  "AU7": [[("41", 0, 0.07), ("40", 0, 0.07)]],
  "AU9": [[("28", -0.12, -0.08), ("28", -0.05, 0.06)], [("28", -0.14, 0.06), ("28", -0.06, 0.18)],
          [("31", -0.12, -0.12), ("fold", 0, -0.06)]],
  "AU10": [[("31", -0.12, -0.08), ("fold", 0.0, -0.05)]],
  "AU12": [[("31", -0.13, 0.0), ("fold", 0.02, 0.02), ("mouth_side", 0.03, -0.08)]],
  "AU14": [[("48", -0.09, -0.05), ("48", -0.09, 0.06)]],
  "AU15": [[("48", -0.06, 0.03), ("48", -0.13, 0.19)]],
  "AU17": [[("58", -0.04, 0.10), ("chin_crease", 0, 0.0)]],
  "AU20": [[("48", -0.14, -0.1), ("48", -0.14, 0.12)]],
}  # fmt: skip

NAMES_OF_UNITS = tuple(_UNITS)


def _both_sides() -> np.ndarray:
  """[units, 2 sides, P, 2]: displacements by each side's half of a unit."""
  tables = np.zeros((len(_UNITS), 2, len(POINTS), 2))
  for row, table in enumerate(_UNITS.values()):
    for name, (x, y) in table.items():
      point = NAMES[name]
      if MIRROR[point] == point:  # On the midline each side contributes half.
        tables[row, :, point] += [[x / 2, y / 2], [-x / 2, y / 2]]
      else:
        tables[row, 0, point] = x, y
        tables[row, 1, MIRROR[point]] = -x, y
  return tables


_TABLES = _both_sides()


def displacement(units: dict[str, tuple[float, float]]) -> np.ndarray:
  """Motion of the control points under a mix of action units.

  Args:
    units: name -> (image-left, image-right) strength; 1 moves the unit's leading point by 1.

  Returns:
    float64 [P, 2], in the unit of the strengths (demo clips use interocular distances).

  Raises:
    KeyError: an unknown unit.
  """
  moved = np.zeros_like(POINTS)
  for name, (left, right) in units.items():
    table = _TABLES[NAMES_OF_UNITS.index(name)] if name in _UNITS else None
    if table is None:
      raise KeyError(f"unknown action unit {name!r}; known: {', '.join(_UNITS)}")
    moved += left * table[0] + right * table[1]
  return moved


# Change of (valence, arousal) by a unit at its highest strength. The signs follow the expressions
# that the units belong to and their places in the circumplex of Russell (1980): joy pleasant, fear
# and anger unpleasant and excited, sadness unpleasant and calm, surprise excited. The sizes are
# ours: the values are known exactly, and are not those that people would annotate.
_AFFECT: dict[str, tuple[float, float]] = {
  "AU1": (0.0, 0.4), "AU2": (0.1, 0.5), "AU4": (-0.6, 0.2), "AU5": (0.0, 0.5), "AU6": (0.4, 0.1),
  "AU7": (-0.1, 0.2), "AU9": (-0.6, 0.1), "AU10": (-0.4, 0.1), "AU12": (0.8, 0.1),
  "AU14": (-0.2, -0.1), "AU15": (-0.7, -0.5), "AU17": (-0.2, -0.2), "AU20": (-0.5, 0.4),
  "AU25": (0.0, 0.2), "AU26": (0.0, 0.5),
}  # fmt: skip


def affect_of_units(units: dict[str, tuple[float, float]], scale: float) -> tuple[float, float]:
  """Valence and arousal that the demo defines for a mix of action units.

  Args:
    units: name -> (image-left, image-right) strength.
    scale: factor of the strengths; a unit of strength 1 / scale changes both by all of its entry.

  Returns:
    hyperbolic tangents of the sums over the units, in (-1, 1); (0, 0) for the resting face.
  """
  sums = np.zeros(2)
  for name, sides in units.items():
    sums += scale * np.mean(sides) * np.array(_AFFECT[name])
  valence, arousal = np.tanh(sums).round(6)
  return float(valence), float(arousal)


def furrows(name: str, points: np.ndarray, scale: float) -> list[tuple[int, np.ndarray]]:
  """Returns the furrows of a unit on a face.

  Args:
    name: the unit; some have no furrows.
    points: [P, 2] control points of the resting face.
    scale: its interocular distance, pixels.

  Returns:
    (side, polyline [N, 2] in pixels) for each furrow; side 0 is image left, 1 image right.
  """
  found = []
  for line in _FURROWS.get(name, []):
    rows = np.array([NAMES[anchor] for anchor, _, _ in line])
    offset = np.array([[x, y] for _, x, y in line]) * scale
    found.append((0, points[rows] + offset))
    found.append((1, points[MIRROR[rows]] + offset * [-1, 1]))
  return found


# The three classes of the MEGC protocol. Each has several prototypes: required units (with
# probability 1) and optional ones, with ranges of relative strength.
LABELS = ("negative", "positive", "surprise")

_Unit = tuple[str, float, float, float]  # name, probability, lowest and highest relative strength
_PROTOTYPES: dict[str, list[list[_Unit]]] = {
  "negative": [
    [("AU4", 1, 0.8, 1.1), ("AU7", 0.6, 0.3, 0.8), ("AU17", 0.2, 0.3, 0.6)],
    [("AU9", 1, 0.8, 1.1), ("AU4", 0.5, 0.3, 0.7), ("AU10", 0.4, 0.3, 0.7)],
    [("AU15", 1, 0.8, 1.1), ("AU4", 0.6, 0.4, 0.8), ("AU17", 0.5, 0.3, 0.8)],
    [("AU10", 1, 0.8, 1.0), ("AU4", 0.7, 0.4, 0.8), ("AU7", 0.3, 0.3, 0.6)],
    [("AU20", 1, 0.7, 1.0), ("AU4", 0.8, 0.5, 0.9), ("AU1", 0.6, 0.3, 0.8)],
    [("AU15", 1, 0.7, 1.0), ("AU1", 0.9, 0.5, 0.9), ("AU4", 0.6, 0.4, 0.7)],
    [("AU4", 1, 0.7, 1.0), ("AU14", 0.8, 0.5, 0.9), ("AU15", 0.4, 0.3, 0.6)],
  ],
  "positive": [
    [("AU12", 1, 0.8, 1.1), ("AU6", 0.4, 0.3, 0.7)],
    [("AU12", 1, 0.7, 1.0), ("AU6", 1, 0.5, 1.0), ("AU7", 0.2, 0.2, 0.4)],
    [("AU12", 1, 0.8, 1.0), ("AU25", 0.7, 0.2, 0.5), ("AU6", 0.4, 0.3, 0.6)],
    [("AU12", 1, 0.7, 1.0), ("AU14", 0.6, 0.2, 0.5), ("AU6", 0.3, 0.3, 0.6)],
    [("AU12", 1, 0.7, 1.0), ("AU1", 0.7, 0.3, 0.6), ("AU2", 0.7, 0.3, 0.6), ("AU25", 0.5, 0.2, 0.4),
     ("AU6", 0.3, 0.3, 0.6)],
    [("AU6", 1, 0.6, 1.0), ("AU12", 1, 0.4, 0.8), ("AU10", 0.5, 0.2, 0.5), ("AU7", 0.4, 0.3, 0.6)],
  ],
  "surprise": [
    [("AU1", 1, 0.7, 1.1), ("AU2", 1, 0.7, 1.1), ("AU5", 0.4, 0.2, 0.5)],
    [("AU1", 1, 0.5, 0.9), ("AU2", 1, 0.6, 1.0), ("AU5", 0.8, 0.3, 0.6), ("AU25", 0.3, 0.3, 0.6)],
    [("AU1", 1, 0.5, 0.9), ("AU2", 1, 0.5, 0.9), ("AU26", 0.8, 0.4, 0.9), ("AU5", 0.5, 0.2, 0.5)],
    [("AU2", 1, 0.8, 1.1), ("AU1", 0.5, 0.2, 0.5), ("AU5", 0.5, 0.2, 0.5)],
    [("AU26", 1, 0.7, 1.0), ("AU5", 1, 0.4, 0.7), ("AU1", 0.6, 0.2, 0.6), ("AU2", 0.6, 0.2, 0.6)],
    [("AU1", 1, 0.6, 0.9), ("AU2", 1, 0.6, 0.9), ("AU20", 0.6, 0.2, 0.5), ("AU4", 0.4, 0.2, 0.4)],
  ],
}  # fmt: skip


def draw_expression(
  label: str, intensity: float, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
  """Draws the action units of one expression.

  Args:
    label: one of LABELS.
    intensity: strength of the mix; every unit's strength is a drawn fraction of it.
    rng: random generator.

  Returns:
    Name -> (image-left, image-right) strength, slightly asymmetric.
  """
  choices = _PROTOTYPES[label]
  units = {}
  for name, probability, low, high in choices[rng.integers(len(choices))]:
    if rng.random() < probability:
      strength = intensity * rng.uniform(low, high)
      skew = float(np.clip(rng.normal(0, 0.15), -0.4, 0.4))
      units[name] = (strength * (1 + skew), strength * (1 - skew))
  return units
