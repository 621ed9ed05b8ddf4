"""Example inputs of the demo page: synthetic faces.

They are those of the dataset `demo_clips` (`jax_me.datasets.synthetic`), rendered once into the
cache folder.
"""

import dataclasses
import os
import pathlib

import jax_me
from jax_me.cache_folder import cache_folder
from jax_me.faces.image_files import encode_image
from jax_me.files import staging_folder, write_atomically
from jax_me.inference.video.annotated_video import annotated_suffix, write_plain_video

SEED = 0
SUBJECTS = (1, 4, 6)
FILM_SECONDS = 3.0
EVERY = 4  # Frames of the film: 25 of 100 per second.


@dataclasses.dataclass(frozen=True)
class ExampleInputs:
  """Files that the page offers.

  Attributes:
    photographs: images of faces.
    clips: videos.
  """

  photographs: list[pathlib.Path]
  clips: list[pathlib.Path]


def example_inputs() -> ExampleInputs:
  """The example inputs, rendered if they are not in the cache folder.

  Raises:
    ModuleNotFoundError: a package of the extra `demo` is missing.
    FileNotFoundError: scikit-image lacks its portrait, from which the faces are drawn.
  """
  suffix = annotated_suffix()
  folder = cache_folder() / "demo" / f"examples_{jax_me.__version__}_{suffix[1:]}"
  if not folder.is_dir():
    with staging_folder(folder) as staging:
      _render(staging, suffix)
      os.replace(staging, folder)
  files = sorted(folder.iterdir())
  return ExampleInputs(
    photographs=[file for file in files if file.suffix == ".png"],
    clips=[file for file in files if file.suffix == suffix],
  )


def _render(folder: pathlib.Path, suffix: str) -> None:
  # Imported here: threadpoolctl is not part of the base install.
  from jax_me.datasets.synthetic.clip_rendering import FPS, DemoSubject, demo_clip, demo_video

  for number in SUBJECTS:
    clip = demo_clip(SEED, DemoSubject(SEED, number), 0)
    write_atomically(
      folder / f"synthetic_face_{number}.png", encode_image(clip.frame(clip.apex)), scratch=folder
    )
  film = demo_video(SEED, DemoSubject(SEED, SUBJECTS[0]), 0, FILM_SECONDS)
  frames = (film.frame(index) for index in range(0, film.length, EVERY))
  write_plain_video(folder / f"synthetic_clip{suffix}", frames, FPS / EVERY)
