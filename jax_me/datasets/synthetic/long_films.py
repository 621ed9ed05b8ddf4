"""Scripts of long films: expressions of 0.2 s to a minute, moving and covered heads, calm faces."""

import numpy as np

from jax_me.datasets.synthetic import action_units, camera_motion
from jax_me.datasets.synthetic.clip_rendering import (
  FPS,
  INTENSITY,
  LABELS,
  TAGS,
  DemoSubject,
  Event,
  Movement,
  draw_distractors,
  generator,
  subject_of,
)
from jax_me.datasets.synthetic.moving_heads import HAND_FRAMES, HandCover, HeadMove, MovingHeadFilm

# Intensities of expressions that last longer than half a second, in interocular distances.
MACRO_INTENSITY = (0.05, 0.14)
INCIDENTS = ("turn", "nod", "lean", "duck", "hand", "talk")
# Mean number per second of blinks, and of small action units that belong to no expression.
DISTRACTORS = 0.15
# Syllables per second, and opening of the jaw in interocular distances.
SYLLABLES = (3.0, 5.5)
JAW = (0.03, 0.12)


def expression_film(
  seed: int, subject: int | DemoSubject, seconds: float, durations: tuple[float, float]
) -> MovingHeadFilm:
  """A film with expressions between neutral intervals of 1.5 to 4 s.

  Args:
    seed: seed of the films.
    subject: the subject, or its number.
    seconds: length of the film.
    durations: shortest and longest expression in seconds; their logarithms are uniform.

  Returns:
    The film. Nothing is rendered until `frame` is called.
  """
  person = subject_of(seed, subject)
  rng = generator(seed, person.subject, "film", 0, round(100 * durations[1]))
  length = round(seconds * FPS)
  events, movements = [], []
  onset = round(rng.uniform(1.5, 3) * FPS)
  while True:
    duration = round(float(np.exp(rng.uniform(*np.log(durations)))) * FPS)
    if onset + duration + FPS // 2 > length:
      break
    event, movement = _expression(rng, onset, duration)
    events.append(event)
    movements.append(movement)
    onset = event.offset + round(rng.uniform(1.5, 4) * FPS)
  movements += draw_distractors(rng, length, DISTRACTORS * seconds, float(np.mean(INTENSITY)))
  return _film(rng, person, length, events, movements)


def moving_film(seed: int, subject: int | DemoSubject, seconds: float) -> MovingHeadFilm:
  """A film in which something happens every few seconds, with and without an expression.

  The head turns or nods, leans in, ducks out of the image, is covered by a hand, or the person
  talks (INCIDENTS). Half of the incidents happen during an expression, and between incidents there
  are expressions of a head that keeps still.

  Args:
    seed: seed of the films.
    subject: the subject, or its number.
    seconds: length of the film.

  Returns:
    The film. Nothing is rendered until `frame` is called.
  """
  person = subject_of(seed, subject)
  rng = generator(seed, person.subject, "film", 1)
  length = round(seconds * FPS)
  events, movements, moves, hands = [], [], [], []
  now = round(rng.uniform(1.5, 2.5) * FPS)
  order: list[str] = []
  while True:
    order = order or [str(name) for name in rng.permutation(INCIDENTS)]
    name = order.pop()
    duration = round(rng.uniform(0.3, 2.0) * FPS) + (FPS if name == "talk" else 0)
    before, after = (round(rng.uniform(0.6, 1.3) * FPS) for _ in range(2))
    end = now + before + duration + 2 * HAND_FRAMES + after
    if end + FPS > length:
      break
    start = now + before
    if rng.random() < 0.5:
      event, movement = _expression(rng, now, end - now)
      events.append(event)
      movements.append(movement)
    if name == "talk":
      movements += _speech(rng, start, start + duration)
    elif name == "hand":
      first = start + HAND_FRAMES
      side = int(rng.choice([-1, 1]))
      hands.append(HandCover(first, first + duration, side, float(rng.uniform(-0.2, 0.2))))
    else:
      moves.append(_head_move(rng, name, start, duration))
    now = end + round(rng.uniform(1.2, 2.0) * FPS)
    if rng.random() < 0.4:
      duration = round(rng.uniform(0.6, 2.5) * FPS)
      if now + duration + FPS > length:
        break
      event, movement = _expression(rng, now, duration)
      events.append(event)
      movements.append(movement)
      now = event.offset + round(rng.uniform(1.2, 2.0) * FPS)
  movements += draw_distractors(rng, length, DISTRACTORS * seconds, 0.0)
  return _film(rng, person, length, events, movements, tuple(moves), tuple(hands))


def calm_film(seed: int, subject: int | DemoSubject, seconds: float) -> MovingHeadFilm:
  """A film without expressions: blinks, and a head that looks around by up to 10 degrees.

  Args:
    seed: seed of the films.
    subject: the subject, or its number.
    seconds: length of the film.

  Returns:
    The film. Nothing is rendered until `frame` is called.
  """
  person = subject_of(seed, subject)
  rng = generator(seed, person.subject, "film", 2)
  length, now = round(seconds * FPS), 3 * FPS
  moves = []
  while now < length:
    duration = round(rng.uniform(0.8, 3.0) * FPS)
    yaw, pitch = rng.uniform(-10, 10), rng.uniform(-5, 5)
    moves.append(HeadMove(now, now + duration, 40, float(yaw), float(pitch)))
    now += duration + round(rng.uniform(2, 6) * FPS)
  movements = draw_distractors(rng, length, DISTRACTORS * seconds, 0.0)
  return _film(rng, person, length, [], movements, tuple(moves))


def _film(
  rng: np.random.Generator,
  person: DemoSubject,
  length: int,
  events: list[Event],
  movements: list[Movement],
  moves: tuple[HeadMove, ...] = (),
  hands: tuple[HandCover, ...] = (),
) -> MovingHeadFilm:
  key = (person.seed, person.subject, TAGS["film_noise"], length)
  camera = camera_motion.Camera.draw(rng, key)
  return MovingHeadFilm(
    f"{person.name}_film", person, length, tuple(events), tuple(movements), camera,
    head_moves=moves, hands=hands,
  )  # fmt: skip


def _expression(rng: np.random.Generator, onset: int, duration: int) -> tuple[Event, Movement]:
  """An expression that rises, is held and falls."""
  label = LABELS[rng.integers(len(LABELS))]
  short = duration <= FPS // 2
  intensity = float(rng.uniform(*(INTENSITY if short else MACRO_INTENSITY)))
  units = action_units.draw_expression(label, intensity, rng)
  rise = min(round(rng.uniform(0.2, 0.5) * FPS), round(0.45 * duration))
  fall = min(round(rng.uniform(0.3, 0.7) * FPS), round(0.45 * duration))
  hold = duration - rise - fall
  event = Event(onset, onset + rise, onset + duration, label, intensity)
  return event, Movement(onset, onset + rise, onset + duration, units, hold=hold)


def _head_move(rng: np.random.Generator, name: str, start: int, duration: int) -> HeadMove:
  ramp = round(rng.uniform(0.25, 0.5) * FPS)
  end = start + duration + 2 * HAND_FRAMES
  ramp = min(ramp, (end - start) // 2)
  sign = int(rng.choice([-1, 1]))
  if name == "turn":
    yaw, pitch = sign * rng.uniform(20, 45), rng.uniform(-8, 8)
    return HeadMove(start, end, ramp, yaw=float(yaw), pitch=float(pitch))
  if name == "nod":
    pitch = rng.uniform(-25, -12) if sign < 0 else rng.uniform(10, 18)
    return HeadMove(start, end, ramp, pitch=float(pitch))
  if name == "lean":
    shift = (float(rng.uniform(-30, 30)), float(rng.uniform(-10, 20)))
    return HeadMove(start, end, ramp, shift=shift, scale=float(rng.uniform(1.2, 1.4)))
  return HeadMove(start, end, ramp, shift=(float(rng.uniform(-40, 40)), 260.0))


def _speech(rng: np.random.Generator, start: int, end: int) -> list[Movement]:
  """Syllables: the jaw drops and the lips part."""
  movements: list[Movement] = []
  now = start
  while True:
    duration = round(FPS / rng.uniform(*SYLLABLES))
    if now + duration > end:
      return movements
    jaw, lips = rng.uniform(*JAW), rng.uniform(0.2, 0.6)
    units = {"AU26": (jaw, jaw), "AU25": (lips * jaw, lips * jaw)}
    movements.append(Movement(now, now + duration // 2, now + duration, units))
    now += round(duration * rng.uniform(0.8, 1.2))
