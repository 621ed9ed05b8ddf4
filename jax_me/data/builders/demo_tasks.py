"""The work on one subject of the demo clips: render, align, take the flow, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
from typing import Any

import numpy as np

from jax_me.data import demo_faces, flow
from jax_me.data.builders.example import Example, Outcome, Row
from jax_me.faces.alignment import align_clip
from jax_me.faces.images import encode_image

INPUTS = ("flow", "apex", "frames")
# Motion that saturates a flow image, as a share of the aligned face's side: a fifth more than the
# leading point of the strongest expressions, for the head moves too.
FLOW_SCALE = 1 / 40


@dataclasses.dataclass(frozen=True)
class Task:
  """All clips of one subject; the fields are those of `demo_clips.DemoOptions`."""

  seed: int
  subject: int
  clips: int
  input: str
  frames: int
  size: int


def run_task(task: Task) -> Outcome:
  """Renders and aligns what the input form asks of each clip."""
  person = demo_faces.DemoSubject(task.seed, task.subject)
  examples, rows = [], []
  for index in range(task.clips):
    clip = demo_faces.demo_clip(task.seed, person, index)
    fields: dict[str, Any] = {
      "label": clip.label,
      "subject": person.name,
      "clip": clip.name,
      "onset": clip.onset,
      "apex": clip.apex,
      "offset": clip.offset,
    }
    numbers = [clip.apex] if task.input != "frames" else frame_numbers(clip, task.frames)
    faces, status = aligned_frames(clip, [clip.onset, *numbers], task.size)
    for number, face in zip(numbers, faces[1:], strict=True):
      file = f"{person.name}/{clip.name}/{number:03d}.png"
      rows.append(Row(file, status))
      if face is not None and faces[0] is not None:
        if task.input == "flow":
          motion = flow.optical_flow(faces[0], face)
          face = flow.flow_image(motion, FLOW_SCALE * task.size)
        image = encode_image(face, "png")
        examples.append(Example(image=image, file=file, frame=number, **fields))
  return Outcome(tuple(examples), tuple(rows))


def frame_numbers(clip: demo_faces.DemoClip, count: int) -> list[int]:
  """`count` different frame numbers, as evenly spaced from onset to offset as they can be."""
  return [int(number) for number in np.rint(np.linspace(clip.onset, clip.offset, count))]


def aligned_frames(
  clip: demo_faces.DemoClip, numbers: list[int], size: int
) -> tuple[list[np.ndarray | None], str]:
  """Some frames of a clip, all cut with the transform of the first one; and the alignment's status.

  Returns:
    uint8 [size, size, 3] a frame, None where no face was found.
  """
  aligned = align_clip([clip.frame(number) for number in numbers], size)
  return [one.image for one in aligned], aligned[0].record["status"]
