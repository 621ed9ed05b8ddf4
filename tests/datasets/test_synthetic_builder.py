"""demo_clips: what is stored, and that it depends only on the options."""

import pathlib

import numpy as np
import pytest

from jax_me.data.index import read_index
from jax_me.datasets.catalog import prepare
from jax_me.datasets.synthetic import action_units, clip_rendering, render_examples


def build(folder, **options):
  options = {"subjects": 2, "clips": 3, "workers": 0, **options}
  return prepare("demo_clips", data_dir=str(folder), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def flows(folder):
  return build(folder)


def test_flow_examples(flows):
  index = read_index(flows)
  assert index.label_names == ("negative", "positive", "surprise") == action_units.LABELS
  assert index.class_counts() == dict.fromkeys(action_units.LABELS, 2)
  assert sorted(set(index.subject)) == ["p000", "p001"]
  assert len(set(index.clip)) == len(index) == 6
  np.testing.assert_array_equal(index.frame, index.apex)
  assert np.all((0 < index.onset) & (index.onset < index.apex) & (index.apex < index.offset))
  for row in flows.as_data_source("train"):
    image = row["image"]
    assert image.shape == (128, 128, 3) and image.dtype == np.uint8
    motion = image[..., :2].astype(float) - 127.5
    assert (
      1 < np.abs(motion).max() and np.mean(np.abs(motion) > 127) < 0.05
    )  # Visible, not saturated.


def test_valence_and_arousal_follow_the_action_units(flows):
  index = read_index(flows)
  label = np.array(index.label_names)[index.label]
  valence, arousal = index.affect.T
  assert (valence[label == "positive"] > 0.1).all() and (valence[label == "negative"] < 0).all()
  assert (arousal[label == "surprise"] > 0.1).all() and np.abs(index.affect).max() < 1
  clip = clip_rendering.demo_clip(0, 0, 0)
  assert render_examples.affect_of_clip(clip, clip.onset) == (0, 0)
  units = {"AU12": (0.01, 0.03)}
  assert action_units.affect_of_units(units, 1 / 0.02) == (
    pytest.approx(np.tanh(0.8), abs=1e-6),
    pytest.approx(np.tanh(0.1), abs=1e-6),
  )


def test_face_of_a_flow_example(flows, folder):
  index = read_index(flows)
  apexes = build(folder, input="apex")
  stored = list(apexes.as_data_source("train"))
  assert [row["file"].decode() for row in stored] == list(index.file)
  for row in (0, 5):
    np.testing.assert_array_equal(flows.face(index.file[row]), stored[row]["image"])
  for wrong in ("p000/p000_00/999.png", "face.png", "p000/p000/001.png", "a/b_c/1.png"):
    with pytest.raises(ValueError, match=wrong):
      flows.face(wrong)


def test_frames_run_from_onset_to_offset(folder):
  builder = build(folder, subjects=1, clips=2, input="frames", frames=5, size=96)
  index = read_index(builder)
  assert len(index) == 10
  for clip in sorted(set(index.clip)):
    rows = index.clip == clip
    assert len(set(index.label[rows])) == 1
    frames, onset, offset = index.frame[rows], index.onset[rows][0], index.offset[rows][0]
    assert frames[0] == onset and frames[-1] == offset and np.all(np.diff(frames) > 0)
  assert builder.as_data_source("train")[9]["image"].shape == (96, 96, 3)


def test_key_frames_are_onset_apex_and_offset(folder):
  builder = build(folder, subjects=1, clips=1, input="key_frames", size=48)
  index = read_index(builder)
  assert list(index.frame) == [index.onset[0], index.apex[0], index.offset[0]]
  assert len({row["image"].tobytes() for row in builder.as_data_source("train")}) == 3


@pytest.mark.parametrize(("input", "changing"), [("pair", np.s_[..., 2]), ("dynamic", np.s_[:])])
def test_motion_inputs(folder, input, changing):
  builder = build(folder, subjects=1, clips=2, input=input, size=96)
  index = read_index(builder)
  np.testing.assert_array_equal(index.frame, index.apex)
  for row in builder.as_data_source("train"):
    change = row["image"][changing].astype(float) - 127.5
    assert 10 < np.quantile(np.abs(change), 0.99) and np.mean(np.abs(change) > 127) < 0.01
    assert np.median(np.abs(change)) < 10  # Noise stays small.


@pytest.mark.slow
def test_result_does_not_depend_on_workers(folder, tmp_path):
  options = {"subjects": 4, "clips": 1, "input": "apex", "size": 64}
  sequential = build(folder, **options)
  parallel = build(tmp_path, **options, workers=2)
  for one, other in zip(
    sequential.as_data_source("train"), parallel.as_data_source("train"), strict=True
  ):
    assert one["file"] == other["file"]
    np.testing.assert_array_equal(one["image"], other["image"])


def test_every_clip_is_in_the_report(flows):
  report = pathlib.Path(flows.data_path, "report.jsonl").read_text(encoding="utf-8")
  assert report.count('"status": "ok"') == 6


def test_clip_without_a_face_is_left_out_and_reported(folder, monkeypatch):
  def without_face(clip, numbers, size, detector):
    lost = clip.name == "p000_01"
    found, status = aligned_frames(clip, numbers, size, detector)
    return ([None] * len(numbers), "no_face") if lost else (found, status)

  aligned_frames = render_examples.aligned_frames
  monkeypatch.setattr(render_examples, "aligned_frames", without_face)
  builder = build(folder, subjects=1, size=48)
  assert list(read_index(builder).clip) == ["p000_00", "p000_02"]
  report = pathlib.Path(builder.data_path, "report.jsonl").read_text(encoding="utf-8")
  assert report.count('"no_face"') == 1


@pytest.mark.parametrize(
  ("options", "complaint"),
  [
    ({"input": "video"}, "'video'"),
    ({"subjects": 0}, "subjects must be in"),
    ({"clips": 0}, "clips must be in"),
    ({"frames": 40}, "frames must be in"),
    ({"frames": 0, "input": "frames"}, "frames must be in"),
    ({"size": 16}, "size must be in"),
    ({"seed": -1}, "seed must be in"),
    ({"subject": 3}, "subjects"),
  ],
)
def test_invalid_options(folder, options, complaint):
  with pytest.raises(ValueError, match=complaint):
    prepare("demo_clips", data_dir=str(folder), **options)


def test_unused_options_do_not_change_the_build(flows, folder):
  assert build(folder, frames=5).data_path == flows.data_path
