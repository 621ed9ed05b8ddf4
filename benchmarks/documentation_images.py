"""The images of the README and the documentation: aligned faces, a timeline, a report, the demo.

  python run.py --config configs/quickstart.py
  python benchmarks/documentation_images.py --run runs/quickstart
  python benchmarks/documentation_images.py --demo

The faces are synthetic, but made from the portrait of a person: they are shown as landmarks and
coarse mosaics. The report and the demo page are photographed with Chromium, the latter with
Playwright after an example was clicked (pip install gradio playwright). The timeline is drawn by
`predict` on a video of a person who is not in the training data.
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

import jax_me  # noqa: E402
from jax_me.datasets.synthetic import clip_rendering  # noqa: E402
from jax_me.demo.example_inputs import example_inputs  # noqa: E402
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
DEMO_PORT, DEMO_SIZE, DEMO_SECONDS = 7868, (1280, 1010), 300
# Replaces an image of the page, or its square [left, top, right, bottom], by 10 x 10 cells.
MOSAIC_SCRIPT = """async (image, square) => {
  await image.decode();
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const [x0, y0, x1, y1] = square ?? [0, 0, canvas.width, canvas.height];
  const area = [x0, y0, x1 - x0, y1 - y0];
  const cells = document.createElement('canvas');
  cells.width = cells.height = 10;
  cells.getContext('2d').imageSmoothingQuality = 'high';
  cells.getContext('2d').drawImage(image, ...area, 0, 0, 10, 10);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(cells, 0, 0, 10, 10, ...area);
  image.src = canvas.toDataURL();
  await image.decode();
}"""


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
  width, height = REPORT_SIZE
  page = (run / "report.html").absolute().as_uri()
  options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={width},{height}"]
  subprocess.run([find_chromium(), *options, f"--screenshot={path.absolute()}", page], check=True)


def photograph_demo(path: pathlib.Path) -> None:
  """The demo page at desktop width with an analysed example face, in light colours."""
  from playwright.sync_api import sync_playwright

  (example, *_) = example_inputs().photographs
  (face,) = jax_me.load().predict(example)
  left, top, right, bottom = face.box
  inside = [left + 4, top + 4, right - 4, bottom - 4]  # The box and its label stay.
  command = [sys.executable, "-m", "jax_me", "demo", "--port", str(DEMO_PORT)]
  with (
    subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server,
    sync_playwright() as playwright,
  ):
    try:
      address = server.stdout.readline().split()[0]
      browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
      width, height = DEMO_SIZE
      page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
      page.set_default_timeout(1000 * DEMO_SECONDS)
      page.goto(address)
      page.locator(".gallery-item:visible").first.click()
      page.locator("#photograph-upload img").wait_for()
      page.locator("#photograph-run").click()
      page.locator("#photograph-result table").wait_for()
      page.mouse.move(0, 0)
      for image in page.locator("img:visible").all():
        annotated = image.evaluate("image => !!image.closest('#photograph-annotated')")
        image.evaluate(MOSAIC_SCRIPT, inside if annotated else None)
      found = page.locator("#photograph-result").bounding_box()
      size = {"width": width, "height": found["y"] + found["height"] + 16}
      page.screenshot(path=path, full_page=True, clip={"x": 0, "y": 0, **size})
      browser.close()
    finally:
      server.terminate()
  Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


def find_chromium() -> str:
  path = shutil.which("chromium") or shutil.which("google-chrome")
  if path is None:
    raise SystemExit("no Chromium on this computer: pages cannot be photographed")
  return path


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--run", type=pathlib.Path, help="run of the quickstart: all but the demo")
  parser.add_argument("--demo", action="store_true", help="the demo page")
  args = parser.parse_args()
  if args.run:
    draw_aligned_faces(DOCS / "images" / "aligned_faces.png")
    draw_timeline(args.run, DOCS / "images" / "timeline.png")
    photograph_report(args.run, DOCS / "quickstart.png")
  if args.demo:
    photograph_demo(DOCS / "images" / "demo.png")


if __name__ == "__main__":
  main()
