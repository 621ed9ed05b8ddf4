"""Synthetic faces and clips: reproducible, warps without folds, correct labels without leaks."""

import collections
import dataclasses
import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from jax_me.data.clip_inputs import optical_flow
from jax_me.datasets.synthetic import action_units, base_portrait, clip_rendering, subjects, warping
from jax_me.datasets.synthetic.clip_rendering import DemoSubject, Movement, demo_clip, demo_video
from jax_me.faces.detector import find_faces

SUBJECTS = 4


@pytest.fixture(scope="module")
def persons():
  return [DemoSubject(0, subject) for subject in range(SUBJECTS)]


@pytest.fixture(scope="module")
def clips(persons):
  return [demo_clip(0, person, index) for person in persons for index in range(6)]


def only(clip, **movement):
  """The clip with one movement and a still camera."""
  camera = dataclasses.replace(clip.camera, waves=np.zeros_like(clip.camera.waves))
  movements = (Movement(0, 10, 20, **movement),) if movement else ()
  return dataclasses.replace(clip, movements=movements, camera=camera)


def digest(array):
  return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def test_frames_do_not_depend_on_order_or_process(persons):
  clip = demo_clip(0, persons[1], 2)
  frame = clip.frame(clip.apex)
  assert frame.dtype == np.uint8
  assert frame.shape == (base_portrait.FRAME, base_portrait.FRAME, 3)
  clip.frame(0)
  again = demo_clip(0, 1, 2)
  np.testing.assert_array_equal(again.frame(clip.apex), frame)
  program = (
    "import hashlib, numpy as np; from jax_me.datasets.synthetic.clip_rendering import demo_clip;"
    f"print(hashlib.sha256(demo_clip(0, 1, 2).frame({clip.apex})).hexdigest())"
  )
  # Nor on the number of threads that BLAS uses.
  found = subprocess.run(
    [sys.executable, "-c", program],
    env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    capture_output=True,
    text=True,
    check=True,
  )
  assert found.stdout.strip() == digest(frame)


def test_people_clips_and_seeds_differ(persons):
  frames = [demo_clip(0, person, 0).frame(0) for person in persons]
  frames += [demo_clip(0, persons[0], 1).frame(0), demo_clip(1, 0, 0).frame(0)]
  assert len({digest(frame) for frame in frames}) == len(frames)
  shapes = np.stack([person.identity.points[:68] / person.iod for person in persons])
  apart = np.abs(shapes[:, None] - shapes[None]).mean((2, 3))[np.triu_indices(SUBJECTS, 1)]
  assert apart.min() > 0.02  # Interocular distances: other faces, not only other colours.


def test_identity_warps_never_fold():
  rng = np.random.default_rng(0)
  for _ in range(12):
    _, _, back = subjects.fitted_shape(subjects.shape_displacement(rng))
    assert warping.jacobian(back).min() >= 0.1


def test_shape_that_would_fold_is_shrunk():
  shape = 6 * subjects.shape_displacement(np.random.default_rng(0))
  _, _, wild = subjects.fitted_shape(shape, least_jacobian=-np.inf)
  assert warping.jacobian(wild).min() < 0
  points, _, shrunk = subjects.fitted_shape(shape)
  assert warping.jacobian(shrunk).min() >= 0.1
  assert 0 < np.abs(points - base_portrait.POINTS).max() < np.abs(shape).max()


@pytest.mark.parametrize("unit", action_units.NAMES_OF_UNITS)
def test_strongest_units_never_fold(persons, unit):
  strength = 1.1 * clip_rendering.INTENSITY[1]
  for person in persons[:2]:
    moved = person.iod * action_units.displacement({unit: (1.4 * strength, 0.6 * strength)})
    assert warping.jacobian(person.field(person.keep_apart(moved))).min() > 0.1


def test_movements_at_an_apex_never_fold(persons, clips):
  for clip in clips:
    moved = clip.control_points(clip.apex) - clip.control_points(clip.onset)
    assert np.isfinite(moved).all()
    field = clip.subject.field(clip._displacement(clip.apex))
    assert warping.jacobian(field).min() > 0
  for person in persons:
    assert warping.jacobian(person.field(person.blink(1.0))).min() > 0
    squeezed = person.blink(1.0) + person.iod * action_units.displacement({"AU7": (0.06, 0.06)})
    assert warping.jacobian(person.field(person.keep_apart(squeezed))).min() > 0


def test_inverse_field(persons):
  moved = persons[0].iod * action_units.displacement({"AU12": (0.06, 0.06), "AU1": (0.05, 0.06)})
  field = persons[0].field(moved)
  back = warping.inverse(field)
  start = warping.grid_points()
  origin = (start - back)[20:-20, 20:-20]
  cell = ((origin + 0.5) / warping.STEP - 0.5).astype(np.float32)
  forward = cv2.remap(field, cell, None, cv2.INTER_LINEAR)
  np.testing.assert_allclose(origin + forward, start[20:-20, 20:-20], atol=0.05)


def test_mirror_is_the_same_point_on_the_other_side():
  mirror, points = base_portrait.MIRROR, base_portrait.POINTS
  np.testing.assert_array_equal(mirror[mirror], np.arange(len(points)))
  middle = points[27:31, 0].mean()
  reflected = np.stack([2 * middle - points[mirror, 0], points[mirror, 1]], 1)
  assert np.abs(reflected - points).max() < 0.35 * base_portrait.IOD  # The portrait turns a little.


@pytest.mark.parametrize(
  ("units", "name", "direction"),
  [
    (("AU12",), "48", (-1, -1)),  # Mouth corners out and up.
    (("AU15",), "48", (0, 1)),
    (("AU1",), "21", (0, -1)),
    (("AU2",), "18", (0, -1)),
    (("AU4",), "21", (1, 1)),  # Brows together and down.
    (("AU26",), "8", (0, 1)),
    (("AU9",), "nose_wing", (0, -1)),
  ],
)
def test_units_move_their_points(units, name, direction):
  moved = action_units.displacement({unit: (0.05, 0.05) for unit in units})
  left = base_portrait.NAMES[name]
  right = base_portrait.MIRROR[left]
  for axis, sign in enumerate(direction):
    if sign:
      assert np.sign(moved[left, axis]) == sign
  np.testing.assert_allclose(moved[right], moved[left] * [-1 if right != left else 1, 1])
  one_sided = action_units.displacement({unit: (0.05, 0.0) for unit in units})
  if right != left:
    assert np.abs(one_sided[left]).max() > 0 and np.abs(one_sided[right]).max() == 0


def test_unknown_unit():
  with pytest.raises(KeyError, match="AU99"):
    action_units.displacement({"AU99": (1.0, 1.0)})


def test_clips_are_micro_expressions_in_order(clips):
  for clip in clips:
    assert 0 < clip.onset < clip.apex < clip.offset < clip.length
    assert (clip.offset - clip.onset) / clip.fps <= 0.5
    expression = clip.movements[0]
    assert expression.activation(clip.onset) == expression.activation(clip.offset) == 0
    assert expression.activation(clip.apex) == 1
    rise = [expression.activation(frame) for frame in range(clip.onset, clip.apex + 1)]
    assert np.all(np.diff(rise) > 0)


def test_expressions_are_as_strong_as_documented(clips):
  strengths = []
  for clip in clips:
    alone = only(clip, units=clip.movements[0].units)
    moved = np.linalg.norm(alone.control_points(10) - alone.control_points(0), axis=1)
    strengths.append(moved.max() / clip.subject.iod)
  low, high = clip_rendering.INTENSITY
  # Units add up, sides differ, the camera zooms: up to twice the nominal strength.
  assert low / 2 < min(strengths) and max(strengths) < 2.2 * high


def test_labels_are_balanced_and_independent():
  labels = {
    (subject, index): clip_rendering.clip_label(0, subject, index)
    for subject in range(60)
    for index in range(12)
  }
  for subject in range(60):
    counts = collections.Counter(labels[subject, index] for index in range(12))
    assert counts == dict.fromkeys(action_units.LABELS, 4)
  for index in range(12):
    counts = collections.Counter(labels[subject, index] for subject in range(60))
    assert all(10 <= counts[label] <= 30 for label in action_units.LABELS)


def test_only_the_expression_depends_on_the_label(monkeypatch, persons):
  """With another label, the camera, the length, blinks and noise are the same."""
  clip = demo_clip(0, persons[0], 0)
  others = [label for label in action_units.LABELS if label != clip.label]
  monkeypatch.setattr(clip_rendering, "clip_label", lambda *_: others[0])
  other = demo_clip(0, persons[0], 0)
  assert other.label == others[0]
  np.testing.assert_array_equal(other.frame(0), clip.frame(0))
  assert (other.onset, other.apex, other.offset) == (clip.onset, clip.apex, clip.offset)
  assert other.length == clip.length
  assert other.movements[1:] == clip.movements[1:]
  assert digest(other.frame(clip.apex)) != digest(clip.frame(clip.apex))


@pytest.mark.slow
def test_dlib_finds_the_faces(clips):
  for clip in clips[::2]:
    faces = find_faces(clip.frame(clip.onset))
    assert len(faces) == 1, clip.name
    truth = clip.control_points(clip.onset)[:68]
    error = np.linalg.norm(faces[0].landmarks - truth, axis=1)
    assert error.mean() < 0.1 * clip.subject.iod, clip.name


def test_flow_between_frames_is_the_known_motion(persons):
  for person, units in zip(
    persons, [{"AU12": (0.05, 0.05)}, {"AU1": (0.05, 0.05), "AU2": (0.05, 0.05)}] * 2, strict=True
  ):
    clip = only(demo_clip(0, person, 0), units=units)
    found = optical_flow.optical_flow(clip.frame(0), clip.frame(10))
    start = clip.control_points(0)
    truth = clip.control_points(10) - start
    strong = np.linalg.norm(truth, axis=1) > 1.0
    assert strong.sum() >= 4
    x, y = np.rint(start[strong]).astype(int).T
    error = np.linalg.norm(found[y, x] - truth[strong], axis=1)
    assert np.median(error) < 0.35 * np.median(np.linalg.norm(truth[strong], axis=1))


def test_furrows_darken_skin_only_while_the_unit_is_active(persons):
  clip = only(demo_clip(0, persons[0], 0), units={"AU4": (0.06, 0.06)})
  assert clip._furrowed(0) is persons[0].identity.texture
  change = persons[0].identity.texture - clip._furrowed(10)
  assert change.max() > 5  # Of 255.
  assert (np.abs(change).max(-1) > 1).mean() < 0.02


def test_videos_have_events(persons):
  video = demo_video(0, persons[2], 0, seconds=12.0)
  assert video.length == 1200 and len(video.events) >= 3
  assert video.name != demo_clip(0, persons[2], 0).name
  for event in video.events:
    assert 0 < event.onset < event.apex < event.offset < video.length
    assert event.label in action_units.LABELS
  for before, after in zip(video.events, video.events[1:], strict=False):
    assert after.onset - before.offset >= video.fps  # A resting second between them.
  np.testing.assert_array_equal(
    video.frame(700), demo_video(0, persons[2], 0, seconds=12.0).frame(700)
  )
  assert demo_video(0, persons[2], 0, seconds=0.2).events == ()


def test_errors(persons):
  with pytest.raises(ValueError, match="subject=-1"):
    DemoSubject(0, -1)
  clip = demo_clip(0, persons[0], 0)
  for frame in (-1, clip.length):
    with pytest.raises(IndexError, match=f"got {frame}"):
      clip.frame(frame)


def test_portrait_missing(monkeypatch):
  monkeypatch.setattr(base_portrait.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(FileNotFoundError, match="pip install scikit-image"):
    base_portrait.portrait_file()
