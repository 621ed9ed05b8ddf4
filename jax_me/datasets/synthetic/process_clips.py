"""The work on one subject of the demo clips: render, align, make the input, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses
from typing import Any

import numpy as np

from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.datasets.generation.example import Example, Outcome, Row
from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.alignment import align_clip
from jax_me.faces.image_files import encode_image


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
  person = clip_rendering.DemoSubject(task.seed, task.subject)
  examples, rows = [], []
  for index in range(task.clips):
    clip = clip_rendering.demo_clip(task.seed, person, index)
    moments = {"onset": clip.onset, "apex": clip.apex, "offset": clip.offset}
    fields: dict[str, Any] = {
      "label": clip.label,
      "subject": person.name,
      "clip": clip.name,
      **moments,
    }
    numbers = frames_needed(task.input, **moments, available=range(clip.length), count=task.frames)
    faces, status = aligned_frames(clip, numbers, task.size)
    given = {number: face for number, face in zip(numbers, faces, strict=True) if face is not None}
    if len(given) < len(numbers):
      rows.append(Row(f"{person.name}/{clip.name}", status))
      continue
    for number, picture in make_clip_images(task.input, given, **moments, count=task.frames):
      file = f"{person.name}/{clip.name}/{number:03d}.png"
      rows.append(Row(file, status))
      image = encode_image(picture, "png")
      examples.append(Example(image=image, file=file, frame=number, **fields))
  return Outcome(tuple(examples), tuple(rows))


def aligned_frames(
  clip: clip_rendering.DemoClip, numbers: list[int], size: int
) -> tuple[list[np.ndarray | None], str]:
  """Some frames of a clip, all cut with the transform of the first one; and the alignment's status.

  Returns:
    uint8 [size, size, 3] a frame, None where no face was found.
  """
  aligned = align_clip((clip.frame(number) for number in numbers), size)
  return [one.image for one in aligned], aligned[0].record["status"]
