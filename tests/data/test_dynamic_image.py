"""Dynamic images by rank pooling."""

import numpy as np
import pytest

from jax_me.data.clip_inputs.dynamic_image import dynamic_image, rank_pooling_weights


@pytest.mark.parametrize("count", [2, 3, 7, 40])
def test_weights_are_the_sum_over_pairs_of_running_means(count):
  frames = np.random.default_rng(count).standard_normal((count, 5))
  means = [frames[: t + 1].mean(0) for t in range(count)]
  pairs = sum(means[q] - means[t] for q in range(count) for t in range(q))
  weights = rank_pooling_weights(count)
  pooled = weights @ frames
  np.testing.assert_allclose(pooled / np.linalg.norm(pooled), pairs / np.linalg.norm(pairs))
  np.testing.assert_allclose(weights[weights > 0].sum(), 1)
  np.testing.assert_allclose(weights.sum(), 0, atol=1e-12)


def test_weights_of_short_clips():
  np.testing.assert_array_equal(rank_pooling_weights(1), [0])
  np.testing.assert_allclose(rank_pooling_weights(2), [-1, 1])
  # 2 (T - t + 1) - (T + 1) (H_T - H_{t-1}) for T = 3: -4/3, 2/3, 2/3.
  np.testing.assert_allclose(rank_pooling_weights(3), [-1, 0.5, 0.5])
  with pytest.raises(ValueError, match="at least one frame"):
    rank_pooling_weights(0)


def clip_of(levels):
  return [np.full((4, 6, 3), level, np.uint8) for level in levels]


@pytest.mark.parametrize("count", [1, 2, 9, 33])
def test_a_still_clip_is_neutral(count):
  rng = np.random.default_rng(0)
  frame = rng.integers(0, 256, (8, 8, 3), np.uint8)
  np.testing.assert_array_equal(dynamic_image([frame] * count, count, 6.0), 128)


def test_strength_does_not_depend_on_the_length():
  for count in (4, 20, 90):
    step = clip_of([100] * (count // 4) + [110] * (count - count // 4))
    assert abs(int(dynamic_image(step, count, 6.0)[0, 0, 0]) - (127.5 + 3 * 10)) <= 3
  full = clip_of([0, 255, 255])
  np.testing.assert_array_equal(dynamic_image(full, 3, 1.0), 255)
  np.testing.assert_array_equal(dynamic_image(full[::-1], 3, 1.0)[0, 0, 0], 64)  # 255 (0.5 - 1).


def test_brightening_is_above_the_middle_and_darkening_below():
  rise_and_fall = clip_of([100, 104, 110, 104, 100])
  assert dynamic_image(rise_and_fall, 5, 6.0).min() > 135
  darker = clip_of([100, 96, 90, 96, 100])
  assert dynamic_image(darker, 5, 6.0).max() < 120


def test_mirrored_frames_give_the_mirrored_image():
  frames = list(np.random.default_rng(1).integers(90, 120, (7, 8, 8, 3)).astype(np.uint8))
  mirrored = dynamic_image([frame[:, ::-1] for frame in frames], 7, 6.0)
  np.testing.assert_array_equal(mirrored, dynamic_image(frames, 7, 6.0)[:, ::-1])


@pytest.mark.parametrize(
  ("frames", "count", "gain", "message"),
  [
    (clip_of([1, 2]), 2, 0.0, "gain above 0"),
    (clip_of([1, 2]), 3, 1.0, "expected 3 frames and got 2"),
    (clip_of([1, 2]), 1, 1.0, "expected 1 frames and got 2"),
    ([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], 2, 1.0, r"\[4, 5, 3\]"),
    ([np.zeros((4, 4, 3), np.float32)], 1, 1.0, "float32"),
  ],
)
def test_invalid_clips(frames, count, gain, message):
  with pytest.raises(ValueError, match=message):
    dynamic_image(frames, count, gain)
