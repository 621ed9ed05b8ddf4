"""The images of the README and the documentation: aligned faces, a timeline, a report.

  python run.py --config configs/quickstart.py
  python benchmarks/documentation_images.py --run runs/quickstart

The faces are synthetic, but made from the portrait of a person: they are shown as landmarks and
coarse mosaics. The report is photographed with Chromium, the timeline drawn by `predict`
on a video of a person who is not in the training data.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

import cv2
import numpy as np
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
CROP = 224
# Landmarks of a line: first, end, and whether it is closed (jaw, brows, nose, eyes, lips).
LINES = (
  (0, 17, False), (17, 22, False), (22, 27, False), (27, 31, False), (31, 36, False),
  (36, 42, True), (42, 48, True), (48, 60, True), (60, 68, True),
)  # fmt: skip
# Rows of the timeline with images of the face, as parts of its height, and the side of a mosaic.
FACE_ROWS, MOSAIC = (0.15, 0.31), 8
STEP = 3
SECONDS = 12.0
REPORT_SIZE = (1000, 1085)


def draw_aligned_faces(path: pathlib.Path) -> None:
  """Landmarks of turned faces of different sizes, and below them those of the aligned crops."""
  figure = Figure(figsize=(8, 3.4), dpi=110, facecolor="white")
  for number, (degrees, scale) in enumerate(POSES):
    clip = clip_rendering.demo_clip(SEED, number, 0)
    face = clip.frame(clip.apex)
    side = face.shape[0]
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, scale)
    photograph = cv2.warpAffine(face, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    record = align_image(photograph, CROP).record
    found = np.array(record["landmarks"], float)
    transform = np.array(record["transform"])
    crop = found @ transform[:, :2].T + transform[:, 2]
    corners = (
      np.array([(0, 0), (CROP, 0), (CROP, CROP), (0, CROP), (0, 0)], float) - transform[:, 2]
    )
    square = corners @ np.linalg.inv(transform[:, :2]).T
    for row, (title, points, size) in enumerate(
      (("photograph", found, side), ("aligned", crop, CROP))
    ):
      axes = figure.add_subplot(2, len(POSES), row * len(POSES) + number + 1)
      for first, last, closed in LINES:
        line = points[[*range(first, last), *[first] * closed]]
        axes.plot(*line.T, color="#00406b", linewidth=1.2)
      if row == 0:
        axes.plot(*square.T, color="#d55e00", linewidth=1.0)
      axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal", xticks=[], yticks=[])
      axes.set_facecolor("#f2f4f7")
      for spine in axes.spines.values():
        spine.set_visible(False)
      if number == 0:
        axes.set_ylabel(title, fontsize=11)
  figure.tight_layout(pad=0.4)
  figure.savefig(path)
  Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


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
  rows = slice(*(round(part * len(image)) for part in FACE_ROWS))
  height, width = image[rows].shape[:2]
  coarse = cv2.resize(
    image[rows], (width // MOSAIC, height // MOSAIC), interpolation=cv2.INTER_AREA
  )
  image[rows] = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
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
