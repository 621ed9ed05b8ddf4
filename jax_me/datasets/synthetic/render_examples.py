"""Task of one subject of the demo clips: render, align, compute the input, encode.

Runs in worker processes, so it imports nothing of TFDS.
"""

import dataclasses

import numpy as np

from jax_me.data.clip_inputs.inputs import frames_needed, make_clip_images
from jax_me.datasets.generation.example import Example, ReportRow, TaskResult
from jax_me.datasets.synthetic import clip_rendering
from jax_me.faces.alignment import align_clip
from jax_me.faces.image_files import encode_image


@dataclasses.dataclass(frozen=True)
class RenderTask:
  """All clips of one subject; the fields are those of `builder.DemoOptions`."""

  seed: int
  subject: int
  clips: int
  input: str
  frames: int
  size: int


def run_render_task(task: RenderTask) -> TaskResult:
  """Renders and aligns the frames that the input needs, for every clip of the subject."""
  person = clip_rendering.DemoSubject(task.seed, task.subject)
  examples, rows = [], []
  for index in range(task.clips):
    clip = clip_rendering.demo_clip(task.seed, person, index)
    key_frames = {"onset": clip.onset, "apex": clip.apex, "offset": clip.offset}
    numbers = frames_needed(
      task.input, **key_frames, available=range(clip.length), count=task.frames
    )
    faces, status = aligned_frames(clip, numbers, task.size)
    found = {number: face for number, face in zip(numbers, faces, strict=True) if face is not None}
    if len(found) < len(numbers):
      rows.append(ReportRow(f"{person.name}/{clip.name}", status))
      continue
    for number, image in make_clip_images(task.input, found, **key_frames, count=task.frames):
      file = f"{person.name}/{clip.name}/{number:03d}.png"
      rows.append(ReportRow(file, status))
      examples.append(
        Example(
          image=encode_image(image, "png"),
          label=clip.label,
          file=file,
          subject=person.name,
          clip=clip.name,
          frame=number,
          onset=clip.onset,
          apex=clip.apex,
          offset=clip.offset,
        )
      )
  return TaskResult(tuple(examples), tuple(rows))


def aligned_frames(
  clip: clip_rendering.DemoClip, numbers: list[int], size: int
) -> tuple[list[np.ndarray | None], str]:
  """Renders frames of a clip and aligns them with the transform of the first one.

  Args:
    clip: the clip.
    numbers: the frames.
    size: side of the aligned faces in pixels.

  Returns:
    uint8 [size, size, 3] per frame, None where no face was found; and the alignment's status.
  """
  aligned = align_clip((clip.frame(number) for number in numbers), size)
  return [face.image for face in aligned], aligned[0].record["status"]
