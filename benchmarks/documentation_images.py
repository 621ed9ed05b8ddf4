"""The images of the README and the documentation: aligned faces, a timeline, a report.

  python run.py --config configs/quickstart.py
  python benchmarks/documentation_images.py --run runs/quickstart

All faces are synthetic. The report is photographed with Chromium, the timeline drawn by `predict`
on a video of a person who is not in the training data.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cv2
from matplotlib.figure import Figure
from PIL import Image

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.datasets.synthetic import clip_rendering  # noqa: E402
from jax_me.faces.alignment import align_image  # noqa: E402

DOCS = REPOSITORY / "docs"
SEED = 202  # That of `benchmarks/spotting.py` and `benchmarks/reading.py`.
# Rotation in degrees and scale of the photographs.
POSES = ((-24, 0.8), (12, 1.0), (31, 0.7), (-8, 0.9), (18, 0.6))
STEP = 3
SECONDS = 12.0
REPORT_SIZE = (1000, 1085)


def draw_aligned_faces(path: pathlib.Path) -> None:
  """Photographs with turned faces of different sizes, and below them the aligned crops."""
  figure = Figure(figsize=(8, 3.4), dpi=110, facecolor="white")
  for number, (degrees, scale) in enumerate(POSES):
    clip = clip_rendering.demo_clip(SEED, number, 0)
    face = clip.frame(clip.apex)
    side = face.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, scale)
    photograph = cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    rows = (("photograph", photograph), ("aligned", align_image(photograph, 224).image))
    for row, (title, image) in enumerate(rows):
      axes = figure.add_subplot(2, len(POSES), row * len(POSES) + number + 1)
      axes.imshow(image)
      axes.set_xticks([])
      axes.set_yticks([])
      for spine in axes.spines.values():
        spine.set_visible(False)
      if number == 0:
        axes.set_ylabel(title, fontsize=11)
  figure.tight_layout(pad=0.4)
  figure.savefig(path)
  Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


def draw_timeline(run: pathlib.Path, path: pathlib.Path) -> None:
  """The timeline that `predict` draws of a video with known expressions."""
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    video = clip_rendering.demo_video(SEED, 3, 0, SECONDS)
    side = video.frame(0).shape[0]
    code = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(folder / "video.avi"), code, video.fps / STEP, (side, side))
    for number in range(0, video.length, STEP):
      writer.write(cv2.cvtColor(video.frame(number), cv2.COLOR_RGB2BGR))
    writer.release()
    command = [sys.executable, "-m", "jax_me", "predict", folder / "video.avi"]
    command += ["--checkpoint", run.absolute(), "--output", folder / "out"]
    subprocess.run([*map(str, command)], check=True, cwd=REPOSITORY)
    image = cv2.imread(str(folder / "out" / "timeline.png"))
  if image.shape[1] > 1200:
    size = (1200, round(image.shape[0] * 1200 / image.shape[1]))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
  cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def photograph_report(run: pathlib.Path, path: pathlib.Path) -> None:
  """The top of the report, in light colours."""
  chromium = shutil.which("chromium") or shutil.which("google-chrome")
  if chromium is None:
    raise SystemExit("no Chromium: the report is not photographed")
  width, height = REPORT_SIZE
  page = (run / "report.html").absolute().as_uri()
  options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
  subprocess.run([chromium, *options, f"--screenshot={path.absolute()}", page], check=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--run", type=pathlib.Path, required=True, help="run of the quickstart")
  args = parser.parse_args()
  draw_aligned_faces(DOCS / "images" / "aligned_faces.png")
  draw_timeline(args.run, DOCS / "images" / "timeline.png")
  photograph_report(args.run, DOCS / "quickstart.png")


if __name__ == "__main__":
  main()
