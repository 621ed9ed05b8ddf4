"""Check of ready flow images: which encodings are noticed."""

import numpy as np

from jax_me.data.clip_inputs.flow_rest import describe_rest
from jax_me.data.clip_inputs.optical_flow import flow_image


def motion(head: float = 0.0) -> np.ndarray:
  """Flow of a face whose mouth moves, float32 [28, 28, 2]; the head moves by `head` pixels."""
  flow = np.full((28, 28, 2), head, np.float32)
  flow[18:24, 8:20] += 0.6
  return flow


def test_flow_of_one_scale_rests_at_zero_even_if_the_head_moves():
  images = np.stack([flow_image(motion(), 0.7), flow_image(motion(head=0.2), 0.7)])
  assert describe_rest(images, ["a.png", "b.png"]) == ""


def test_images_scaled_each_by_itself_and_photographs_are_named():
  flow = motion()
  own_scale = np.concatenate([flow, np.zeros((28, 28, 1))], -1)
  own_scale = (255 * own_scale / flow.max()).astype(np.uint8)
  text = describe_rest(np.stack([flow_image(flow, 0.7), own_scale]), ["a.png", "b.png"])
  assert text.startswith("1 of 2 flow images") and "b.png: u 0, v 0, strain 0" in text
  photograph = np.random.default_rng(0).normal(120, 30, (1, 28, 28, 3)).clip(0, 255)
  assert "c.png" in describe_rest(photograph.astype(np.uint8), ["c.png"])
