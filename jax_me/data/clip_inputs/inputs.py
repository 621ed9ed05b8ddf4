"""Model inputs made from a micro-expression clip: frames, or one image of their motion.

All images are made from faces aligned with one transform per clip and scaled by the constants
below, so that a stronger expression gives a stronger signal in every clip of every dataset.

  apex         the apex frame.
  key_frames   the onset, apex and offset frames: three examples per clip.
  pair         one image of three channels: grey onset, grey apex, and 127.5 + PAIR_GAIN / 2
               times their difference (apex - onset), so that no change is 128.
  dynamic      the rank-pooled image of all frames from onset to offset (`dynamic_image`); no
               change is 128. Needs no apex.
  flow         the motion from onset to apex: u, v and optical strain
               (`optical_flow.flow_image`); no motion is 128, 128, 0. DIS, or Farneback where
               OpenCV's build lacks it.
  frames       frames evenly spaced from onset to offset. Needs no apex.

Augmentation: a flipped clip gives the flipped image; only the first channel of `flow`, the motion
to the right, must also be negated (set `Augmentation.flow`). `pair` and `dynamic` flip like
photographs, but need brightness, contrast and saturation jitter disabled, which would shift the
value for "no change".
"""

import bisect
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from jax_me.data.clip_inputs import dynamic_image, optical_flow

INPUTS = ("apex", "key_frames", "pair", "dynamic", "flow", "frames")
MOTION_INPUTS = ("pair", "dynamic", "flow")  # Computed from several frames; no photographs.

# Motion that saturates a flow image, as a share of the aligned face's side: a fifth more than the
# largest motion of the strongest expressions in the demo clips, to allow for head motion.
FLOW_SCALE = 1 / 40
# Contrast of grey-level changes: 255 / 6 = 42 levels saturate. In the demo clips half of the face
# changes by less than 2 levels (noise), one pixel in a hundred by more than 20, and even in strong
# expressions only one in a thousand by more than 42.
PAIR_GAIN = 6.0
DYNAMIC_GAIN = 6.0


def frames_needed(
  input: str, *, onset: int, apex: int, offset: int, available: Sequence[int], count: int
) -> list[int]:
  """Selects the frames of a clip that an input is made from.

  Args:
    input: one of INPUTS.
    onset, offset: frame numbers; -1 (unknown) takes the first or last available frame.
    apex: frame number; -1 (unknown) is allowed for "dynamic" and "frames" only.
    available: numbers of the existing frames.
    count: number of frames for "frames", at least 2, or 0 for all; ignored by other inputs. A
      clip with fewer frames gives all.

  Returns:
    ascending frame numbers. The first is the onset, or the nearest available frame if the input
    does not contain the onset itself; its alignment is used for the whole clip.

  Raises:
    ValueError: unknown input, a required frame is unknown or missing, or numbers out of order.
  """
  check_input(input, count)
  numbers = sorted(set(available))
  if not numbers:
    raise ValueError("the clip has no frames")
  first, last = _expression_range(numbers, onset, apex, offset)
  inside = numbers[bisect.bisect_left(numbers, first) : bisect.bisect_right(numbers, last)]
  if not inside:
    raise ValueError(
      f"no frame from onset {first} to offset {last} is available; {_describe_frames(numbers)}"
    )
  if input == "dynamic" or (input == "frames" and count == 0):
    return inside
  if input == "frames":
    wanted = np.rint(np.linspace(first, last, count))
    return sorted({_nearest(inside, int(number)) for number in wanted})
  required = _required_frames(input, first, apex, last)
  for name, number in required.items():
    if number < 0:
      raise ValueError(f"input {input!r} needs the {name} frame, and it is unknown")
    if number not in inside:
      raise ValueError(f"the {name} frame {number} is not available; {_describe_frames(numbers)}")
  return sorted({_nearest(inside, first), *required.values()})


def make_clip_images(
  input: str,
  frames: Mapping[int, np.ndarray],
  *,
  onset: int,
  apex: int,
  offset: int,
  count: int,
) -> list[tuple[int, np.ndarray]]:
  """Makes the images of one clip.

  Args:
    input: one of INPUTS.
    frames: aligned faces by frame number, uint8 [S, S, 3] RGB, as selected by `frames_needed`.
      "dynamic" and "frames" allow missing ones (unreadable frames).
    onset, apex, offset, count: as for `frames_needed`.

  Returns:
    (frame number, uint8 [S, S, 3]) of each image, ascending. An image of several frames has the
    number of the apex or, if unknown, of the middle frame.

  Raises:
    ValueError: unknown input, or a required frame is not in `frames`.
  """
  check_input(input, count)
  numbers = sorted(frames)
  if not numbers:
    raise ValueError(f"input {input!r} got no frames of the clip")
  first, last = _expression_range(numbers, onset, apex, offset)
  inside = [number for number in numbers if first <= number <= last]
  if input == "frames":
    return [(number, frames[number]) for number in inside]
  if input == "dynamic":
    faces = (frames[number] for number in inside)
    image = dynamic_image.dynamic_image(faces, len(inside), DYNAMIC_GAIN)
    return [(apex if apex >= 0 else inside[len(inside) // 2], image)]
  required = _required_frames(input, first, apex, last).values()
  missing = [number for number in required if number not in frames]
  if missing:
    raise ValueError(f"input {input!r} needs frame {missing[0]} of the clip, and it is not given")
  if input in ("apex", "key_frames"):
    return [(number, frames[number]) for number in sorted(set(required))]
  before, after = frames[first], frames[apex]
  return [(apex, pair_image(before, after) if input == "pair" else motion_image(before, after))]


def pair_image(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
  """Grey onset, grey apex and their amplified difference as the channels of one image.

  Args:
    onset, apex: uint8 [S, S, 3] RGB.

  Returns:
    uint8 [S, S, 3]; grey is ITU-R BT.601 luma. The third channel is above 128 where the apex is
    brighter.
  """
  before, after = (cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in (onset, apex))
  change = 127.5 + PAIR_GAIN / 2 * (after.astype(np.float32) - before)
  return np.stack([before, after, np.clip(np.rint(change), 0, 255).astype(np.uint8)], -1)


def motion_image(onset: np.ndarray, apex: np.ndarray) -> np.ndarray:
  """Optical flow from onset to apex as an image; motion of FLOW_SCALE * S pixels saturates.

  Args:
    onset, apex: uint8 [S, S, 3] RGB.

  Returns:
    uint8 [S, S, 3]: u, v, optical strain.
  """
  return optical_flow.flow_image(
    optical_flow.optical_flow(onset, apex, "auto"), FLOW_SCALE * onset.shape[0]
  )


def check_input(input: str, count: int) -> None:
  """Raises ValueError unless `input` is one of INPUTS and `count` is valid for it."""
  if input not in INPUTS:
    raise ValueError(f"input must be one of {', '.join(INPUTS)}: {input!r}")
  if input == "frames" and (count < 0 or count == 1):
    raise ValueError(f"frames must be 0 (all of them) or at least 2, got {count}")


def _expression_range(
  numbers: Sequence[int], onset: int, apex: int, offset: int
) -> tuple[int, int]:
  """First and last frame number of the expression."""
  first = onset if onset >= 0 else numbers[0]
  last = offset if offset >= 0 else numbers[-1]
  if first > last or (apex >= 0 and not first <= apex <= last):
    raise ValueError(
      f"frames must satisfy onset <= apex <= offset, got onset {first}, apex {apex}, offset {last}"
    )
  return first, last


def _required_frames(input: str, first: int, apex: int, last: int) -> dict[str, int]:
  """The frames that the image of an input is made from, by name, in temporal order."""
  if input == "apex":
    return {"apex": apex}
  if input == "key_frames":
    return {"onset": first, "apex": apex, "offset": last}
  return {"onset": first, "apex": apex}


def _nearest(numbers: Sequence[int], wanted: int) -> int:
  return min(numbers, key=lambda number: (abs(number - wanted), number))


def _describe_frames(numbers: Sequence[int]) -> str:
  return f"the clip has {len(numbers)} frames, {numbers[0]} to {numbers[-1]}"
