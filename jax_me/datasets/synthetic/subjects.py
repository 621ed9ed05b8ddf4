"""Appearance of the demo subjects: face shape, skin, hair and light, drawn from (seed, subject)."""

import dataclasses

import cv2
import numpy as np

from jax_me.datasets.synthetic import base_portrait, warping
from jax_me.datasets.synthetic.base_portrait import CANVAS, IOD, MIRROR, NAMES, POINTS

# Linear-light albedo relative to the portrait's skin, from pale to deep.
_SKIN_TONES = np.array(
  [
    [1.10, 1.12, 1.20],
    [1.00, 0.95, 0.90],
    [0.88, 0.80, 0.70],
    [0.70, 0.58, 0.46],
    [0.50, 0.37, 0.27],
    [0.33, 0.23, 0.17],
    [0.22, 0.15, 0.12],
  ]
)
# Mean linear-light colour of hair: black, dark brown, brown, auburn, dark blond, blond, grey and
# white.
_HAIR_COLOURS = np.array(
  [
    [0.012, 0.010, 0.010],
    [0.030, 0.019, 0.012],
    [0.075, 0.045, 0.026],
    [0.130, 0.045, 0.020],
    [0.170, 0.115, 0.060],
    [0.340, 0.250, 0.130],
    [0.220, 0.220, 0.220],
    [0.450, 0.440, 0.420],
  ]
)
_IRIS_TINTS = np.array([[1.0, 1.0, 1.0], [0.9, 1.6, 2.6], [1.0, 1.7, 1.2], [0.6, 0.6, 0.6]])


@dataclasses.dataclass(frozen=True)
class Identity:
  """A resting face on the canvas.

  texture: float32 [CANVAS, CANVAS, 3], the lit face in sRGB; 255 is white, highlights go beyond.
  points: [P, 2], positions of the control points, canvas pixels (rows as in base_portrait.NAMES).
  fields: float32 [GRID * GRID, P], splines of the points (warping.cardinal_fields).
  """

  texture: np.ndarray
  points: np.ndarray
  fields: np.ndarray


def _face_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """(u, v): right and down from between the eyes, in interocular distances."""
  centre = (points[36:42].mean(0) + points[42:48].mean(0)) / 2
  return ((points - centre) / IOD).T


def _bump(value: np.ndarray, low: float, high: float) -> np.ndarray:
  """Smooth step from 0 at `low` to 1 at `high`."""
  ramp = np.clip((value - low) / (high - low), 0, 1)
  return ramp * ramp * (3 - 2 * ramp)


def _rows(*names: str) -> np.ndarray:
  """Rows of the named points, both sides."""
  rows = np.array([NAMES[name] for name in names])
  return np.unique(np.concatenate([rows, MIRROR[rows]]))


def shape_displacement(rng: np.random.Generator) -> np.ndarray:
  """Draws a face shape: displacement [P, 2] of the portrait's points, canvas pixels.

  The resting mouth is moved towards closed and away from the portrait's smile, so that a smile in a
  clip is visible.
  """
  u, v = _face_axes(POINTS)
  move = np.zeros_like(POINTS)
  draw = lambda sigma: float(np.clip(rng.normal(0, sigma), -2 * sigma, 2 * sigma))  # noqa: E731

  head = _rows(*map(str, range(17)), "ear", "hair_side", "hair_low", "hair_upper")
  width = draw(0.06)
  move[:, 0] += 0.5 * width * u
  move[head, 0] += 0.5 * width * u[head]
  jaw = _rows(*map(str, range(2, 15)))
  move[jaw, 0] += draw(0.09) * u[jaw] * _bump(v[jaw], 0.3, 1.4)
  move[:, 1] += draw(0.06) * np.maximum(v, 0)  # Length of the whole lower face.
  chin = _rows(*map(str, range(4, 13)), "chin", "chin_crease", "jowl")
  move[chin, 1] += draw(0.08) * _bump(v[chin], 0.9, 1.7)
  upper = _rows("hairline", "fringe", "forehead_inner", "forehead_outer")
  move[upper, 1] -= draw(0.07)
  top = _rows("hair_top", "crown", "hair_upper")
  move[top, 1] += rng.uniform(-0.05, 0.22)
  sides = _rows("hair_side", "hair_low", "hair_upper")
  move[sides, 0] -= np.sign(u[sides]) * rng.uniform(-0.1, 0.32)

  brows = _rows(*map(str, range(17, 27)))
  move[brows, 1] += draw(0.035)
  move[brows, 1] += draw(0.05) * (np.abs(u[brows]) - 0.55)
  eyes = _rows(*map(str, range(36, 48)))
  spacing, size, tall, tilt = draw(0.035), draw(0.09), draw(0.16), draw(0.10)
  for rows in (range(36, 42), range(42, 48)):
    eye = np.array(rows)
    side = np.sign(u[eye].mean())
    centre_u, centre_v = u[eye].mean(), v[eye].mean()
    move[eye, 0] += side * spacing + size * (u[eye] - centre_u)
    move[eye, 1] += (size + tall) * (v[eye] - centre_v) - tilt * side * (u[eye] - centre_u)
  move[brows, 0] += np.sign(u[brows]) * spacing
  around = _rows("under_eye")
  move[around, 0] += np.sign(u[around]) * spacing
  move[np.concatenate([eyes, brows, around]), 1] += draw(0.03)

  nose = _rows(*map(str, range(31, 36)), "nose_wing")
  move[nose, 0] += draw(0.16) * u[nose]
  low_nose = _rows("29", "30", *map(str, range(31, 36)), "nose_wing")
  drop = draw(0.05)
  move[low_nose, 1] += drop
  mouth = _rows(*map(str, range(48, 68)))
  move[mouth, 1] += 0.7 * drop + draw(0.03)
  move[mouth, 0] += draw(0.09) * u[mouth]

  _relax_mouth(move, u, v, rng)

  # Other variation: a smooth random field, mostly symmetric.
  distance = ((POINTS[:, None] - POINTS[None]) ** 2).sum(-1)
  covariance = np.exp(-distance / (2 * (0.5 * IOD) ** 2)) + 1e-6 * np.eye(len(POINTS))
  wander = np.linalg.cholesky(covariance) @ rng.normal(0, 0.022, POINTS.shape)
  mirrored = wander[MIRROR] * [-1, 1]
  move += 0.75 * wander + 0.45 * mirrored
  return move * IOD


def _relax_mouth(move: np.ndarray, u: np.ndarray, v: np.ndarray, rng: np.random.Generator):
  """Removes part of the smile, closes the lips by a random amount, and sets their thickness."""
  unsmile = rng.uniform(0.8, 1.4)
  corners = _rows("48", "60")
  move[corners] += unsmile * np.stack([-0.10 * np.sign(u[corners]), 0.10 + 0 * u[corners]], 1)
  beside = _rows("49", "59")
  move[beside] += unsmile * np.stack([-0.06 * np.sign(u[beside]), 0.045 + 0 * u[beside]], 1)
  around = _rows("fold", "mouth_side", "cheek")
  move[around] += unsmile * np.stack([-0.03 * np.sign(u[around]), 0.05 + 0 * u[around]], 1)

  # The lips are open between 0 and 45 % of the portrait's opening.
  closed = 1 - max(0.03, rng.uniform(-0.35, 0.45))
  upper, lower = [61, 62, 63], [67, 66, 65]
  gap = v[lower] - v[upper]
  drop, rise = 0.45 * closed * gap, 0.55 * closed * gap
  move[upper, 1] += drop
  move[lower, 1] -= rise
  move[[50, 51, 52], 1] += 0.8 * drop
  move[[58, 57, 56], 1] -= 0.9 * rise
  move[[59, 55], 1] -= 0.5 * rise[1]
  move[[49, 53], 1] += 0.3 * drop[1]
  below = _rows("chin_crease")
  move[below, 1] -= 0.4 * rise[1]
  thick = np.clip(rng.normal(0, 0.03), -0.05, 0.06)
  move[[50, 51, 52], 1] -= 0.8 * thick
  move[[58, 57, 56], 1] += thick


def _polygon(points: np.ndarray, feather: float) -> np.ndarray:
  mask = np.zeros((CANVAS, CANVAS), np.float32)
  cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1.0, cv2.LINE_8, 4)
  return base_portrait.blurred(mask, feather)


def _stroke(points: np.ndarray, width: float, feather: float) -> np.ndarray:
  mask = np.zeros((CANVAS, CANVAS), np.float32)
  fixed = np.round(points * 16).astype(np.int32)
  cv2.polylines(mask, [fixed], False, 1.0, max(1, round(width)), cv2.LINE_8, 4)
  return base_portrait.blurred(mask, feather)


def _noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
  """Smooth random image [CANVAS, CANVAS] of mean 0 and standard deviation 1."""
  noise = base_portrait.blurred(rng.standard_normal((CANVAS, CANVAS), np.float32), sigma)
  return (noise - noise.mean()) / noise.std()


def _recoloured_portrait(rng: np.random.Generator) -> np.ndarray:
  """The portrait with random skin, hair, eyes, lips, clothes and backdrop (linear light)."""
  portrait = base_portrait.load_portrait()
  image = portrait.image.copy()
  skin, hair = portrait.skin, portrait.hair
  features = np.clip(
    _polygon(POINTS[36:42], 1.0) + _polygon(POINTS[42:48], 1.0) + _polygon(POINTS[60:68], 1.0), 0, 1
  )

  # The smile's folds and the skin texture of the portrait are faded before new detail is added.
  folds = np.zeros_like(skin)
  for rows in ([35, 53], [31, 49]):
    outer = NAMES["fold"] + (rows[0] == 35), NAMES["mouth_side"] + (rows[0] == 35)
    line = np.stack([POINTS[rows[0]], POINTS[outer[0]], POINTS[outer[1]]])
    folds = np.maximum(folds, _stroke(line, 14, 3.0))
  smooth = base_portrait.blurred(image, 7.0)
  keep = rng.uniform(0.35, 1.0)
  weight = (np.clip(folds, 0, 1) * (1 - keep) * (1 - features))[..., None]
  image += weight * (smooth - image)

  tone = rng.uniform(0, len(_SKIN_TONES) - 1)
  albedo = np.array(
    [np.interp(tone, np.arange(len(_SKIN_TONES)), _SKIN_TONES[:, c]) for c in range(3)]
  )
  albedo = albedo * np.exp(rng.normal(0, 0.05, 3))
  skin_here = (skin * (1 - 0.85 * features))[..., None]
  image *= 1 + skin_here * (albedo - 1)
  mottle = 1 + rng.uniform(0.01, 0.05) * _noise(rng, 9.0) + rng.uniform(0, 0.05) * _noise(rng, 1.5)
  image *= 1 + skin_here * (mottle[..., None] - 1)
  if rng.random() < 0.25:  # Freckles.
    spots = np.clip(_noise(rng, 1.1) - 1.6, 0, 1.5) * _bump(
      POINTS[57, 1] - np.arange(CANVAS)[:, None], 0, 60
    )
    image *= 1 - skin_here * 0.35 * spots[..., None] * np.array([0.6, 1.0, 1.1])
  if rng.random() < 0.35:  # Shadow of a beard.
    jaw = np.concatenate([POINTS[2:15], POINTS[[35, 33, 31]]])
    beard = _polygon(jaw, 6.0) * (1 - _polygon(POINTS[48:60], 2.0)) * (1 + 0.1 * _noise(rng, 0.7))
    image *= 1 - np.clip(rng.uniform(0.15, 0.5) * beard * skin, 0, 0.8)[..., None]

  kind = rng.choice(len(_HAIR_COLOURS), p=[0.22, 0.2, 0.18, 0.08, 0.1, 0.09, 0.08, 0.05])
  colour = _HAIR_COLOURS[kind] * np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.05, 3))
  strands = image @ np.array([0.25, 0.6, 0.15], np.float32)
  strands = strands / (strands * hair).sum() * hair.sum()
  strands = strands ** rng.uniform(0.6, 1.1)
  strands = 0.7 * strands + 0.3 * base_portrait.blurred(strands, 3.0)
  image += hair[..., None] * (strands[..., None] * colour - image)

  brow_width, brow_dark = rng.uniform(2, 7), rng.uniform(0.15, 0.75)
  brows = _stroke(POINTS[17:22], brow_width, 1.4) + _stroke(POINTS[22:27], brow_width, 1.4)
  brows = np.clip(brows * (1 + 0.25 * _noise(rng, 0.8)), 0, 1)[..., None] * brow_dark
  image += brows * (np.minimum(colour, 0.3 * albedo * [0.5, 0.35, 0.25]) - image)

  lips = np.clip(_polygon(POINTS[48:60], 1.2) - _polygon(POINTS[60:68], 0.8), 0, 1)[..., None]
  lip_tint = np.array([1.0, 1.0, 1.0]) - rng.uniform(-0.05, 0.5) * np.array([0.25, 1.0, 0.8])
  image *= 1 + lips * (lip_tint - 1)
  teeth = _polygon(POINTS[60:68], 1.0)[..., None]
  image *= 1 - teeth * rng.uniform(0.25, 0.7)
  tint = _IRIS_TINTS[rng.choice(len(_IRIS_TINTS), p=[0.55, 0.15, 0.12, 0.18])]
  for eye in (POINTS[36:42], POINTS[42:48]):
    iris = np.zeros((CANVAS, CANVAS), np.float32)
    middle = np.round(eye[[1, 2, 4, 5]].mean(0) * 16).astype(int)
    cv2.circle(iris, (int(middle[0]), int(middle[1])), 5 * 16, 1.0, -1, cv2.LINE_8, 4)
    image *= 1 + base_portrait.blurred(iris, 1.0)[..., None] * (tint - 1)

  cloth = np.exp(rng.normal(-0.2, 0.4) + rng.normal(0, 0.15, 3))
  image *= 1 + portrait.clothes[..., None] * (cloth - 1)
  wall = rng.uniform(0.05, 0.55) * np.exp(rng.normal(0, 0.12, 3))
  slope = np.exp(rng.normal(0, 0.35) * np.linspace(-1, 1, CANVAS))
  pattern = (1 + 0.1 * _noise(rng, 25.0))[..., None] * wall * slope[None, :, None]
  image += portrait.backdrop[..., None] * (pattern - image)
  return np.clip(image, 0, None).astype(np.float32)


def _light(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Gain [CANVAS, CANVAS, 3] of a soft lamp beside the camera on a head-shaped ellipsoid."""
  centre = (points[36:48].mean(0) + points[33]) / 2
  offset = (base_portrait.pixel_centres(CANVAS) - centre) / (IOD * np.array([1.7, 2.1]))
  normal = offset / np.sqrt(1 + (offset**2).sum(-1, keepdims=True))
  angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.75)
  side = normal @ np.array([np.cos(angle), 0.7 * np.sin(angle)])
  warmth = np.array([1, 0, -1]) * rng.normal(0, 0.04)
  gain = np.exp(strength * side)[..., None] * np.exp(warmth + rng.normal(-0.15, 0.12))
  return gain.astype(np.float32)


def fitted_shape(
  shape: np.ndarray, least_jacobian: float = 0.1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Fits splines to a face shape, shrinking it towards the portrait until its warp does not fold.

  Args:
    shape: [P, 2] wanted displacement of the portrait's points, canvas pixels.
    least_jacobian: minimal determinant of the warp back to the portrait.

  Returns:
    Points [P, 2]; their splines (warping.cardinal_fields); the backward field [GRID, GRID, 2], to
    add to a canvas position to get the portrait position.
  """
  border = warping.frame_border()
  while True:
    points = POINTS + shape
    fields = warping.cardinal_fields(points, border)
    # The splines are centred on the new points, so this is the exact backward warp.
    back = (fields @ (-shape).astype(np.float32)).reshape(warping.GRID, warping.GRID, 2)
    if warping.jacobian(back).min() >= least_jacobian:
      return points, fields, back
    shape = 0.85 * shape


def draw_identity(rng: np.random.Generator) -> Identity:
  """Draws one person: a resting face that depends only on the generator."""
  image, mirrored = _recoloured_portrait(rng), rng.random() < 0.5
  points, fields, back = fitted_shape(shape_displacement(rng))
  dense = cv2.resize(back, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)
  at = dense + base_portrait.pixel_centres(CANVAS)
  texture = warping.sampled(image, at, cv2.INTER_CUBIC)
  texture = np.clip(texture, 0, 1)
  if mirrored:
    texture = np.ascontiguousarray(texture[:, ::-1])
    points = points[MIRROR] * [-1, 1] + [CANVAS - 1, 0]
    grid = fields.reshape(warping.GRID, warping.GRID, -1)
    fields = np.ascontiguousarray(grid[:, ::-1][..., MIRROR]).reshape(fields.shape)
  return Identity(base_portrait.to_srgb(texture * _light(points, rng)), points, fields)
