"""Speed, memory and completeness of `predict` on a minute of video at 30 fps.

The video (960 x 540, Motion JPEG) shows a synthetic person on the left and at times a second person
on the right (a photograph of the London faces if the optional local test data are present, else
another synthetic person). Both leave and return, for eight seconds no face is visible, and three
frames are damaged. The video is read by `python -m jax_me predict`, motion and timeline included,
with a model with random weights (the speed does not depend on them).

  python benchmarks/video.py --output benchmarks/results/video.json
  python benchmarks/video.py --video CLIP.mp4      # a clip of your own: speed only

The stages are also measured one after the other in one process, each alone on the machine:
milliseconds a frame of decoding, tracking (detection and landmarks), motion, and the model. In
`predict` the first two run in a thread beside the others.

Run it on an idle machine. The documented figures are for two cores.
"""

import argparse
import collections
import contextlib
import csv
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import cv2
import numpy as np
import psutil
from flax import nnx

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from jax_me.datasets.synthetic import clip_rendering  # noqa: E402
from jax_me.faces.detector import DETECTORS  # noqa: E402
from jax_me.faces.head_pose import HeadPose  # noqa: E402
from jax_me.faces.image_files import read_image  # noqa: E402
from jax_me.inference.batched_inference import BatchedInference  # noqa: E402
from jax_me.inference.video.face_region import FaceRegion  # noqa: E402
from jax_me.inference.video.face_tracker import FaceTracker  # noqa: E402
from jax_me.inference.video.facial_motion import CROP_SIZE, FacialMotionEstimator  # noqa: E402
from jax_me.inference.video.sources import find_sources  # noqa: E402
from jax_me.models.model_folder import load_model, save_model  # noqa: E402
from jax_me.models.registry import create_model  # noqa: E402

LONDON = REPOSITORY.parent / "shared" / "data" / "london_faces" / "images"
FPS, SIZE, FACE = 30, (960, 540), 440
# Time spans in seconds in which each person is visible, for a video of 60 s.
LEFT = ((0, 44), (52, 60))
RIGHT = ((5, 16), (24, 40))
BROKEN = (300, 900, 901)
# Seconds until a new person is detected: the full detector runs at intervals.
TOLERANCE = 0.5
DETECTOR = DETECTORS[0]
WARM_UP_FRAMES, STAGE_FRAMES = 10, 300
MODELS = {
  "convnextv2_atto": {"image_size": 224},
  "vit_tiny_patch16": {"image_size": 112, "depth": 6},
}


def is_visible(spans: tuple, seconds: float) -> bool:
  return any(start <= seconds < end for start, end in spans)


def compose(seconds: float):
  """Yields the frames, uint8 [540, 960, 3] RGB."""
  left = clip_rendering.demo_video(7, 0, 0, seconds)
  photographs = sorted(LONDON.glob("*_neutral.jpg")) if LONDON.is_dir() else []
  if photographs:
    face = read_image(photographs[0])
  else:
    face = clip_rendering.demo_video(7, 1, 0, 1.0).frame(0)
  face = cv2.resize(face, (FACE, FACE), interpolation=cv2.INTER_AREA)
  for number in range(round(seconds * FPS)):
    now = number / FPS
    canvas = np.full((SIZE[1], SIZE[0], 3), 110, np.uint8)
    if is_visible(LEFT, now):
      frame = left.frame(int(now * left.fps))
      canvas[50 : 50 + FACE, 20 : 20 + FACE] = cv2.resize(frame, (FACE, FACE))
    if is_visible(RIGHT, now):
      shift = 8 * np.sin(now), 5 * np.sin(1.7 * now)
      matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
      moved = cv2.warpAffine(face, matrix, (FACE, FACE), borderMode=cv2.BORDER_REPLICATE)
      canvas[50 : 50 + FACE, 500 : 500 + FACE] = moved
    yield canvas


def make_video(path: pathlib.Path, seconds: float) -> None:
  """Writes the video and damages some of its frames."""
  code = cv2.VideoWriter.fourcc(*"MJPG")
  writer = cv2.VideoWriter(str(path), code, FPS, SIZE)
  for frame in compose(seconds):
    writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
  writer.release()
  data = bytearray(path.read_bytes())
  at, frames = 0, []
  while (at := data.find(b"00dc", at)) >= 0:  # AVI: the chunks of the video stream
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    if data[at + 8 : at + 10] == b"\xff\xd8":
      frames.append((at + 8, length))
      at += length
    at += 4
  for number in BROKEN:
    if number < len(frames):
      start, length = frames[number]
      data[start : start + length] = bytes(length)
  path.write_bytes(data)


def make_model(folder: pathlib.Path, name: str) -> None:
  arguments = {**MODELS[name], "num_classes": 3}
  if name.startswith("convnext"):
    arguments.pop("image_size")
  save_model(
    folder,
    create_model(name, rngs=nnx.Rngs(0), **arguments),
    name=name,
    arguments=arguments,
    labels=["negative", "positive", "surprise"],
    image_size=MODELS[name]["image_size"],
    mean=[0.5] * 3,
    std=[0.25] * 3,
    source={},
  )


def measure_stages(video: pathlib.Path, model: pathlib.Path) -> dict[str, float]:
  """Milliseconds a frame of each stage, on the first `STAGE_FRAMES` frames."""
  saved = load_model(model)
  source = find_sources([str(video)])[0]
  spent = dict.fromkeys(("decoding", "tracking", "motion", "model"), 0.0)

  @contextlib.contextmanager
  def timed(stage: str):
    started = time.perf_counter()
    yield
    spent[stage] += time.perf_counter() - started

  tracker = FaceTracker(
    max(saved.image_size, CROP_SIZE), interval=1 / source.fps, detectors=DETECTOR
  )
  people: dict[int, FacialMotionEstimator] = collections.defaultdict(FacialMotionEstimator)
  crops, frames, count = [], iter(source.frames()), -WARM_UP_FRAMES
  while count < STAGE_FRAMES:
    with timed("decoding"):
      frame = next(frames, None)
    if frame is None:
      break
    if frame.image is None:
      continue
    with timed("tracking"):
      faces = tracker.update(frame.image, frame.seconds)
    for face in faces:
      region, landmarks = FaceRegion.around(frame.image, face.chip), face.face.landmarks
      chip = dataclasses.replace(face.chip, size=saved.image_size)
      with timed("motion"):
        pose = HeadPose.of_landmarks(landmarks)
        people[face.person].update(region, face.chip, landmarks, frame.seconds, pose)
      crops.append(region.crop(chip))
    count += 1
    if count == 0:  # The landmarks and the detectors are loaded.
      spent = dict.fromkeys(spent, 0.0)
  inference = BatchedInference[int](saved)
  for crop in crops[:8]:
    inference.submit(crop, 0)
  inference.flush()
  with timed("model"):
    for crop in crops[WARM_UP_FRAMES:]:
      inference.submit(crop, 0)
    inference.flush()
  return {stage: round(1000 * seconds / max(count, 1), 2) for stage, seconds in spent.items()}


def predict(video: pathlib.Path, model: pathlib.Path, output: pathlib.Path, frames: int) -> dict:
  """Runs the command and samples its memory and the size of its table."""
  command = [sys.executable, "-m", "jax_me", "predict", str(video)]
  command += ["--checkpoint", str(model), "--output", str(output)]
  command += ["--align", "--detector", DETECTOR]
  shutil.rmtree(output, ignore_errors=True)  # an older table would be taken for this run's
  started = time.monotonic()
  process = subprocess.Popen(
    command,
    env={**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  # The pipe must be drained continuously, or it fills and the child blocks.
  errors: list[str] = []
  reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
  reader.start()
  watched, table, cpu, first = psutil.Process(process.pid), output / "predictions.csv", 0.0, None
  memory = []
  while process.poll() is None:
    try:
      rss = watched.memory_info().rss
      cpu = sum(watched.cpu_times()[:2])
    except psutil.Error:
      break
    rows = table.stat().st_size if table.exists() else 0
    if rows > 500:
      first = first or time.monotonic()
      memory.append((time.monotonic() - first, rss))
    time.sleep(0.25)
  process.wait()
  reader.join()
  total = time.monotonic() - started
  if process.returncode:
    raise SystemExit("".join(errors))
  running = total - (first - started)
  third = [rss for at, rss in memory if at > running / 3]
  quarter = max(1, len(third) // 4)
  return {
    "seconds_total": round(total, 1),
    "seconds_until_first_rows": round(first - started, 1),
    "frames_per_second": round(frames / total, 1),
    "frames_per_second_after_start": round(frames / running, 1),
    "cpu_seconds": round(cpu, 1),
    "rss_mb_after_a_third": round(float(np.median(third[:quarter])) / 2**20, 1),
    "rss_mb_at_the_end": round(float(np.median(third[-quarter:])) / 2**20, 1),
    "rss_mb_highest": round(max(rss for _, rss in memory) / 2**20, 1),
  }


def check(output: pathlib.Path, seconds: float) -> dict:
  """Compares the rows with the known content of the video."""
  frames: dict[int, list[dict]] = collections.defaultdict(list)
  with open(output / "predictions.csv", newline="") as file:
    for row in csv.DictReader(file):
      frames[int(row["frame"])].append(row)
  correct = evaluated = 0
  numbers: dict[str, set[str]] = {"left": set(), "right": set()}
  edges = [edge for span in (*LEFT, *RIGHT) for edge in span]
  for number, rows in frames.items():
    now = number / FPS
    detected = [row for row in rows if row["person"]]
    for row in detected:
      numbers["left" if int(row["left"]) < 480 else "right"].add(row["person"])
    if rows[0]["status"] == "unreadable" or any(0 <= now - edge < TOLERANCE for edge in edges):
      continue
    evaluated += 1
    correct += len(detected) == is_visible(LEFT, now) + is_visible(RIGHT, now)
  statuses = collections.Counter(rows[0]["status"] for rows in frames.values())
  record = json.loads((output / "events.json").read_text())["videos"][0]
  return {
    "frames_in": round(seconds * FPS),
    "frames_in_table": len(frames),
    "numbers_without_gap": sorted(frames) == list(range(round(seconds * FPS))),
    "statuses": dict(statuses),
    "share_of_frames_with_right_number_of_people": round(correct / evaluated, 4),
    "numbers_given": {side: sorted(given) for side, given in numbers.items()},
    "expressions": len(record["events"]),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seconds", type=float, default=60.0)
  parser.add_argument("--video", type=pathlib.Path, help="a clip to read instead")
  parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
  parser.add_argument("--keep", type=pathlib.Path, help="folder for the video and the results")
  parser.add_argument("--output", type=pathlib.Path)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = args.keep or pathlib.Path(scratch)
    folder.mkdir(parents=True, exist_ok=True)
    video = args.video or folder / f"minute_{args.seconds:g}.avi"
    if not video.exists():
      make_video(video, args.seconds)
    length = find_sources([str(video)])[0].length or 0
    second_person = "a London face" if LONDON.is_dir() else "synthetic"
    made = {"fps": FPS, "size": SIZE, "broken": BROKEN, "second_person": second_person}
    report = {
      "video": {"frames": length, **({} if args.video else made)},
      "cores": len(os.sched_getaffinity(0)),
      "load_before": round(os.getloadavg()[0], 1),
      "models": {},
    }
    for name in args.models:
      model, output = pathlib.Path(scratch) / name, folder / f"out_{name}"
      make_model(model, name)
      measured = predict(video, model, output, length)
      measured["milliseconds_a_frame"] = measure_stages(video, model)
      report["models"][name] = measured if args.video else measured | check(output, args.seconds)
      print(json.dumps(report["models"][name], indent=2), flush=True)
  if args.output:
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
  main()
